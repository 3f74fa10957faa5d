"""Tables of events on disk: peaks, spikes, members of units; read when asked for, by tasks too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

WHOLE_ROWS = 1_000_000
"""Fewer rows than this are read at once to be searched."""


@dataclass(frozen=True)
class Events:
    """Events sorted by `sample_index`; a small handle that travels to tasks in place of the rows."""

    table: Mapping[str, Any]

    def load(self) -> dict[str, np.ndarray]:
        """All fields in memory."""
        return {name: np.asarray(self.table[name][:]) for name in self.table}

    def within(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Fields of the events with start <= sample < stop."""
        low, high = (self._first_from(sample) for sample in (start, stop))
        return {name: np.asarray(self.table[name][low:high]) for name in self.table}

    def __len__(self) -> int:
        return int(self.table["sample_index"].shape[0])

    def _first_from(self, sample: int) -> int:
        samples = self.table["sample_index"]
        low, high = 0, samples.shape[0]
        while high - low > WHOLE_ROWS:
            middle = (low + high) // 2
            if samples[middle] < sample:
                low = middle + 1
            else:
                high = middle
        return low + int(np.searchsorted(np.asarray(samples[low:high]), sample))


@dataclass(frozen=True)
class Fields(Mapping[str, Any]):
    """The fields of a table that begin with a prefix, without it."""

    table: Mapping[str, Any]
    prefix: str

    def __getitem__(self, name: str) -> Any:
        return self.table[self.prefix + name]

    def __iter__(self) -> Iterator[str]:
        return (name.removeprefix(self.prefix) for name in self.table if name.startswith(self.prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def between(events: Mapping[str, np.ndarray], start: int, stop: int) -> dict[str, np.ndarray]:
    """Rows in memory with start <= sample < stop."""
    low, high = np.searchsorted(events["sample_index"], [start, stop])
    return {name: values[low:high] for name, values in events.items()}


def close_pairs(
    samples: np.ndarray, channels: np.ndarray, reach: int, neighbors: np.ndarray
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Pairs of events near each other in time and space: slices of the earlier and of the later ones, and which of
    these pairs are near.

    Parameters
    ----------
    samples, channels : (n,) sorted by sample; of equal samples the order of the rows counts
    reach : samples
    neighbors : (n_channels, n_neighbors) int, padded with n_channels
    """
    near = np.zeros((len(neighbors), len(neighbors) + 1), bool)
    np.put_along_axis(near, neighbors.astype(np.int64), True, axis=1)
    for step in range(1, len(samples)):
        # Each with the one `step` places later, until none is close enough.
        close = samples[step:] - samples[:-step] <= reach
        if not close.any():
            return
        earlier, later = slice(None, -step), slice(step, None)
        yield earlier, later, close & near[channels[earlier], channels[later]]


def evenly(groups: np.ndarray, limit: int) -> np.ndarray:
    """(n,) bool: at most `limit` members of each group (int, >= 0), spread evenly over their order."""
    counts = np.bincount(groups)
    rank = np.empty(len(groups), np.int64)
    order = np.argsort(groups, kind="stable")
    rank[order] = np.arange(len(groups)) - np.repeat(np.cumsum(counts) - counts, counts)
    count = counts[groups]
    # A member is kept where the running share limit / count passes a whole number.
    return (count <= limit) | ((rank + 1) * limit // count > rank * limit // count)
