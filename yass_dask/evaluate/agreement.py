"""Agreement of a sorting with true spikes, counted as SpikeInterface's ground-truth comparison counts it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from yass_dask.arrayfiles import read_npy, read_npz
from yass_dask.errors import InputError
from yass_dask.evaluate.matching import Matches, Spikes, count_matches, match_spikes, near_other_unit
from yass_dask.evaluate.scores import COLLISION_MS, Agreement, UnitAgreement

LARGEST = 2.0**53
FALSE_SCORE = 0.2
"""A found unit that agrees with no true unit by this much is false."""


class _Comparison(NamedTuple):
    """Spikes labelled by row (true) and column (found) of the matrix of scores, and their matches."""

    truth: Spikes
    found: Spikes
    true_ids: np.ndarray
    found_ids: np.ndarray
    matches: Matches
    scores: np.ndarray
    colliding: np.ndarray
    """(n true spikes,) bool."""


def compare(
    truth: Spikes,
    found: Spikes,
    sampling_rate: float,
    *,
    snr: np.ndarray | None = None,
    delta_ms: float = 0.4,
    min_score: float = 0.5,
) -> Agreement:
    """Compare found spikes with true ones.

    Spikes of a true and a found unit match when at most `delta_ms` apart, each at most once. Units are paired
    one to one so that the sum of accuracies is largest (Hungarian method), pairs below `min_score` left out.

    Parameters
    ----------
    truth, found : times in samples and units of all spikes, in any order.
    snr : (n_units,) ratio of true unit 0, 1, ...; a unit with a ratio counts even if it never fires.

    Raises
    ------
    InputError
        Times and labels differ in length, or a true unit has no ratio in `snr`.
    """
    compared = _match(_checked(truth, "truth"), _checked(found, "found"), sampling_rate, snr, delta_ms)
    partner = _assign(compared.scores, min_score)
    units = tuple(_score_unit(compared, row, partner.get(row), snr) for row in range(len(compared.true_ids)))
    unmatched = sorted(set(range(len(compared.found_ids))) - set(partner.values()))
    best = compared.scores.max(axis=0, initial=0.0)
    rivals = [c for c in unmatched if best[c] >= FALSE_SCORE and int(compared.scores[:, c].argmax()) in partner]
    many = (compared.scores >= FALSE_SCORE).sum(axis=0) > 1
    ids = compared.found_ids.tolist()
    counts = np.bincount(compared.found.labels, minlength=len(ids)).tolist()
    return Agreement(
        units=units,
        found_counts=dict(zip(ids, counts, strict=True)),
        false_units=tuple(ids[column] for column in unmatched if best[column] < FALSE_SCORE),
        redundant_units=tuple(ids[column] for column in rivals),
        overmerged_units=tuple(ids[column] for column in np.flatnonzero(many)),
    )


def compare_files(output: str | Path, ground_truth: str | Path, sampling_rate: float | None = None) -> Agreement:
    """Compare `spike_train.npy` in the output folder of a sort with a `ground_truth.npz`.

    Parameters
    ----------
    ground_truth : file with `spike_times` and `spike_labels`; `snr` and `sampling_rate` are used if there.
    sampling_rate : Hz; needed where neither the ground truth nor the sort says it.

    Raises
    ------
    InputError
        A file or a field is missing.
    """
    train_file = Path(output) / "spike_train.npy"
    for path in (train_file, Path(ground_truth)):
        if not path.is_file():
            raise InputError(f"{path} not found: give the output folder of a finished sort and a ground truth file")
    train = read_npy(train_file, "sort again, which writes it anew")
    fields = read_npz(ground_truth, "give an npz file with spike_times and spike_labels")
    missing = {"spike_times", "spike_labels"} - set(fields)
    if missing:
        raise InputError(f"{ground_truth} has no {', '.join(sorted(missing))}: it holds {', '.join(fields)}")
    rate = sampling_rate or _rate(fields, ground_truth) or _rate_of_sort(Path(output))
    truth = Spikes(*(_whole(fields[name], f"{ground_truth}: {name}") for name in ("spike_times", "spike_labels")))
    found = Spikes(*_whole(train, f"{train_file}: it", columns=2).T)
    return compare(truth, found, rate, snr=_ratios(fields, ground_truth))


def _whole(values: np.ndarray, where: str, columns: int | None = None) -> np.ndarray:
    """Whole numbers, a list of them or rows of some columns, none too large to reckon with."""
    shape = (len(values) if values.ndim else 0, *([] if columns is None else [columns]))
    numbers = values.dtype.kind in "iu" or (values.dtype.kind == "f" and np.isfinite(values).all())
    if values.shape != shape or not numbers or not (np.abs(values.astype(np.float64)) < LARGEST).all():
        raise InputError(f"{where} has shape {values.shape} and type {values.dtype}: give whole numbers, one a spike")
    return values.astype(np.int64)


def _ratios(fields: Mapping[str, np.ndarray], path: str | Path) -> np.ndarray | None:
    snr = fields.get("snr")
    if snr is None or (snr.ndim == 1 and snr.dtype.kind in "iuf"):
        return snr
    raise InputError(f"{path}: snr has shape {snr.shape} and type {snr.dtype}: give one number a unit, or leave it out")


def _rate(fields: Mapping[str, np.ndarray], path: str | Path) -> float:
    """Samples per second, 0 where it is not told."""
    rate = fields.get("sampling_rate", np.zeros(()))
    if rate.size != 1 or rate.dtype.kind not in "iuf" or not 0 <= rate.item() < LARGEST:
        raise InputError(f"{path}: sampling_rate is {rate.tolist()!r}: give samples per second, or leave it out")
    return float(rate.item())


def _rate_of_sort(output: Path) -> float:
    path = output / "sorting.npz"
    if not path.is_file():
        raise InputError(f"sampling rate unknown: neither the ground truth nor {path} says it; give it")
    return _rate(read_npz(path, "sort again, which writes it anew", ["sampling_rate"]), path)


def _checked(spikes: Spikes, name: str) -> Spikes:
    n_times, n_labels = len(spikes.times), len(spikes.labels)
    if n_times != n_labels:
        raise InputError(f"{name}: {n_times} spike times but {n_labels} labels; give one label per spike")
    return spikes.sorted()


def _match(truth: Spikes, found: Spikes, sampling_rate: float, snr: np.ndarray | None, delta_ms: float) -> _Comparison:
    true_ids, found_ids = np.unique(truth.labels), np.unique(found.labels)
    if snr is not None:
        if len(true_ids) and not 0 <= true_ids[0] <= true_ids[-1] < len(snr):
            raise InputError(f"snr has {len(snr)} values, but there is a unit {true_ids[-1]}; give one per unit")
        true_ids = np.arange(len(snr))
    truth = Spikes(truth.times, np.searchsorted(true_ids, truth.labels))
    found = Spikes(found.times, np.searchsorted(found_ids, found.labels))
    matches = match_spikes(truth, found, _samples(delta_ms, sampling_rate))
    counts = count_matches(matches, truth, found, (len(true_ids), len(found_ids)))
    n_true = np.bincount(truth.labels, minlength=len(true_ids))[:, None]
    n_found = np.bincount(found.labels, minlength=len(found_ids))[None, :]
    scores = counts / np.maximum(n_true + n_found - counts, 1)
    colliding = near_other_unit(truth, _samples(COLLISION_MS, sampling_rate))
    return _Comparison(truth, found, true_ids, found_ids, matches, scores, colliding)


def _samples(milliseconds: float, sampling_rate: float) -> int:
    # the small term keeps 0.4 ms at 30 kHz at 12 samples, not the 11 that floating point would leave
    return int(milliseconds * sampling_rate / 1e3 + 1e-6)


def _assign(scores: np.ndarray, min_score: float) -> dict[int, int]:
    """Column of each matched row: the pairing of the largest total score."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(np.where(scores >= min_score, scores, 0.0), maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return {row: column for row, column in pairs if scores[row, column] >= min_score}


def _score_unit(compared: _Comparison, row: int, column: int | None, snr: np.ndarray | None) -> UnitAgreement:
    own = compared.truth.labels == row
    n_spikes, n_collisions = int(own.sum()), int((own & compared.colliding).sum())
    column_or_none = -1 if column is None else column
    matched = own[compared.matches.first]
    matched &= compared.found.labels[compared.matches.second] == column_or_none
    offsets = compared.matches.offsets[matched]
    collided = int(compared.colliding[compared.matches.first[matched]].sum())
    n_found = int((compared.found.labels == column_or_none).sum())
    return UnitAgreement(
        unit_id=int(compared.true_ids[row]),
        snr=None if snr is None else float(snr[row]),
        n_spikes=n_spikes,
        matched_unit=None if column is None else int(compared.found_ids[column]),
        accuracy=0.0 if column is None else float(compared.scores[row, column]),
        recall=len(offsets) / max(n_spikes, 1),
        precision=len(offsets) / max(n_found, 1),
        offset_samples=float(np.median(offsets)) if len(offsets) else None,
        within_one_sample=float((np.abs(offsets) <= 1).mean()) if len(offsets) else None,
        n_collisions=n_collisions,
        collision_recall=collided / n_collisions if n_collisions else None,
    )
