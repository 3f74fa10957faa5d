"""Geometry of probes, under YASS's names."""

from yass_dask.geometry import (
    find_channel_neighbors,
    make_channel_groups,
    make_channel_index,
    n_steps_neigh_channels,
    order_channels_by_distance,
    parse,
)

__all__ = [
    "find_channel_neighbors",
    "make_channel_groups",
    "make_channel_index",
    "n_steps_neigh_channels",
    "order_channels_by_distance",
    "parse",
]
