"""Stability: which units are found again when spikes of the sorted units are added to the recording.

Each unit's own waveform is added at new times; some units are put elsewhere on the probe as well, as units that were
not there before. The perturbed recording is sorted, and its units are matched with those that are in it now
(Lee et al. 2017, "YASS: Yet Another Spike Sorter").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from dask.base import tokenize

from yass_dask.errors import InputError
from yass_dask.evaluate.agreement import compare
from yass_dask.evaluate.matching import Spikes
from yass_dask.evaluate.scores import UnitAgreement
from yass_dask.recording import Recording
from yass_dask.recording.spans import inside
from yass_dask.sorting import Sorting
from yass_dask.sources import Source

REFRACTORY_MS, MATCH_MS = 2.0, 0.4
MOVED_CHANNELS = 10
"""A unit that is moved takes so many of its largest channels along."""
NEAREST = 12
"""It is moved to one of so many channels next to its own."""


@dataclass(frozen=True)
class AddedSpikes:
    """Spikes added to a recording."""

    waveforms: np.ndarray
    """(n_units, n_samples, n_channels) in counts of the recording"""
    peak: int
    times: np.ndarray
    """(n,) int64, ascending"""
    units: np.ndarray
    """(n,) rows of `waveforms`"""


@dataclass(frozen=True, eq=False)
class PerturbedSource:
    """A source with spikes added, when it is read."""

    source: Source
    added: AddedSpikes

    @property
    def shape(self) -> tuple[int, int]:
        return self.source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.source.dtype

    def read(self, start: int, stop: int) -> np.ndarray:
        added, length = self.added, self.added.waveforms.shape[1]
        sums = np.zeros((stop - start + 2 * length, self.shape[1]))
        low, high = np.searchsorted(added.times, [start - length, stop + length])
        for time, unit in zip(added.times[low:high], added.units[low:high], strict=True):
            first = int(time) - added.peak - start + length
            if 0 <= first <= len(sums) - length:
                sums[first : first + length] += added.waveforms[unit]
        traces = self.source.read(start, stop) + sums[length : length + stop - start]
        if self.dtype.kind == "f":
            return traces.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        return np.clip(np.rint(traces), limits.min, limits.max).astype(self.dtype)

    def identity(self) -> dict[str, Any]:
        return {"kind": "perturbed", "of": self.source.identity(), "added": self._token()}

    def _token(self) -> str:
        added = self.added
        return str(tokenize(added.waveforms, added.peak, added.times, added.units))

    def __dask_tokenize__(self) -> str:
        return tokenize("PerturbedSource", self.source, self._token())


class Perturbed(NamedTuple):
    """A perturbed recording and the spikes that are in it."""

    recording: Recording
    truth: Spikes
    """Labels below the number of units: rows of the sorting's units; above: copies that were moved"""
    added: Spikes
    moved: np.ndarray
    """(n_units,) bool"""


def perturb(
    recording: Recording, sorting: Sorting, *, rate: float = 0.25, moved_share: float = 0.2, seed: int = 0
) -> Perturbed:
    """Add each unit's waveform at new times, and put some units elsewhere.

    Parameters
    ----------
    recording : the raw recording that was sorted
    rate : spikes added, as a share of the unit's own
    moved_share : share of the units whose added spikes are on other channels
    seed : of the times and places

    Raises
    ------
    InputError
        The sorting is of another recording, or found no unit.
    """
    if sorting.n_units == 0 or (sorting.n_samples, sorting.n_channels) != recording.source.shape:
        raise InputError("stability needs a sorting of this recording, with at least one unit")
    rng = np.random.default_rng(seed)
    moved = np.zeros(sorting.n_units, bool)
    moved[rng.permutation(sorting.n_units)[: round(moved_share * sorting.n_units)]] = True
    gain = np.ones(recording.n_channels) if recording.gain_to_uv is None else recording.gain_to_uv
    waveforms = np.array(sorting.templates, np.float64) / gain
    for unit in np.flatnonzero(moved):
        waveforms[unit] = move(waveforms[unit], recording.probe.positions, rng)
    dead = round(REFRACTORY_MS * recording.sampling_rate / 1e3)
    trains = [sorting.times_of(int(unit)) for unit in sorting.unit_ids]
    new = [new_times(train, rate, dead, recording.n_samples, rng) for train in trains]
    new = [times[~inside(times, recording.excluded_samples)] for times in new]
    times, units = np.concatenate(new), np.repeat(np.arange(len(new)), [len(train) for train in new])
    order = np.argsort(times, kind="stable")
    added = AddedSpikes(waveforms, sorting.template_peak, times[order], units[order])
    labels = np.where(moved[added.units], added.units + sorting.n_units, added.units)
    truth = Spikes(
        np.concatenate([sorting.sample_index, added.times]), np.concatenate([sorting.unit_rows, labels])
    ).sorted()
    source = PerturbedSource(recording.source, added)
    return Perturbed(replace(recording, source=source), truth, Spikes(added.times, labels), moved)


