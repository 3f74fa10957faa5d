"""Neighbourhoods and orders of channels, from positions alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ROWS_AT_ONCE = 512
"""Distances are computed for so many channels at once: all pairs of 10,000 channels would take 800 MB."""


def find_channel_neighbors(geom: np.ndarray, radius: float) -> np.ndarray:
    """Tell which channels are at most `radius` apart: symmetric bool (n, n), diagonal True."""
    geom = np.asarray(geom, dtype=np.float64)
    near = np.empty((len(geom), len(geom)), dtype=bool)
    for start in range(0, len(geom), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        near[rows] = np.sqrt(((geom[rows, None] - geom[None]) ** 2).sum(axis=2)) <= radius
    np.fill_diagonal(near, True)
    return near


def n_steps_neigh_channels(neighbors: np.ndarray, steps: int) -> np.ndarray:
    """Tell which channels are reached in at most `steps` steps between neighbours (0 steps: identity)."""
    reached = np.eye(len(neighbors), dtype=bool)
    step = np.asarray(neighbors, dtype=np.float32)
    for _ in range(steps):
        reached |= (reached.astype(np.float32) @ step) > 0
    return reached


def make_channel_index(neighbors: np.ndarray, geom: np.ndarray, steps: int = 1) -> np.ndarray:
    """List each channel's neighbours by distance.

    Returns
    -------
    (n_channels, max_neighbors) int64 array. A row starts with the channel itself; at equal distance the lower
    channel comes first; short rows are padded with n_channels.
    """
    reached = n_steps_neigh_channels(neighbors, steps)
    n_channels = len(reached)
    index = np.full((n_channels, int(reached.sum(axis=1).max())), n_channels, dtype=np.int64)
    for channel in range(n_channels):
        others = np.flatnonzero(reached[channel])
        ordered, _ = order_channels_by_distance(channel, others[others != channel], geom)
        index[channel, 0] = channel
        index[channel, 1 : len(ordered) + 1] = ordered
    return index


def make_channel_groups(n_channels: int, neighbors: np.ndarray, geom: np.ndarray) -> list[np.ndarray]:
    """Split the channels into groups of neighbours: every channel is in exactly one group.

    The seed of a group is the first channel without a group by (y, x, index); its group is itself and all its
    neighbours without a group, in ascending order.
    """
    geom = np.asarray(geom, dtype=np.float64)
    free = np.ones(n_channels, dtype=bool)
    groups = []
    for seed in np.lexsort((geom[:, 0], geom[:, 1])):
        if not free[seed]:
            continue
        member = np.asarray(neighbors[seed], dtype=bool) & free
        member[seed] = True
        groups.append(np.flatnonzero(member))
        free[member] = False
    return groups


def order_channels_by_distance(
    reference: int, channels: Sequence[int] | np.ndarray, geom: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Order channels by distance to a reference channel; ties keep the order they came in.

    Returns
    -------
    (ordered channels, the argsort that orders them), both int64.
    """
    channels = np.asarray(channels, dtype=np.int64)
    offsets = np.asarray(geom, dtype=np.float64)[channels] - np.asarray(geom, dtype=np.float64)[reference]
    order = np.argsort((offsets**2).sum(axis=1), kind="stable")
    return channels[order], order


def nearest_channels(neighbors: np.ndarray, positions: np.ndarray, limit: int) -> np.ndarray:
    """(n_channels, <= limit) channels of each neighbourhood, nearest first (stable), padded with n_channels."""
    n_channels = len(positions)
    width = min(limit, int(neighbors.sum(axis=1).max()))
    nearest = np.full((n_channels, width), n_channels)
    for start in range(0, n_channels, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        distance = np.linalg.norm(positions[rows, None] - positions[None], axis=-1)
        distance = np.where(neighbors[rows], distance, np.inf)
        order = np.argsort(distance, axis=1, kind="stable")[:, :width]
        nearest[rows] = np.where(np.isfinite(np.take_along_axis(distance, order, axis=1)), order, n_channels)
    return nearest
