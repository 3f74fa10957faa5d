"""Stage: how large the spikes of each unit are over the recording, relative to its template.

A cell that comes nearer or dies changes its size by a factor within minutes or hours. A spike that is much smaller than
the template promises is taken for something else, so pursuit is told the size to expect at each time. Of a unit whose
size does not change, it is 1 throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from yass_dask.chunked import LazyParts
from yass_dask.events import evenly

if TYPE_CHECKING:
    from yass_dask.merge import Revision
    from yass_dask.refine import Units

SPIKES_PER_BIN, FEWEST_BINS, MOST_BINS = 20, 6, 24
MOST_SPIKES = 1000
"""looked at of a unit at the end"""
MOST_ROUGH = 0.6
"""Squared steps from bin to bin are at most so large against the squares around the mean: 2 where bins are independent
of each other, as they are where only noise or bursts change the sizes (von Neumann 1941)."""
LEAST_CHANGE = 1.25
"""A size is followed where the largest is at least so many times the smallest."""
WEIGHTS = np.array([1.0, 2.0, 3.0, 2.0, 1.0])
"""of a bin and those beside it, through which a line is fitted"""
SMALLEST, LARGEST = 0.2, 5.0


class Sizes(NamedTuple):
    """Size of each unit's spikes at some times, between which it is a line."""

    knots: np.ndarray
    """(n_units, n_knots) float64 samples, ascending"""
    values: np.ndarray
    """(n_units, n_knots) float32, times the template"""

    @property
    def changes(self) -> np.ndarray:
        """(n_units,) bool: units whose size is followed."""
        changes: np.ndarray = (self.values != 1).any(axis=1)
        return changes

    def at(self, sample: float) -> np.ndarray:
        """(n_units,) float32 sizes at one time."""
        size = np.ones(len(self.values), np.float32)
        for u in np.flatnonzero(self.changes):
            size[u] = np.interp(sample, self.knots[u], self.values[u])
        return size

    def of(self, units: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """(n,) sizes of spikes of some units at some times."""
        size, rows = np.ones(len(units)), rows_of(units, len(self.values))
        for u in np.flatnonzero(self.changes):
            size[rows[u]] = np.interp(samples[rows[u]], self.knots[u], self.values[u])
        return size


def rows_of(units: np.ndarray, n_units: int) -> list[np.ndarray]:
    """Rows of each unit's spikes, ascending; rows of unit -1 are left out."""
    order = np.argsort(units, kind="stable")
    start = np.searchsorted(units[order], np.arange(n_units + 1))
    return [order[start[u] : start[u + 1]] for u in range(n_units)]


def steady(n_units: int) -> Sizes:
    """Units that do not change."""
    shape = (n_units, MOST_BINS + 2)
    return Sizes(np.zeros(shape), np.ones(shape, np.float32))


@dataclass(frozen=True)
class StoredSizes:
    """Sizes on disk: a small handle that travels to tasks."""

    table: Mapping[str, Any]

    def load(self) -> Sizes:
        """The sizes in memory."""
        return Sizes(*(np.asarray(self.table[name][:]) for name in Sizes._fields))


def measure_sizes(units: Units, revision: Revision, renewed: Units, amplitude_sd: float) -> LazyParts:
    """Sizes of the units of the next round, by the spikes of this one that they come from; opens as StoredSizes.

    Parameters
    ----------
    units, renewed : this round's and the next one's
    revision : which spikes go where
    amplitude_sd : spread of the amplitudes that pursuit took for likely
    """
    return LazyParts.one(
        "sizes", _measure, units.handle, units.sizes, units.levels, revision, renewed.handle, amplitude_sd,
        params={"amplitude_sd": amplitude_sd}, version=1, open=StoredSizes,
    )  # fmt: skip


def last_sizes(fields: Mapping[str, np.ndarray], units: Units, amplitude_sd: float) -> Sizes:
    """Sizes by the spikes of the last pursuit, of units that were found in the last round as well."""
    chosen = evenly(fields["unit_index"], MOST_SPIKES)
    unit, sample = (fields[name][chosen] for name in ("unit_index", "sample_index"))
    size = _best_sizes(unit, sample, fields["amplitude"][chosen], units.levels, units.sizes, amplitude_sd)
    found = steady(len(units.levels))
    for u, mine in enumerate(rows_of(unit, len(units.levels))):
        found.knots[u], found.values[u] = followed(sample[mine], size[mine])
    return found


def _best_sizes(
    unit: np.ndarray, sample: np.ndarray, amplitude: np.ndarray, levels: np.ndarray, before: StoredSizes | None,
    amplitude_sd: float,
) -> np.ndarray:  # fmt: skip
    """(n_spikes,) times the template that fit the traces best; pursuit held them to the sizes before."""
    held = 1.0 if before is None else before.load().of(unit, sample)
    best: np.ndarray = held * unheld(amplitude / held, levels[unit] * held, amplitude_sd)
    return best


def _measure(
    stored: Any, before: StoredSizes | None, levels: np.ndarray, revision: Revision, renewed: Any, amplitude_sd: float
) -> dict[str, np.ndarray]:
    old, new = stored.load(), renewed.load()
    piece, sample, amplitude = (
        np.asarray(revision.members[name][:]) for name in ("unit_index", "sample_index", "amplitude")
    )
    unit = revision.piece_unit[piece]
    norms = [np.sqrt((templates.waveforms**2).sum(axis=(1, 2))) for templates in (old, new)]
    size = _best_sizes(unit, sample, amplitude, levels, before, amplitude_sd) * norms[0][unit]
    found = steady(len(new))
    for u, mine in enumerate(rows_of(_row_of_piece(revision, new.ids)[piece], len(new))):
        found.knots[u], found.values[u] = followed(sample[mine], size[mine] / max(float(norms[1][u]), 1e-9))
    return found._asdict()


def _row_of_piece(revision: Revision, ids: np.ndarray) -> np.ndarray:
    """(n_pieces,) row of the new unit that each piece is in, -1: in none. A group has the id of one of its pieces."""
    place = {unit: row for row, unit in enumerate(ids.tolist())}
    rows = np.full(len(revision.piece_group), -1)
    for group, unit in zip(revision.piece_group, revision.piece_id.tolist(), strict=True):
        if group >= 0 and unit in place:
            rows[revision.piece_group == group] = place[unit]
    return rows


def unheld(amplitude: np.ndarray, level: np.ndarray, amplitude_sd: float) -> np.ndarray:
    """Amplitudes that fit the traces best, from those that pursuit held to 1: a = (c + k) / (n + k).

    `level` is the template's distance from nothing in noise sd, so that n / k = (level amplitude_sd)^2.
    """
    return amplitude + (amplitude - 1) / np.maximum((level * amplitude_sd) ** 2, 1e-3)


def followed(samples: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots and values of one unit: all 1 unless its size surely changes."""
    knots, values = np.zeros(MOST_BINS + 2), np.ones(MOST_BINS + 2, np.float32)
    n_bins = min(len(samples) // SPIKES_PER_BIN, MOST_BINS)
    if n_bins < FEWEST_BINS:
        return knots, values
    order = np.argsort(samples, kind="stable")
    groups = np.array_split(order, n_bins)
    centres = np.array([samples[group].mean() for group in groups])
    medians = np.array([np.median(sizes[group]) for group in groups])
    around = ((medians - medians.mean()) ** 2).sum()
    if (np.diff(medians) ** 2).sum() > MOST_ROUGH * around:
        return knots, values
    places = np.concatenate([samples[order[:1]], centres, samples[order[-1:]]])
    smooth = np.clip(_lines(centres, medians, places), SMALLEST, LARGEST)
    if smooth.max() < LEAST_CHANGE * smooth.min():
        return knots, values
    knots[: n_bins + 2], knots[n_bins + 2 :] = places, places[-1]
    values[: n_bins + 2], values[n_bins + 2 :] = smooth, smooth[-1]
    return knots, values


def _lines(centres: np.ndarray, medians: np.ndarray, places: np.ndarray) -> np.ndarray:
    """At each place the value of a line through the nearest bins."""
    reach, found = len(WEIGHTS) // 2, np.zeros(len(places))
    for i, place in enumerate(places):
        middle = int(np.clip(i - 1, 0, len(centres) - 1))
        near = np.arange(max(middle - reach, 0), min(middle + reach + 1, len(centres)))
        weight = WEIGHTS[near - middle + reach]
        x, y = centres[near] - place, medians[near]
        mean_x, mean_y = np.average(x, weights=weight), np.average(y, weights=weight)
        slope = (weight * (x - mean_x) * (y - mean_y)).sum() / max((weight * (x - mean_x) ** 2).sum(), 1e-9)
        found[i] = mean_y - slope * mean_x
    return found