def new_times(train: np.ndarray, rate: float, dead: int, n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Times after spikes of the train, by intervals drawn from a log-normal fitted to its own, ascending.

    Parameters
    ----------
    train : (n,) samples, ascending
    rate : how many, as a share of n
    dead : samples that two spikes are apart at least
    """
    if len(train) < 2:
        return np.zeros(0, np.int64)
    logs = np.log(np.maximum(np.diff(train), 1))
    starts = rng.choice(train, max(1, round(rate * len(train))), replace=False)
    times = np.sort(starts + np.exp(rng.normal(logs.mean(), logs.std(), len(starts))).astype(np.int64))
    kept: list[int] = []
    for time in times[(times >= dead) & (times < n_samples - dead)].tolist():
        at = np.searchsorted(train, time)
        near = train[max(at - 1, 0) : at + 1]
        if (np.abs(near - time) >= dead).all() and (not kept or time - kept[-1] >= dead):
            kept.append(time)
    return np.array(kept, np.int64)


def move(waveform: np.ndarray, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The waveform (n_samples, n_channels) as it were if its unit lay at another channel nearby.

    Its largest channels keep their places relative to the main one; those that lie off the probe then are lost.
    """
    size = np.abs(waveform).max(axis=0)
    main = int(size.argmax())
    apart = np.linalg.norm(positions - positions[main], axis=1)
    near = np.argsort(apart, kind="stable")[1 : NEAREST + 1]
    if not len(near):
        return waveform
    offset = positions[int(rng.choice(near))] - positions[main]
    result = np.zeros_like(waveform)
    for channel in np.argsort(-size, kind="stable")[:MOVED_CHANNELS]:
        distance = np.linalg.norm(positions - (positions[channel] + offset), axis=1)
        target = int(distance.argmin())
        if distance[target] <= 0.5 * apart[near[0]]:
            result[:, target] = waveform[:, channel]
    return result


def stability(
    recording: Recording, sorting: Sorting, sort: Callable[[Recording], Sorting], *, rate: float = 0.25,
    moved_share: float = 0.2, seed: int = 0,
) -> list[dict[str, Any]]:  # fmt: skip
    """Perturb a recording, sort it again, and tell for each unit how much of it was found again.

    Parameters
    ----------
    sort : sorts a recording, such as `lambda perturbed: yass_dask.sort(perturbed, folder, params)`
    rate, moved_share, seed : see `perturb`

    Returns
    -------
    a mapping a unit, then one a copy that was moved: `unit_id`, `moved` (it is such a copy), `n_spikes`, `stability`
    (share of its spikes found by the unit it is matched with), `false_positives` (share of that unit's spikes that
    are not its), `added_found` (share of the added spikes that are found; None without any)
    """
    perturbed = perturb(recording, sorting, rate=rate, moved_share=moved_share, seed=seed)
    again = sort(perturbed.recording)
    found = Spikes(again.sample_index, again.unit_index)
    agreement = compare(perturbed.truth, found, recording.sampling_rate, delta_ms=MATCH_MS, min_score=0.0)
    return [_row(unit, sorting, perturbed, again) for unit in agreement.units]


def _row(unit: UnitAgreement, sorting: Sorting, perturbed: Perturbed, again: Sorting) -> dict[str, Any]:
    """What is told of one unit."""
    label, n_units = unit.unit_id, sorting.n_units
    added = perturbed.added.times[perturbed.added.labels == label]
    matched = np.zeros(0, np.int64) if unit.matched_unit is None else again.times_of(unit.matched_unit)
    near = round(MATCH_MS * sorting.sampling_rate / 1e3)
    gaps = [np.abs(matched - time).min(initial=near + 1) <= near for time in added]
    return {
        "unit_id": int(sorting.unit_ids[label % n_units]),
        "moved": label >= n_units,
        "n_spikes": unit.n_spikes,
        "stability": unit.recall,
        "false_positives": 1 - unit.precision if unit.matched_unit is not None else 0.0,
        "added_found": float(np.mean(gaps)) if gaps else None,
    }
