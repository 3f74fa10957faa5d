"""What is dropped at the end of a sort: units that do not stand, and spikes that larger units left over."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from yass_dask.likely import Fits
from yass_dask.merge import MergeParams
from yass_dask.preprocess import Clean
from yass_dask.refine import Units, trains_of
from yass_dask.verdicts import coincident, is_near

COINCIDENT_MS = 0.4
LEFTOVER_MS, LEFTOVER_SHARE, LEFTOVER_SIZE = 1.5, 0.75, 2.0
"""A unit is what larger ones leave over if this share of its spikes, beyond chance, comes within this time of a spike
of a neighbour at least this much larger."""


def without_leftovers(
    fields: Mapping[str, np.ndarray], units: Units, clean: Clean, params: MergeParams
) -> dict[str, np.ndarray]:
    """Spikes but those that a unit has of what a much larger one leaves over.

    Pursuit takes away a spike of a large unit up to an error that can be as large as a small unit nearby. If that fires
    with most spikes of the large one, those spikes are no neuron's; what else the small unit has stays. A unit that is
    nothing but leftovers keeps them, so that `last_drops` knows it.
    """
    n_units, reach = len(units.templates), clean.recording.samples(COINCIDENT_MS)
    trains = trains_of(fields, n_units)
    gone = np.zeros(len(fields["unit_index"]), bool)
    for v in range(n_units):
        larger = np.flatnonzero(share_a_channel(units, v) & (units.levels > LEFTOVER_SIZE * units.levels[v]))
        leaving = [trains[u] for u in larger if coincident(trains[u], trains[v], reach) > params.max_coincident]
        if leaving and leftover_share(v, trains, units, clean) <= LEFTOVER_SHARE:
            mine, others = fields["unit_index"] == v, np.sort(np.concatenate(leaving))
            gone[mine] = is_near(fields["sample_index"][mine], others, reach)
    return {name: values[~gone] for name, values in fields.items()}


def last_drops(
    fields: Mapping[str, np.ndarray], units: Units, fits: Fits, clean: Clean, params: MergeParams
) -> dict[int, tuple[str, int | None, str]]:
    """Units that do not stand at the end: (action, into, reason) by row.

    Too few spikes; spikes that cannot be told from noise, or are not what the template promises; or most spikes at the
    same time as those of a larger unit that is near: a double.
    """
    n_units = len(units.templates)
    trains = trains_of(fields, n_units)
    dropped: dict[int, tuple[str, int | None, str]] = {}
    for u, train in enumerate(trains):
        if len(train) < params.min_spikes:
            dropped[u] = ("drop", None, f"{len(train)} spikes at the end, fewer than {params.min_spikes}")
        elif fits.accuracy[u] < params.min_accuracy:
            reason = f"expected accuracy of {fits.accuracy[u]:.0%}: the rest of its spikes is noise, or was missed"
            dropped[u] = ("drop", None, reason)
        elif fits.centre[u] < params.min_likeness:
            reason = f"its spikes are {fits.centre[u]:.0%} as likely as its template should make them"
            dropped[u] = ("drop", None, reason)
        elif (share := leftover_share(u, trains, units, clean)) > LEFTOVER_SHARE:
            dropped[u] = ("drop", None, f"{share:.0%} of its spikes, beyond chance, lie beside those of larger units")
    reach = clean.recording.samples(COINCIDENT_MS)
    for u in sorted(set(range(n_units)) - set(dropped), key=lambda u: (len(trains[u]), u)):
        for v in np.flatnonzero(share_a_channel(units, u)):
            if v == u or v in dropped or (len(trains[v]), v) < (len(trains[u]), u):
                continue
            share = coincident(trains[u], trains[v], reach)
            if share > params.max_coincident:
                reason = f"{share:.0%} of its spikes coincide with those of unit {units.templates.ids[v]}"
                dropped[u] = ("drop", int(units.templates.ids[v]), reason)
                break
    return dropped


def leftover_share(u: int, trains: list[np.ndarray], units: Units, clean: Clean) -> float:
    """Share of a unit's spikes, beyond chance, that come with a spike of a much larger unit on the same channels."""
    larger = share_a_channel(units, u) & (units.levels > LEFTOVER_SIZE * units.levels[u])
    if not larger.any() or len(trains[u]) == 0:
        return 0.0
    others = np.sort(np.concatenate([trains[v] for v in np.flatnonzero(larger)]))
    reach = clean.recording.samples(LEFTOVER_MS)
    chance = 1 - np.exp(-len(others) * (2 * reach + 1) / max(clean.recording.n_kept(), 1))
    return float((coincident(trains[u], others, reach) - chance) / max(1 - chance, 1e-3))


def share_a_channel(units: Units, u: int) -> np.ndarray:
    """(n_units,) bool: units whose main channel lies among the nearest of unit u."""
    channels = units.templates.channels
    return np.isin(channels[:, 0], channels[u, : min(12, channels.shape[1])])
