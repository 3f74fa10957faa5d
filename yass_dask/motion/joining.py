"""Units that divide the displacements of the tissue among them are one neuron, seen from several places.

Interpolated traces show a large neuron a little differently at each displacement, and clustering and pursuit take what
differs by several noise standard deviations for several units. So each of these has its own template, which fits where
it fires; and none fires where another does. Two neurons, however alike, fire at all displacements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from yass_dask.motion.displacement import Motion

LEAST_COSINE, MOST_RATIO, MOST_LAG = 0.85, 2.0, 4
"""Templates of one neuron are so alike, of sizes within this factor, at a lag of at most so many samples."""
MOST_SHARED = 0.5
"""Of their rates at each displacement, no more than this is shared; two independent neurons share nearly all."""
SPIKES_PER_BIN, FEWEST_BINS, MOST_BINS = 8, 4, 24
SEEN_EVERY_S = 0.25


def join_divided(
    trains: Sequence[np.ndarray], waveforms: Any, depths: np.ndarray, near: np.ndarray, motion: Motion,
    n_samples: int, sampling_rate: float, known: np.ndarray | None = None,
) -> dict[int, tuple[int, str]]:  # fmt: skip
    """Row of the unit that each joined unit goes to, and why; the most alike first, as long as none are left.

    A group is compared as a whole: its template is its largest member's, its spikes are all of its members'.

    Parameters
    ----------
    trains : samples of each unit's spikes
    waveforms : (n_units, n_samples, n_channels), read a unit at a time
    depths : (n_units,) um
    near : (n_units, n_units) bool, pairs to be looked at
    known : (n_units,) bool, units of another sort: others go to them, and no two of them are joined; None: none is
    """
    known = np.zeros(len(trains), bool) if known is None else known
    alike = {(u, v): _cosine(waveforms[u], waveforms[v]) for u, v in np.argwhere(np.triu(near, 1)).tolist()}
    candidates = sorted((pair for pair in alike if alike[pair] >= LEAST_COSINE), key=lambda pair: (-alike[pair], pair))
    middles = np.arange(0.5 * SEEN_EVERY_S, n_samples / sampling_rate, SEEN_EVERY_S)
    groups, home = {u: [u] for u in range(len(trains))}, list(range(len(trains)))
    reasons: dict[int, str] = {}
    for u, v in candidates:
        one, other = home[u], home[v]
        if one == other or min(len(trains[u]), len(trains[v])) == 0:
            continue
        held = {group: bool(known[groups[group]].any()) for group in (one, other)}
        if all(held.values()):
            continue
        depth = 0.5 * float(depths[u] + depths[v])
        both = [np.concatenate([trains[member] for member in groups[group]]) / sampling_rate for group in (one, other)]
        shared = shared_rate(*(motion.at(some, np.array([depth]))[:, 0] for some in (*both, middles)))
        if shared > MOST_SHARED:
            continue
        sizes = {group: max(len(trains[member]) for member in groups[group]) for group in held}
        into, gone = sorted(held, key=lambda group: (not held[group], -sizes[group]))
        for member in groups[gone]:
            home[member] = into
        groups[into] += groups.pop(gone)
        reasons[gone] = f"the same neuron at other displacements (templates alike by {alike[u, v]:.2f}, {shared:.0%} "
        reasons[gone] += "of their rates shared)"
    return {u: (home[u], reasons[u]) for u in range(len(trains)) if home[u] != u}


def shared_rate(one: np.ndarray, other: np.ndarray, always: np.ndarray) -> float:
    """Share of two units' rates, each as a function of displacement and scaled to sum 1, that they have in common.

    Parameters
    ----------
    one, other : displacements at the spikes of the two units
    always : displacements at evenly spread times
    """
    n_bins = int(np.clip(min(len(one), len(other)) // SPIKES_PER_BIN, FEWEST_BINS, MOST_BINS))
    edges = np.unique(np.quantile(np.concatenate([one, other]), np.linspace(0, 1, n_bins + 1)[1:-1]))
    time, first, second = (
        np.bincount(np.searchsorted(edges, some), minlength=len(edges) + 1) for some in (always, one, other)
    )
    rates = [counts / np.maximum(time, 1) for counts in (first, second)]
    scaled = [rate / max(rate.sum(), 1e-12) for rate in rates]
    return float(np.minimum(*scaled).sum())


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Largest cosine of two waveforms at any lag; 0 where their sizes are not alike."""
    sizes = np.sqrt([(one**2).sum(), (other**2).sum()])
    if sizes.min() <= 0 or sizes.max() > MOST_RATIO * sizes.min():
        return 0.0
    channels = (one != 0).any(axis=0) | (other != 0).any(axis=0)
    a, b = one[:, channels], other[:, channels]
    n = len(a)
    products = [
        (a[max(lag, 0) : n + min(lag, 0)] * b[max(-lag, 0) : n + min(-lag, 0)]).sum()
        for lag in range(-MOST_LAG, MOST_LAG + 1)
    ]
    return float(max(products) / sizes.prod())
