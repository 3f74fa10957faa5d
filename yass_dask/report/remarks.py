"""What whoever looks at a sort should know first, in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from yass_dask.evaluate import trains
from yass_dask.report.units import UnitNumbers

if TYPE_CHECKING:
    from yass_dask.evaluate.stored import Stability
    from yass_dask.report.sampled import Sampled
    from yass_dask.sorting import Sorting

UNEXPLAINED_SHARE, FEWEST_PEAKS = 0.1, 50
"""A channel is named if more than this share of its peaks, of at least so many, are left."""
CONTAMINATED, UNSURE, ALIKE = 0.1, 0.8, 0.9
CHANGED = 1.5
"""A unit's amplitude has changed if it differs by this factor between the first and the last quarter."""
MOST_NAMED = 12


def remarks(
    sorting: Sorting, units: Sequence[UnitNumbers], seen: Sampled | None, stability: Stability | None = None
) -> list[str]:
    """Sentences, the most important first; empty where there is nothing to say."""
    found = [] if seen is None else _unexplained(sorting, seen)
    if not units:
        return ["No unit was found.", *found]
    found += _of_units(units, "more than 10 % of the spikes may be of others", _contaminated)
    found += _of_units(units, "fewer than 80 % of its spikes are expected to be right and found", _unsure)
    if stability is not None:
        share = {row["unit_id"]: row["stability"] for row in stability.rows if not row["moved"]}
        found += _of_units(units, "less than 80 % of its spikes were found again in the perturbed recording",
                           lambda unit: share.get(unit.unit, 1.0) < UNSURE)  # fmt: skip
    found += _of_units(units, "silent in more stretches of the recording than its rate explains", _absent)
    changed = [_change(unit, sorting.n_samples) for unit in units]
    found += _of_units(units, "its amplitude changes by half or more from begin to end: drift, or two units in one",
                       lambda unit: max(changed[unit.row], 1 / changed[unit.row]) > CHANGED)  # fmt: skip
    pairs = sorted({tuple(sorted((u.unit, u.neighbor))) for u in units if u.neighbor is not None and _alike(u)})
    if pairs:
        named = ", ".join(f"{a} and {b}" for a, b in pairs[:MOST_NAMED])
        found.append(f"Units whose templates are nearly the same shape, look at their cross-correlograms: {named}.")
    return found


def _contaminated(unit: UnitNumbers) -> bool:
    return unit.contamination is not None and unit.contamination > CONTAMINATED


def _unsure(unit: UnitNumbers) -> bool:
    return unit.expected_accuracy is not None and unit.expected_accuracy < UNSURE


def _absent(unit: UnitNumbers) -> bool:
    return unit.presence < UNSURE * trains.expected_presence(unit.n_spikes)


def _alike(unit: UnitNumbers) -> bool:
    return unit.similarity > ALIKE


def _of_units(units: Sequence[UnitNumbers], why: str, test: Callable[[UnitNumbers], bool]) -> list[str]:
    named = [unit.unit for unit in units if test(unit)]
    if not named:
        return []
    shown = ", ".join(map(str, named[:MOST_NAMED])) + (" and more" if len(named) > MOST_NAMED else "")
    many = f"{len(named)} units" if len(named) > 1 else "1 unit"
    return [f"{many}: {why} ({shown})."]


def _change(unit: UnitNumbers, n_samples: int) -> float:
    """Median amplitude in the recording's last quarter over that in its first; 1 where a quarter has few spikes."""
    first, last = np.searchsorted(unit.times, (n_samples / 4, 3 * n_samples / 4))
    early, late = unit.amplitudes[:first], unit.amplitudes[last:]
    if min(len(early), len(late)) < 10 or not np.median(early) > 0 or not np.median(late) > 0:
        return 1.0
    return float(np.median(late) / np.median(early))


def _unexplained(sorting: Sorting, seen: Sampled) -> list[str]:
    total = int(seen.n_before.sum())
    if not total:
        return [f"No peak above {seen.threshold:g} noise standard deviations was seen."]
    share = seen.n_after.sum() / total
    sentence = (
        f"{100 * share:.0f} % of {total:,} threshold crossings ({seen.threshold:g} noise standard deviations, in "
        f"{seen.seconds:.0f} s looked at) stay when all spikes are subtracted"
    )
    loud = (seen.n_before >= FEWEST_PEAKS) & (seen.n_after > UNEXPLAINED_SHARE * seen.n_before)
    if not loud.any():
        return [sentence + "."]
    worst = seen.n_after[loud].sum() / seen.n_before[loud].sum()
    return [f"{sentence}; {100 * worst:.0f} % on channels {ranges(np.flatnonzero(loud), sorting.channel_ids)}."]


def ranges(channels: np.ndarray, names: np.ndarray) -> str:
    """Names of channels, those that follow each other as first-last."""
    runs = np.split(channels, np.flatnonzero(np.diff(channels) > 1) + 1)
    return ", ".join(
        f"{names[run[0]]}" if len(run) == 1 else f"{names[run[0]]}-{names[run[-1]]}" for run in runs[:MOST_NAMED]
    ) + (" and more" if len(runs) > MOST_NAMED else "")
