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
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import pdtrc

from yass_dask.chunked import LazyParts, lazy_call
from yass_dask.cluster import ClusterParams, assign
from yass_dask.events import Events, evenly
from yass_dask.motion.dividing import Moving
from yass_dask.templates import Templates
from yass_dask.unitfeatures import StoredFrames
from yass_dask.verdicts import Pieces, Trains, UnitFacts, Verdict, compare, most_alike

FOREIGN = 0.2
MAX_TASKS, UNITS_A_TASK = 16, 8
NO_MAINS: Mapping[int, int] = {}
MEMBER_FIELDS = ("sample_index", "unit_index", "shift", "amplitude")


class MergeParams(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    min_spikes: int = Field(12, ge=2)
    """Units of fewer spikes are dropped."""
    min_distance_sd: float = Field(3.5, ge=0)
    """Units whose template is nearer to nothing than this, in noise sd along it, are dropped from round
    to round. What is left out too soon would be taken for its neighbours; at the end `min_accuracy` decides."""
    valley: float = Field(0.75, gt=0, le=1)
    """Two units are one if the density between them stays above this share of the lower peak."""
    max_distance: float = Field(15.0, gt=0)
    """Units whose whitened templates are farther apart are never compared."""
    max_spikes: int = Field(1000, ge=50)
    """Spikes looked at per unit, spread evenly over the recording."""
    min_accuracy: float = Field(0.5, ge=0, le=1)
    """A unit whose expected accuracy (noise among its spikes and missed ones counted) is less is dropped at the end."""
    min_likeness: float = Field(0.7, ge=0, le=1)
    """Noise picked for its likeness lies lower than its own mean would: a unit whose spikes are less likely than this
    share of what its template should make them is dropped at the end."""
    max_coincident: float = Field(0.5, gt=0, le=1)
    """A unit of which more than this share fires together with a larger one nearby is a double, dropped at the end."""
    refractory_ms: float = Field(1.5, gt=0)
    """Two units that fire within this time of each other as often as by chance are not one unit."""

    def of_share(self, share: float) -> MergeParams:
        """The same for a share of the recording."""
        return self.model_copy(update={"min_spikes": max(2, int(np.ceil(share * self.min_spikes)))})


@dataclass(frozen=True)
class Revision:
    """The pieces that units were split into, and the group (new unit) each piece belongs to."""

    members: Mapping[str, Any]
    """Fields sample_index, unit_index (the piece), shift, amplitude, on disk; spikes that belong to no piece are left
    out"""
    piece_unit: np.ndarray
    """(n_pieces,) old unit (its row) of each piece"""
    piece_id: np.ndarray
    """(n_pieces,) id of each piece: the unit's for one of them, see `split`, a new one for the others"""
    piece_count: np.ndarray
    """(n_pieces,) spikes of each piece among those looked at"""
    piece_group: np.ndarray
    """(n_pieces,) new unit of each piece, -1: dropped; a group's id is that of its largest, or known, piece"""
    audit: list[dict[str, Any]]
    """Lines {unit, action, into, reason}, by ids"""
    piece_bin: np.ndarray | None = None
    """(n_pieces,) bin of displacement that a piece's spikes are from, where the tissue moves"""


def find_clusters(features: Events, n_units: int, params: ClusterParams, backend: str) -> LazyParts:
    """Clusters of each unit's cleaned spikes, a few units a task.

    Opens as a mapping of fields row (of the features, in the units' own frames) and label (-1: in no cluster).
    """
    groups = np.array_split(np.arange(n_units), max(1, min(MAX_TASKS, n_units // UNITS_A_TASK)))
    parts = {
        f"units-{k:05d}": lazy_call("clusters", _clusters_of, features, group, params, backend)
        for k, group in enumerate(groups)
    }
    return LazyParts(parts, params, 1, dict)


def _clusters_of(features: Events, units: np.ndarray, params: ClusterParams, backend: str) -> dict[str, np.ndarray]:
    unit, other = (np.asarray(features.table[name][:]) for name in ("unit_index", "other_index"))
    values = np.asarray(features.table["features"][:])
    rows, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for u in units:
        rows.append(np.flatnonzero((unit == u) & (other == u)))
        labels.append(assign(values[rows[-1]], params, backend)[0])
    return {"row": np.concatenate(rows), "label": np.concatenate(labels)}


def revise(
    features: Events, clusters: Mapping[str, Any], spikes: Events, frames: StoredFrames, facts: UnitFacts,
    params: MergeParams, backend: str, moving: Moving | None = None,
) -> LazyParts:  # fmt: skip
    """Decide on splits, merges and drops; opens as Revision.

    Parameters
    ----------
    features : cleaned spikes in their units' frames
    clusters : see `find_clusters`
    spikes : all spikes of the round
    moving : where the tissue moves: units that divide the displacements are joined, and pieces cut by displacement
    """
    return LazyParts.one(
        "revision", _revise, features, clusters, spikes, frames, facts, params, backend, moving,
        params=params, version=3, open=_open,
    )  # fmt: skip


def _revise(
    features: Events, clusters: Mapping[str, Any], spikes: Events, frames: StoredFrames, facts: UnitFacts,
    params: MergeParams, backend: str, moving: Moving | None,
) -> dict[str, np.ndarray]:  # fmt: skip
    rows = features.load()
    audit: list[dict[str, Any]] = []
    own = rows["unit_index"] == rows["other_index"]
    mine = {name: values[own] for name, values in rows.items()}
    labels = np.full(len(own), -1)
    labels[np.asarray(clusters["row"][:])] = np.asarray(clusters["label"][:])
    seen = frames.load()
    mains = most_alike(mine, labels[own], seen, facts)
    pieces = split(mine["unit_index"], labels[own], facts, audit, mains)
    alive = _large_enough(pieces, facts, params, audit)
    trains = Trains(spikes.load(), facts)
    verdicts = compare(rows, mine, pieces, seen, trains, backend)
    group = _join(verdicts, alive, pieces.ids < facts.first_new, pieces, trains, params, audit)
    bins = {}
    if moving is not None:
        group = moving.join(group, pieces, mine["sample_index"], trains, facts, audit)
        pieces, group, bins["piece_bin"] = moving.cells(pieces, group, mine["sample_index"], mine["unit_index"])
    kept = pieces.of_spike >= 0
    return bins | {
        **{name: mine[name][kept] for name in ("sample_index", "shift", "amplitude")},
        "unit_index": pieces.of_spike[kept].astype(np.int32),
        "piece_unit": pieces.unit.astype(np.int32),
        "piece_id": pieces.ids,
        "piece_count": pieces.count,
        "piece_group": group.astype(np.int32),
        "audit": np.frombuffer(json.dumps(audit).encode(), np.uint8),
    }


def _open(table: Mapping[str, Any]) -> Revision:
    fields = {name: np.asarray(table[name][:]) for name in table if name not in MEMBER_FIELDS}
    audit = json.loads(fields.pop("audit").tobytes())
    return Revision(table, **fields, audit=audit)


def gather_pieces(revision: Revision, templates: Templates, found: Events, max_spikes: int) -> LazyParts:
    """Members of the pieces (at most `max_spikes` of each), and of the units found after them, as one table in time
    order.

    Opens as Events with fields sample_index, unit_index, shift, amplitude, main_channel.
    """
    main, params = templates.channels[revision.piece_unit, 0], {"max_spikes": max_spikes}
    return LazyParts.one(
        "pieces", _gather_pieces, revision, main, found, max_spikes, params=params, version=2, open=Events
    )


def _gather_pieces(revision: Revision, main: np.ndarray, found: Events, max_spikes: int) -> dict[str, np.ndarray]:
    members = {name: np.asarray(revision.members[name][:]) for name in MEMBER_FIELDS}
    members["main_channel"] = main[members["unit_index"]].astype(np.int32)
    order = np.argsort(members["sample_index"], kind="stable")
    kept = order[evenly(members["unit_index"][order], max_spikes)]
    new = found.load()
    new["unit_index"] = new["unit_index"] + np.int32(len(main))
    both = {name: np.concatenate([values[kept], new[name]]) for name, values in members.items()}
    order = np.argsort(both["sample_index"], kind="stable")
    return {name: values[order] for name, values in both.items()}


# --- split ---


def split(
    units: np.ndarray, clusters: np.ndarray, facts: UnitFacts, audit: list, mains: Mapping[int, int] = NO_MAINS
) -> Pieces:
    """Cut units whose cleaned spikes form separate clusters; spikes that lie in none belong to no piece.

    Parameters
    ----------
    units, clusters : (n_spikes,) unit of each spike, and its cluster within the unit
    mains : of some units the cluster that keeps the id; of others it is the largest
    """
    piece = np.full(len(units), -1)
    owners: list[int] = []
    ids: list[int] = []
    counts: list[int] = []
    next_id = facts.next_id
    for unit, unit_id in enumerate(facts.ids):
        members = np.flatnonzero(units == unit)
        labels = clusters[members]
        if labels.max(initial=-1) < 0:
            labels = np.zeros(len(members), int)
        sizes = np.bincount(labels[labels >= 0], minlength=1)
        piece[members] = np.where(labels >= 0, labels + len(owners), -1)
        main = mains.get(unit, int(sizes.argmax()))
        for k, size in enumerate(sizes):
            is_first = k == main
            owners.append(unit)
            ids.append(int(unit_id) if is_first else next_id)
            counts.append(int(size))
            if not is_first:
                audit.append({"unit": next_id, "action": "split", "into": None,
                              "reason": f"{size} spikes of unit {unit_id} form a cluster of their own"})  # fmt: skip
                next_id += 1
    return Pieces(piece, *(np.array(values, np.int64) for values in (owners, ids, counts)))


def _large_enough(pieces: Pieces, facts: UnitFacts, params: MergeParams, audit: list) -> np.ndarray:
    """(n_pieces,) bool: pieces that are units; the others are dropped, with the reason."""
    alive = np.ones(len(pieces.unit), bool)
    for p, (unit, unit_id, count) in enumerate(zip(pieces.unit, pieces.ids, pieces.count, strict=True)):
        level = facts.levels[unit]
        if unit_id < facts.first_new:
            continue
        if count < params.min_spikes:
            reason = f"{count} spikes, fewer than {params.min_spikes}"
        elif level < params.min_distance_sd:
            reason = f"its template is {level:.1f} noise sd from nothing, less than {params.min_distance_sd:g}"
        else:
            continue
        alive[p] = False
        audit.append({"unit": int(unit_id), "action": "drop", "into": None, "reason": reason})
    return alive


# --- merge ---


def _join(
    verdicts: list[Verdict], alive: np.ndarray, known: np.ndarray, pieces: Pieces, trains: Trains,
    params: MergeParams, audit: list,
) -> np.ndarray:  # fmt: skip
    """New unit of each piece: pairs without a valley and bursts are joined, the nearest first.

    A pair that was found separate keeps the groups of its two pieces apart; so do two known units.
    """
    depths: dict[tuple[int, int], float] = {}
    for _, p, q, valley, _ in verdicts:
        key = (min(p, q), max(p, q))
        depths[key] = min(depths.get(key, 1.0), valley)
    bursting = {(min(p, q), max(p, q)) for _, p, q, _, bursts in verdicts if bursts}
    root = np.arange(len(alive))
    for distance, p, q, _, _ in verdicts:
        a, b = root[p], root[q]
        if a == b or not (alive[p] and alive[q]) or (known[a] and known[b]):
            continue
        one, two = (np.flatnonzero(root == group).tolist() for group in (a, b))
        keys = [(min(i, j), max(i, j)) for i in one for j in two]
        depth = min(1.0 if key in bursting else depths.get(key, 1.0) for key in keys)
        found, expected = trains.together(int(pieces.unit[p]), int(pieces.unit[q]))
        independent = pieces.unit[p] != pieces.unit[q] and surely_independent(found, expected)
        if depth < params.valley or independent:
            continue
        larger, smaller = sorted((a, b), key=lambda piece: (not known[piece], -pieces.count[piece], piece))
        root[root == smaller] = larger
        in_burst = (min(p, q), max(p, q)) in bursting
        shown = "the same shape smaller, in bursts" if in_burst else f"no valley between their spikes ({depth:.2f})"
        audit.append({"unit": int(pieces.ids[smaller]), "action": "merge", "into": int(pieces.ids[larger]),
                      "reason": f"{shown}, templates {distance:.1f} apart, "
                      f"{found} joint spikes where chance gives {expected:.1f}"})  # fmt: skip
    root[~alive] = -1
    kept, group = np.unique(root, return_inverse=True)
    return group.reshape(-1) - int(len(kept) > 0 and kept[0] == -1)


def surely_independent(found: int, expected: float) -> bool:
    """Would two halves of one unit show so many joint spikes in less than 1 of 100 cases?

    One unit shows none but for foreign spikes: FOREIGN of what chance gives two units.
    """
    return found > 0.5 * expected and bool(pdtrc(found - 1, FOREIGN * expected) < 0.01)
