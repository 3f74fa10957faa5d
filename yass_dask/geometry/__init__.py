"""Probe geometry: where the contacts are, which channels are neighbours, and in which order.

Positions are (n_channels, 2) in micrometres; row c belongs to channel c of the recording.
"""

from yass_dask.geometry.channels import (
    find_channel_neighbors,
    make_channel_groups,
    make_channel_index,
    n_steps_neigh_channels,
    nearest_channels,
    order_channels_by_distance,
)
from yass_dask.geometry.files import as_probe, parse, read_probe
from yass_dask.geometry.probe import Probe, linear

__all__ = [
    "Probe",
    "as_probe",
    "find_channel_neighbors",
    "linear",
    "make_channel_groups",
    "make_channel_index",
    "n_steps_neigh_channels",
    "nearest_channels",
    "order_channels_by_distance",
    "parse",
    "read_probe",
]
