"""Scores of a sorting against the truth: SpikeInterface's ground-truth comparison, and recall of collisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from yass_dask.evaluate import Spikes
from yass_dask.evaluate.matching import match_spikes, near_pairs

DELTA_MS = 0.4
COLLISION_MS = 0.5
COLLISION_SNR = 5.0
LARGE_SNR = 8.0
GOOD = 0.8
OVERMERGED = 0.2
BINS = {"snr<5": (0.0, 5.0), "snr5-8": (5.0, 8.0), "snr8-15": (8.0, 15.0), "snr>15": (15.0, np.inf)}


def score(truth: Mapping[str, np.ndarray], times: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Compare found spikes with the true ones.

    Parameters
    ----------
    truth : fields of ground_truth.npz; the true units are 0 ... len(snr) - 1.
    times, labels : sample and unit of every found spike.

    Returns
    -------
    "scores" of the recording and "units", a list of values for each field of a true unit.
    """
    snr = truth["snr"]
    times, labels = np.asarray(times, dtype=np.int64), np.asarray(labels, dtype=np.int64)
    if not len(times):
        return _nothing_found(truth)
    compared = _compare(truth, times, labels)
    performance = compared.get_performance().loc[np.arange(len(snr))]
    partner = np.array([compared.hungarian_match_12[unit] for unit in range(len(snr))], dtype=np.int64)
    units = {name: performance[name].to_numpy(dtype=float) for name in ("accuracy", "precision", "recall")}
    n_lost = _collisions(truth, Spikes(times, labels), partner)
    scores = _summary(snr, units["accuracy"]) | {
        "n_found": len(np.unique(labels)),
        "n_false": len(compared.get_false_positive_units()),
        "n_redundant": len(compared.get_redundant_units()),
        "n_overmerged": len(compared.get_overmerged_units()),
        "n_redundant_snr8": _count_redundant(compared, snr),
        "n_overmerged_snr8": _count_overmerged(compared, snr),
    }
    return {"scores": scores | _collision_recall(snr, *n_lost), "units": _columns(truth, units, *n_lost)}


def _compare(truth: Mapping[str, np.ndarray], times: np.ndarray, labels: np.ndarray) -> Any:
    from spikeinterface.comparison import compare_sorter_to_ground_truth
    from spikeinterface.core import NumpySorting

    rate = float(truth["sampling_rate"])
    unit_ids = np.arange(len(truth["snr"]))
    true = NumpySorting.from_samples_and_labels([truth["spike_times"]], [truth["spike_labels"]], rate, unit_ids)
    found = NumpySorting.from_samples_and_labels([times], [labels], rate, np.unique(labels))
    return compare_sorter_to_ground_truth(true, found, delta_time=DELTA_MS, exhaustive_gt=True)


def _summary(snr: np.ndarray, accuracy: np.ndarray) -> dict[str, Any]:
    bins = {name: accuracy[(snr >= low) & (snr < high)] for name, (low, high) in BINS.items()}
    large = accuracy[snr >= LARGE_SNR]
    return {
        "n_units": len(snr),
        "accuracy": float(accuracy.mean()),
        "n_good": int((accuracy >= GOOD).sum()),
        "accuracy_by_snr": {name: _mean(inside) for name, inside in bins.items()},
        "n_by_snr": {name: len(inside) for name, inside in bins.items()},
        "accuracy_snr8": _mean(large),
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _count_redundant(compared: Any, snr: np.ndarray) -> int:
    """Redundant found units that repeat a large true unit."""
    repeated = [int(compared.best_match_21[unit]) for unit in compared.get_redundant_units()]
    return int((snr[repeated] >= LARGE_SNR).sum())


def _count_overmerged(compared: Any, snr: np.ndarray) -> int:
    """Overmerged found units with a large true unit in them."""
    agreement = compared.agreement_scores.loc[np.arange(len(snr))]
    large = [agreement[unit].to_numpy()[snr >= LARGE_SNR] for unit in compared.get_overmerged_units()]
    return sum(bool((scores >= OVERMERGED).any()) for scores in large)


def colliding(truth: Mapping[str, np.ndarray]) -> np.ndarray:
    """(n_spikes,) bool: a spike of another unit, on a shared channel, lies at most 0.5 ms away.

    A unit's channels are those where its template rises above one standard deviation of the noise.
    """
    on_channel = np.abs(truth["templates"]).max(axis=1) >= truth["noise_sd"]
    shares = on_channel.astype(np.int64) @ on_channel.T.astype(np.int64) > 0
    np.fill_diagonal(shares, False)
    times, labels = truth["spike_times"], truth["spike_labels"]
    pairs = near_pairs(times, times, _samples(COLLISION_MS, truth))
    near = np.zeros(len(times), dtype=bool)
    near[pairs.first[shares[labels[pairs.first], labels[pairs.second]]]] = True
    return near


def _collisions(truth: Mapping[str, np.ndarray], found: Spikes, partner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colliding spikes of each true unit, and how many of them its partner has."""
    true, found = Spikes(truth["spike_times"], truth["spike_labels"]), found.sorted()
    collides = colliding(truth)
    matches = match_spikes(true, found, _samples(DELTA_MS, truth))
    mine = found.labels[matches.second] == partner[true.labels[matches.first]]
    hit = matches.first[mine & collides[matches.first]]
    n_units = len(partner)
    n_hit = np.bincount(true.labels[hit], minlength=n_units)
    n_hit[partner < 0] = 0
    return np.bincount(true.labels[collides], minlength=n_units), n_hit


def _collision_recall(snr: np.ndarray, n_collisions: np.ndarray, n_hit: np.ndarray) -> dict[str, float | None]:
    """Share found of the colliding spikes of all units above SNR 5; a unit without a partner loses all of its."""
    clear = snr >= COLLISION_SNR
    total = int(n_collisions[clear].sum())
    return {"collision_recall": float(n_hit[clear].sum() / total) if total else None}


def _samples(milliseconds: float, truth: Mapping[str, np.ndarray]) -> int:
    # the small term keeps 0.4 ms at 30 kHz at 12 samples, not the 11 that floating point would leave
    return int(milliseconds * float(truth["sampling_rate"]) / 1e3 + 1e-6)


def _columns(
    truth: Mapping[str, np.ndarray], units: Mapping[str, np.ndarray], n_collisions: np.ndarray, n_hit: np.ndarray
) -> dict[str, list]:
    """What is kept of every true unit, short enough for a line of JSON."""
    snr = truth["snr"]
    columns = {
        "snr": np.round(snr, 2).tolist(),
        "n_spikes": np.bincount(truth["spike_labels"], minlength=len(snr)).tolist(),
        **{name: np.round(values, 4).tolist() for name, values in units.items()},
        "n_collisions": n_collisions.tolist(),
        "n_collisions_found": n_hit.tolist(),
    }
    for name in ("kind", "bursting"):
        if name in truth:
            columns[name] = truth[name].tolist()
    return columns


def _nothing_found(truth: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Scores of a sorting without spikes."""
    snr = truth["snr"]
    none = np.zeros(len(snr))
    n_collisions = np.bincount(truth["spike_labels"][colliding(truth)], minlength=len(snr))
    counts = dict.fromkeys(("found", "false", "redundant", "overmerged", "redundant_snr8", "overmerged_snr8"), 0)
    scores = _summary(snr, none) | {f"n_{name}": count for name, count in counts.items()}
    lost = (n_collisions, np.zeros_like(n_collisions))
    units = dict.fromkeys(("accuracy", "precision", "recall"), none)
    return {"scores": scores | _collision_recall(snr, *lost), "units": _columns(truth, units, *lost)}
