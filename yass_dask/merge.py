"""Stage: which units to split, join or drop, and why; every decision leaves a line in the audit.

Decisions are made on cleaned spikes: each pursued spike less all others. Two units are one if no valley separates
their spikes along the axis that tells them apart best, an axis found on one half of the spikes and tested on the
other; and if the two together do not fire within a refractory time as two independent units would.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask import delayed
from pydantic import BaseModel, ConfigDict, Field

from yass_dask.backends import kernel
from yass_dask.chunked import LazyParts
from yass_dask.cluster import ClusterParams, assign, discriminant
from yass_dask.deconvolve import Spikes
from yass_dask.unitfeatures import Frames, UnitFeatures


class MergeParams(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    min_spikes: int = Field(12, ge=2)
    """Units of fewer spikes are dropped."""
    min_distance_sd: float = Field(5.0, ge=0)
    """Units whose template is nearer to nothing than this, in noise standard deviations along it, are dropped."""
    valley: float = Field(0.75, gt=0, le=1)
    """Two units are one if the density between them stays above this share of the lower peak."""
    max_distance: float = Field(15.0, gt=0)
    """Units whose whitened templates are farther apart are never compared."""
    max_spikes: int = Field(400, ge=50)
    """Spikes looked at per unit, spread evenly over the recording."""
    refractory_ms: float = Field(1.5, gt=0)
    """Two units that fire within this time of each other as often as by chance are not one unit."""


@dataclass(frozen=True)
class Revision:
    """The pieces that units were split into, and the group (new unit) each piece belongs to."""

    events: dict[str, np.ndarray]
    """sample_index, unit_index (the piece), shift, amplitude; spikes that belong to no piece are left out"""
    piece_unit: np.ndarray
    """(n_pieces,) old unit of each piece"""
    piece_group: np.ndarray
    """(n_pieces,) new unit of each piece, -1: dropped"""
    audit: list[dict[str, Any]]
    """One line a decision"""


def revise(
    features: UnitFeatures, spikes: Spikes, frames: Any, levels: Any, refractory: int, n_samples: int,
    params: MergeParams, splitting: ClusterParams, backend: str,
) -> LazyParts:  # fmt: skip
    """Decide on splits, merges and drops.

    Parameters
    ----------
    frames : Delayed Frames of the templates that were pursued
    levels : (n_units,) distance of each template from nothing, in noise standard deviations along it
    refractory, n_samples : in samples: the refractory time, the recording's length
    """
    part = delayed(_revise, name="revise", pure=False)(
        features, spikes, frames, levels, refractory, n_samples, params, splitting, backend
    )
    return LazyParts({"revision": part}, params, 1, _open)


def _revise(
    features: UnitFeatures, spikes: Spikes, frames: Frames, levels: np.ndarray, refractory: int, n_samples: int,
    params: MergeParams, splitting: ClusterParams, backend: str,
) -> dict[str, np.ndarray]:  # fmt: skip
    rows = features.load()
    audit: list[dict[str, Any]] = []
    own = rows["unit_index"] == rows["other_index"]
    mine = {name: values[own] for name, values in rows.items()}
    piece, piece_unit = split(mine, len(levels), splitting, audit, backend)
    alive = _large_enough(piece, piece_unit, levels, params, audit)
    trains = _Trains(spikes.load(), refractory, n_samples)
    pairs = _compare(rows, mine, piece, piece_unit, frames, params, backend)
    group = _join(pairs, alive, piece_unit, np.bincount(piece[piece >= 0], minlength=len(alive)), trains, params, audit)
    kept = piece >= 0
    return {
        **{name: mine[name][kept] for name in ("sample_index", "shift", "amplitude")},
        "unit_index": piece[kept].astype(np.int32),
        "piece_unit": piece_unit.astype(np.int32),
        "piece_group": group.astype(np.int32),
        "audit": np.frombuffer(json.dumps(audit).encode(), np.uint8),
    }


def _open(table: Mapping[str, Any]) -> Revision:
    fields = {name: np.asarray(table[name][:]) for name in table}
    audit = json.loads(fields.pop("audit").tobytes().decode() or "[]")
    return Revision(
        {name: fields[name] for name in ("sample_index", "unit_index", "shift", "amplitude")},
        fields["piece_unit"],
        fields["piece_group"],
        audit,
    )


# --- split -------------------------------------------------------------------------------------------------------


def split(
    rows: Mapping[str, np.ndarray], n_units: int, params: ClusterParams, audit: list, backend: str
) -> tuple[np.ndarray, np.ndarray]:
    """Cut units whose cleaned spikes form separate clusters.

    Returns
    -------
    piece : (n_rows,) piece of each spike, -1 for outliers; piece_unit : (n_pieces,) the unit it was cut from
    """
    piece = np.full(len(rows["unit_index"]), -1)
    owners: list[int] = []
    for unit in range(n_units):
        members = np.flatnonzero(rows["unit_index"] == unit)
        labels, _ = assign(rows["features"][members], params, backend)
        if labels.max(initial=-1) <= 0:
            labels = np.where(labels >= 0, 0, -1) if (labels >= 0).any() else np.zeros(len(members), int)
        n_pieces = int(labels.max(initial=0)) + 1
        piece[members] = np.where(labels >= 0, labels + len(owners), -1)
        if n_pieces > 1:
            sizes = np.bincount(labels[labels >= 0]).tolist()
            audit.append({"unit": unit, "action": "split", "reason": f"its spikes form {n_pieces} clusters",
                          "pieces": list(range(len(owners), len(owners) + n_pieces)), "sizes": sizes})  # fmt: skip
        owners += [unit] * n_pieces
    return piece, np.array(owners, np.int64)


def _large_enough(
    piece: np.ndarray, piece_unit: np.ndarray, levels: np.ndarray, params: MergeParams, audit: list
) -> np.ndarray:
    """(n_pieces,) bool: pieces that are units; the others are dropped, with the reason."""
    count = np.bincount(piece[piece >= 0], minlength=len(piece_unit))
    alive = np.ones(len(piece_unit), bool)
    for p, unit in enumerate(piece_unit):
        if count[p] < params.min_spikes:
            reason = f"{count[p]} spikes, fewer than {params.min_spikes}"
        elif levels[unit] < params.min_distance_sd:
            reason = f"its template is {levels[unit]:.1f} noise sd from nothing, less than {params.min_distance_sd:g}"
        else:
            continue
        alive[p] = False
        audit.append({"unit": int(unit), "piece": p, "action": "drop", "reason": reason})
    return alive


# --- merge -------------------------------------------------------------------------------------------------------


def _compare(
    rows: Mapping[str, np.ndarray], mine: Mapping[str, np.ndarray], piece: np.ndarray, piece_unit: np.ndarray,
    frames: Frames, params: MergeParams, backend: str,
) -> list[tuple[float, int, int, float]]:  # fmt: skip
    """(distance, piece, piece, valley) of every pair of pieces of units that see each other, the nearest first."""
    own_piece = {(int(u), int(t)): int(p) for u, t, p in zip(mine["unit_index"], mine["sample_index"], piece, strict=True)}
    row_piece = np.array(
        [own_piece[int(u), int(t)] for u, t in zip(rows["unit_index"], rows["sample_index"], strict=True)], np.int64
    )
    compared = []
    for u, v, distance in zip(frames.unit, frames.other, frames.distance, strict=True):
        if u == v:
            continue
        seen = (rows["unit_index"] == u) & (rows["other_index"] == v)
        there = (rows["unit_index"] == v) & (rows["other_index"] == v)
        for p in np.flatnonzero(piece_unit == u):
            for q in np.flatnonzero(piece_unit == v):
                a, b = (rows["features"][where & (row_piece == k)] for where, k in ((seen, p), (there, q)))
                compared.append((float(distance), int(p), int(q), separation(a, b, backend)))
    return sorted(compared)


def separation(a: np.ndarray, b: np.ndarray, backend: str) -> float:
    """Valley between two groups of spikes, the axis found on one half and tested on the other, both ways.

    Parameters
    ----------
    a, b : (n, n_local, n_components) features in one frame
    """
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    if min(len(a), len(b)) < 4:
        return 1.0
    left, right = [], []
    for half in (0, 1):
        learn = [group[half::2] for group in (a, b)]
        test = [group[1 - half :: 2] for group in (a, b)]
        axis = discriminant(*learn)
        middle = 0.5 * (np.median(learn[0], axis=0) + np.median(learn[1], axis=0))
        projected = [(group - middle) @ axis for group in test]
        left.append(projected[0])
        right.append(projected[1])
    return float(kernel("valley", backend)(np.concatenate(left), np.concatenate(right)))


class _Trains:
    """Full spike trains, to count how often two units fire together."""

    def __init__(self, spikes: Mapping[str, np.ndarray], refractory: int, n_samples: int) -> None:
        order = np.argsort(spikes["unit_index"], kind="stable")
        units = spikes["unit_index"][order]
        self.samples = spikes["sample_index"][order]
        self.start = np.searchsorted(units, np.arange(int(units.max(initial=-1)) + 2))
        self.refractory, self.n_samples = refractory, n_samples

    def of(self, unit: int) -> np.ndarray:
        if unit + 1 >= len(self.start):
            return self.samples[:0]
        return self.samples[self.start[unit] : self.start[unit + 1]]

    def together(self, u: int, v: int) -> tuple[int, float]:
        """Pairs of spikes within the refractory time, found and expected by chance.

        The first third of a refractory time is left out: there pursuit may put two spikes on one event.
        """
        a, b = self.of(u), self.of(v)
        dead = self.refractory // 3

        def within(reach: int) -> int:
            near = np.searchsorted(b, a + reach, side="right") - np.searchsorted(b, a - reach, side="left")
            return int(near.sum())

        found = within(self.refractory) - within(dead)
        expected = len(a) * len(b) * 2 * (self.refractory - dead) / max(self.n_samples, 1)
        return found, expected


def _join(
    pairs: list[tuple[float, int, int, float]], alive: np.ndarray, piece_unit: np.ndarray, sizes: np.ndarray,
    trains: _Trains, params: MergeParams, audit: list,
) -> np.ndarray:  # fmt: skip
    """New unit of each piece: pairs without a valley are joined, the nearest first, unless a member objects."""
    verdict: dict[tuple[int, int], float] = {}
    for _, p, q, depth in pairs:
        key = (min(p, q), max(p, q))
        verdict[key] = min(verdict.get(key, 1.0), depth)
    root = np.arange(len(alive))
    for distance, p, q, _ in pairs:
        a, b = root[p], root[q]
        if a == b or not (alive[p] and alive[q]) or verdict[min(p, q), max(p, q)] < params.valley:
            continue
        members = [(i, j) for i in np.flatnonzero(root == a) for j in np.flatnonzero(root == b)]
        depths = [verdict[min(i, j), max(i, j)] for i, j in members if (min(i, j), max(i, j)) in verdict]
        if min(depths, default=1.0) < params.valley:
            continue
        found, expected = trains.together(int(piece_unit[p]), int(piece_unit[q]))
        if piece_unit[p] != piece_unit[q] and expected >= 10 and found > 0.5 * expected:
            continue
        larger, smaller = (a, b) if sizes[root == a].sum() >= sizes[root == b].sum() else (b, a)
        root[root == smaller] = larger
        audit.append({"unit": int(piece_unit[smaller]), "piece": int(smaller), "action": "merge",
                      "into_piece": int(larger), "into": int(piece_unit[larger]),
                      "reason": f"no valley between their spikes ({min(depths, default=1.0):.2f}), templates "
                      f"{distance:.1f} apart, {found} of {expected:.1f} expected joint spikes"})  # fmt: skip
    root[~alive] = -1
    kept, group = np.unique(root, return_inverse=True)
    return group.reshape(-1) - int(len(kept) > 0 and kept[0] == -1)
