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

LEVELS = ((0.85, 2.5, 0.62), (0.6, 4.0, 0.2))
"""Templates of one neuron are at least so alike, of sizes within this factor, and share at most this of their rates at
each displacement. Two independent neurons share nearly all; a neuron right beside a contact looks less alike from
another place, but then divides the displacements sharply: the second level, for units that stand by themselves, as
the few spikes of what is noise divide anything."""
SURELY_DIVIDED, FAR_EVENER = 0.5, 0.5
"""Together they must fire more evenly over the displacements than each by itself, and far more evenly (so many times as
unevenly) where they share more than this. A neuron that fires at all displacements shares little with a piece of
another."""
MOST_LAG = 4
"""Templates are compared at lags of at most so many samples."""
SPIKES_PER_BIN, FEWEST_BINS, MOST_BINS = 8, 4, 24
SEEN_EVERY_S = 0.25


def join_divided(
    trains: Sequence[np.ndarray], waveforms: Any, depths: np.ndarray, near: np.ndarray, motion: Motion,
    n_samples: int, sampling_rate: float, known: np.ndarray | None = None, standing: np.ndarray | None = None,
    part_of: np.ndarray | None = None,
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
    standing : (n_units,) bool, units that would be kept by themselves; None: all
    part_of : (n_units,) those of the same value were split off one unit, and are alike as they have its template
    """
    known = np.zeros(len(trains), bool) if known is None else known
    standing = np.ones(len(trains), bool) if standing is None else standing
    pairs = [(u, v) for u, v in np.argwhere(np.triu(near, 1)).tolist() if min(len(trains[u]), len(trains[v])) > 0]
    part_of = np.arange(len(trains)) if part_of is None else part_of
    alike = {(u, v): (1.0, 1.0) if part_of[u] == part_of[v] else likeness(waveforms[u], waveforms[v]) for u, v in pairs}
    most_shared = {(u, v): _most_shared(*found, both_stand=bool(standing[u] and standing[v]))
                   for (u, v), found in alike.items()}  # fmt: skip
    candidates = sorted(
        (pair for pair in pairs if most_shared[pair] > 0), key=lambda pair: (_apart(*alike[pair]), pair)
    )
    middles = np.arange(0.5 * SEEN_EVERY_S, n_samples / sampling_rate, SEEN_EVERY_S)
    groups, home = {u: [u] for u in range(len(trains))}, list(range(len(trains)))
    reasons: dict[int, str] = {}
    for u, v in candidates:
        one, other = home[u], home[v]
        if one == other:
            continue
        held = {group: bool(known[groups[group]].any()) for group in (one, other)}
        if all(held.values()):
            continue
        depth = 0.5 * float(depths[u] + depths[v])
        both = [np.concatenate([trains[member] for member in groups[group]]) / sampling_rate for group in (one, other)]
        places = [motion.at(some, np.array([depth]))[:, 0] for some in (*both, middles)]
        shared = shared_rate(*places)
        if shared > most_shared[u, v] or unevenness(*places) > (FAR_EVENER if shared > SURELY_DIVIDED else 1.0):
            continue
        sizes = {group: max(len(trains[member]) for member in groups[group]) for group in held}
        into, gone = sorted(held, key=lambda group: (not held[group], -sizes[group]))
        for member in groups[gone]:
            home[member] = into
        groups[into] += groups.pop(gone)
        cosine = alike[u, v][0]
        reasons[gone] = f"the same neuron at other displacements (templates alike by {cosine:.2f}, {shared:.0%} "
        reasons[gone] += "of their rates shared)"
    return {u: (home[u], reasons[u]) for u in range(len(trains)) if home[u] != u}


def shared_rate(one: np.ndarray, other: np.ndarray, always: np.ndarray) -> float:
    """Share of two units' rates, each as a function of displacement and scaled to sum 1, that they have in common.

    Parameters
    ----------
    one, other : displacements at the spikes of the two units
    always : displacements at evenly spread times
    """
    time, first, second = _counts(one, other, always)
    rates = [counts / np.maximum(time, 1) for counts in (first, second)]
    scaled = [rate / max(rate.sum(), 1e-12) for rate in rates]
    return float(np.minimum(*scaled).sum())


def unevenness(one: np.ndarray, other: np.ndarray, always: np.ndarray) -> float:
    """How unevenly two units together fire over the displacements, against the evener of them; see `shared_rate`."""
    time, first, second = _counts(one, other, always)
    shares = [counts / max(counts.sum(), 1) for counts in (time, first + second, first, second)]
    together, *alone = (float(np.abs(share - shares[0]).sum()) for share in shares[1:])
    return together / max(min(alone), 1e-12)


def _counts(one: np.ndarray, other: np.ndarray, always: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, and spikes of both units, by displacement: bins of equally many spikes."""
    n_bins = int(np.clip(min(len(one), len(other)) // SPIKES_PER_BIN, FEWEST_BINS, MOST_BINS))
    edges = np.unique(np.quantile(np.concatenate([one, other]), np.linspace(0, 1, n_bins + 1)[1:-1]))
    time, first, second = (
        np.bincount(np.searchsorted(edges, some), minlength=len(edges) + 1) for some in (always, one, other)
    )
    return time, first, second


def likeness(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Largest cosine of two waveforms at any lag, and how many times larger one is than the other."""
    sizes = np.sqrt([(one**2).sum(), (other**2).sum()])
    if sizes.min() <= 0:
        return 0.0, np.inf
    channels = (one != 0).any(axis=0) | (other != 0).any(axis=0)
    a, b = one[:, channels], other[:, channels]
    n = len(a)
    products = [
        (a[max(lag, 0) : n + min(lag, 0)] * b[max(-lag, 0) : n + min(-lag, 0)]).sum()
        for lag in range(-MOST_LAG, MOST_LAG + 1)
    ]
    return float(max(products) / sizes.prod()), float(sizes.max() / sizes.min())


def _apart(cosine: float, ratio: float) -> float:
    """Squared distance of two templates, over the product of their sizes."""
    return ratio + 1 / ratio - 2 * cosine


def _most_shared(cosine: float, ratio: float, *, both_stand: bool) -> float:
    levels = LEVELS if both_stand else LEVELS[:1]
    return max((most for least, largest, most in levels if cosine >= least and ratio <= largest), default=0.0)
