"""Which spike of one sorting is which spike of another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Spikes(NamedTuple):
    """Spikes of several units: sample and unit (0 or more) of each, int64 of one length, in any order."""

    times: np.ndarray
    labels: np.ndarray

    def sorted(self) -> Spikes:
        """The same spikes by time, then by unit."""
        times, labels = (np.asarray(field).astype(np.int64) for field in self)
        order = np.lexsort((labels, times))
        return Spikes(times[order], labels[order])


class Matches(NamedTuple):
    """Pairs of a spike of the first sorting with a spike of the second, by index into each."""

    first: np.ndarray
    second: np.ndarray
    offsets: np.ndarray
    """Time in the second less time in the first, samples."""


def near_pairs(first: np.ndarray, second: np.ndarray, max_samples: int) -> Matches:
    """All pairs at most `max_samples` apart; both arrays of times ascend."""
    low = np.searchsorted(second, first - max_samples, side="left")
    counts = np.searchsorted(second, first + max_samples, side="right") - low
    one = np.repeat(np.arange(len(first)), counts)
    two = np.arange(len(one)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(low, counts)
    return Matches(one, two, second[two] - first[one])


def match_spikes(first: Spikes, second: Spikes, max_samples: int) -> Matches:
    """Match the spikes of every unit of `first` with those of every unit of `second`, both in order of time.

    For one pair of units each spike is matched at most once, the closest first (then the earlier); a spike
    may be matched with spikes of several other units.
    """
    pairs = near_pairs(first.times, second.times, max_samples)
    order = np.lexsort((pairs.second, pairs.first, np.abs(pairs.offsets)))
    pairs = Matches(*(field[order] for field in pairs))
    per_other = (
        _number_together(pairs.first, second.labels[pairs.second]),
        _number_together(pairs.second, first.labels[pairs.first]),
    )
    kept = _keep_once(*per_other)
    return Matches(*(field[kept] for field in pairs))


def _number_together(spike: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Number each pair by its spike and the unit on the other side: 0, 1, ..., equal for equal ones."""
    key = spike.astype(np.int64) * (int(unit.max(initial=0)) + 1) + unit
    numbers: np.ndarray = np.unique(key, return_inverse=True)[1]
    return numbers


def _keep_once(number_one: np.ndarray, number_two: np.ndarray) -> np.ndarray:
    """Pairs kept, of pairs in order of preference: in rounds, those that are the best left for both sides."""
    kept = np.zeros(len(number_one), dtype=bool)
    left = np.arange(len(number_one))
    while len(left):
        one, two = number_one[left], number_two[left]
        chosen = _is_first(one) & _is_first(two)
        kept[left[chosen]] = True
        left = left[~(_is_in(one, one[chosen]) | _is_in(two, two[chosen]))]
    return np.flatnonzero(kept)


def _is_first(numbers: np.ndarray) -> np.ndarray:
    """Where each number comes up for the first time."""
    place = np.empty(numbers.max(initial=0) + 1, dtype=np.int64)
    place[numbers[::-1]] = np.arange(len(numbers))[::-1]
    first: np.ndarray = place[numbers] == np.arange(len(numbers))
    return first


def _is_in(numbers: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    # numpy.isin hashes millions of integers many times slower than this table looks them up
    table = np.zeros(numbers.max(initial=0) + 1, dtype=bool)
    table[chosen] = True
    return table[numbers]


def count_matches(matches: Matches, first: Spikes, second: Spikes, shape: tuple[int, int]) -> np.ndarray:
    """Matched spikes of each pair of units, `shape` = (units of the first, units of the second)."""
    flat = first.labels[matches.first] * shape[1] + second.labels[matches.second]
    return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)


def near_other_unit(spikes: Spikes, max_samples: int) -> np.ndarray:
    """(n_spikes,) bool: another unit has a spike at most `max_samples` away; spikes in order of time."""
    pairs = near_pairs(spikes.times, spikes.times, max_samples)
    others = spikes.labels[pairs.first] != spikes.labels[pairs.second]
    near = np.zeros(len(spikes.times), dtype=bool)
    near[pairs.first[others]] = True
    return near
