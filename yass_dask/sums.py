"""Templates that are two other units at once, or one and a part: what clustering finds where units fire together."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from yass_dask.backends import kernel
from yass_dask.deconvolve import DeconvolveParams, bank_of
from yass_dask.kernels.bank import Bank, Spikes, no_spikes, of_units
from yass_dask.noise import Noise
from yass_dask.templates import Templates
from yass_dask.verdicts import coincident, lags_between

MAX_LEFT = ((0.03, 0.4), (0.1, 0.3))
"""(a, b): a unit with at most a times the spikes of others is these at once if they leave at most b of its energy.

Coincidences are a small part of either train, the less so the tighter the lag: a unit that fires nearly as often as the
others is a neuron, however alike their sum may be.
"""
MAX_LEFT_AT_FIRST = (*MAX_LEFT, (0.3, 0.15))
"""The same before any pursuit: spikes are counted only as far as they were averaged, so the others may have many more.
"""
MAX_LEFT_OF_ONE = ((0.03, 0.15),)
"""The same where one unit alone explains the template, and what is left is a part of another."""
MIN_AMPLITUDE = 0.5
"""Each of the two is there at this share of its size at least: half of one and half of another is a unit between."""
MAX_TOGETHER = 0.5
ALWAYS = 0.7
NEAREST = 12
N_SWEEPS = 2


def without_sums(
    templates: Templates, noise: Noise, reach: int, trains: Mapping[int, np.ndarray] | None, first_new: int = 0
) -> tuple[Templates, list[dict[str, Any]]]:
    """Drop templates that others, of several times the spikes each, explain: together, or one but for a small part.

    The template itself is pursued with all others, as the recording is. Pursuit will find the others where the dropped
    one stood, so nothing is lost. What one unit leaves over of another is no part of a sum: of two units that explain a
    third, each fires mostly without the other. Returns the audit as well.

    Parameters
    ----------
    reach : samples within which spikes are at the same time
    trains : spikes of the units by id, as far as they were pursued (others explain nothing); None: none was yet
    first_new : units of lower ids are known from another sort and stay
    """
    if len(templates) < 2:
        return templates, []
    bank = bank_of(templates, noise, reach, DeconvolveParams())
    kept = np.ones(len(templates), bool)
    pursued = np.array([trains is None or int(unit) in trains for unit in templates.ids])
    audit: list[dict[str, Any]] = []
    of_several = MAX_LEFT_AT_FIRST if trains is None else MAX_LEFT
    counts = templates.n_spikes.copy()
    if trains is not None:
        counts[pursued] = [len(trains[int(unit)]) for unit in templates.ids[pursued]]
    order = np.argsort(counts, kind="stable")
    for u in order[templates.ids[order] >= first_new].tolist():
        usable = kept & pursued & (counts * of_several[-1][0] >= max(counts[u], 1))
        found, left = explain(bank, u, usable)
        if len(found.unit) == 0 or found.amplitude.min() < MIN_AMPLITUDE:
            continue
        rarity = counts[u] / counts[found.unit].min()
        limits = of_several if len(found.unit) > 1 else MAX_LEFT_OF_ONE
        if not any(rarity <= share and left <= most for share, most in limits):
            continue
        if trains is not None and not _apart([trains[int(templates.ids[v])] for v in np.unique(found.unit)], reach):
            continue
        kept[u] = False
        names = " and ".join(str(templates.ids[v]) for v in sorted(found.unit.tolist()))
        what = f"units {names} at once" if len(found.unit) > 1 else f"mostly unit {names}"
        audit.append({"unit": int(templates.ids[u]), "action": "drop", "into": None,
                      "reason": f"its template is {what} ({1 - left:.0%} of its energy)"})  # fmt: skip
    return templates.select(np.flatnonzero(kept)), audit


def _apart(trains: list[np.ndarray], reach: int) -> bool:
    """Does each pair of units fire mostly apart?"""
    pairs = [sorted(pair, key=len) for pair in combinations(trains, 2)]
    return all(coincident(fewer, more, reach) <= MAX_TOGETHER for fewer, more in pairs)


def find_partners(templates: Templates, trains: Mapping[int, np.ndarray], reach: int) -> dict[int, tuple[int, int]]:
    """Units that hardly fire without another one: row -> (row of the other, its lag in samples).

    Where two units share a neuron's spikes, pursuit takes the larger template and what it lacks, each time both.
    Neither is the neuron; the two together are. The other, of more spikes, has spikes of its own besides.

    Parameters
    ----------
    trains : spikes of the units by id
    reach : samples within which spikes are at the same time
    """
    partners: dict[int, tuple[int, int]] = {}
    for u, unit in enumerate(templates.ids.tolist()):
        mine = trains[unit]
        near = np.flatnonzero(np.isin(templates.channels[:, 0], templates.channels[u, :NEAREST]))
        larger = [v for v in near.tolist() if len(trains[int(templates.ids[v])]) > len(mine) > 0]
        shares = {v: coincident(mine, trains[int(templates.ids[v])], reach) for v in larger}
        best = max(larger, key=lambda v: (shares[v], -v), default=None)
        if best is not None and shares[best] > ALWAYS:
            lags = lags_between(mine, trains[int(templates.ids[best])], reach)
            partners[u] = (best, int(np.median(lags)))
    return partners


def explain(bank: Bank, unit: int, usable: np.ndarray) -> tuple[Spikes, float]:
    """Spikes of usable units in the template of one unit, and the share of its energy that they leave.

    The template's correlations with the others are their overlaps: no traces are needed.

    Parameters
    ----------
    usable : (n_units,) bool
    """
    n_samples = bank.temporal.shape[2]
    pairs = np.arange(bank.pair_start[unit], bank.pair_start[unit + 1])
    pairs = pairs[usable[bank.pair_unit[pairs]]]
    if len(pairs) == 0:
        return no_spikes(), 1.0
    rows = bank.pair_unit[pairs]
    correlation = np.zeros((3 * n_samples, len(pairs)), np.float32, order="F")
    correlation[bank.peak + 1 : bank.peak + 2 * n_samples] = bank.pair_overlap[pairs].T
    found = kernel("pursue", "numba")(
        correlation, bank=of_units(bank, rows), given=no_spikes(), first=0, stop=len(correlation), n_sweeps=N_SWEEPS
    )
    explained = float(found.gain.sum()) / max(float(bank.norms[unit]), 1e-9)
    return found._replace(unit=rows[found.unit]), 1 - explained
