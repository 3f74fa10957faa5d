"""Stage: templates of the first clusters, and from round to round: cleaned, joined, dropped, and new ones found.

Every unit has an id that it keeps; every decision leaves a line in the audit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from yass_dask.alignment import aligned
from yass_dask.chunked import LazyParts
from yass_dask.cluster import members_of
from yass_dask.duplicates import levels, without_duplicates
from yass_dask.events import Events
from yass_dask.merge import Revision
from yass_dask.motion.dividing import Moving
from yass_dask.motion.poses import POSE, Bins, Followed, StoredPoses, pose_fields
from yass_dask.noise import Noise
from yass_dask.preprocess import Clean
from yass_dask.renewal import refined
from yass_dask.selection import Selection
from yass_dask.sizes import StoredSizes
from yass_dask.sums import find_partners, without_sums
from yass_dask.templates import Averages, StoredAverages, StoredTemplates, Templates, TemplatesParams
from yass_dask.verdicts import Pieces, Trains, UnitFacts

DUPLICATE_LAG_MS = 1.0
PARTNER_MS = 0.4


@dataclass(frozen=True)
class Units:
    """Templates of one round, and how they came about."""

    templates: Templates
    levels: np.ndarray
    """(n_units,) distance of each template from nothing, in standard deviations of the noise along it"""
    next_id: int
    audit: list[dict[str, Any]]
    """Lines {unit, action, into, reason}, in the order of the decisions; action is found, split, merge or drop"""
    stored: StoredTemplates | None = None
    """The same templates, on disk"""
    first_new: int = 0
    """Units of lower ids are known from another sort"""
    sizes: StoredSizes | None = None
    """How large they are over time; None: as large as the templates"""
    poses: StoredPoses | None = None
    """What they look like at each displacement of the tissue; None: as the templates, everywhere"""

    @property
    def handle(self) -> Templates | StoredTemplates:
        """The templates as they travel to tasks, that `load` them."""
        return self.stored or self.templates

    def light(self) -> Units:
        """The same for a task, which reads the templates itself where they are on disk."""
        if self.stored is None:
            return self
        return replace(self, templates=self.templates.select(np.zeros(0, np.int64)), audit=[])


def first_units(
    averages: StoredAverages, clean: Clean, noise: Noise, params: TemplatesParams,
    clusters: Mapping[str, Any] | None = None, moving: Moving | None = None,
) -> LazyParts:  # fmt: skip
    """Units of the first clusters, duplicates joined; opens as Units.

    Where the tissue moves, `moving` and the clusters tell which divide the displacements: these are joined as well.
    """
    return LazyParts.one(
        "templates", _first_units, averages, clean, noise, params, clusters, moving, params=params, version=4,
        open=_opening(moving),
    )  # fmt: skip


def _opening(moving: Moving | None) -> Callable[..., Units]:
    return open_units if moving is None else partial(open_units, bins=moving.bins)


def next_units(
    units: Units, revision: Revision, spikes: Events, left: StoredAverages, found: StoredAverages,
    clean: Clean, noise: Noise, params: TemplatesParams, moving: Moving | None = None,
    selection: Selection | None = None,
) -> LazyParts:  # fmt: skip
    """Units of the next round; opens as Units.

    Parameters
    ----------
    spikes : those of the round
    left : what the spikes of each piece left over, on average
    found : averages of clusters in the residual, units that were missed so far
    moving : where the tissue moves; the units have poses then
    selection : how the spikes were chosen, which their templates are corrected for
    """
    return LazyParts.one(
        "templates", _next_units, units.light(), revision, spikes, left, found, clean, noise, params, moving,
        selection, params=params, version=4,
        open=_opening(moving),
    )  # fmt: skip


def _first_units(
    stored: StoredAverages, clean: Clean, noise: Noise, params: TemplatesParams, clusters: Mapping[str, Any] | None,
    moving: Moving | None,
) -> dict[str, np.ndarray]:  # fmt: skip
    averages = stored.load()
    templates, audit = _new(averages, 0, clean, params)
    fields = stored_fields(templates, len(templates), 0, audit, None, clean, noise, params)
    if moving is None or clusters is None:
        return fields
    units = open_units(fields)
    moving = replace(moving, templates=units.templates)
    revision, counts = _divided(units, members_of(clusters), moving, clean.recording.samples(PARTNER_MS))
    nothing = averages.waveforms[:0]
    seen = Averages(nothing, averages.main_channels[:0], counts, averages.margin)
    joined, followed = refined(seen, revision, units.templates, None, {}, 0, clean, params, moving)
    audit = [*units.audit, *revision.audit]
    fields = stored_fields(joined, units.next_id, 0, audit, None, clean, noise, params)
    return with_poses(fields, followed, noise, moving)


def _divided(
    units: Units, members: Mapping[str, np.ndarray], moving: Moving, refractory: int
) -> tuple[Revision, np.ndarray]:
    """Clusters joined that divide the displacements among them, cut by displacement; and the spikes of each cell."""
    ids, samples = units.templates.ids, members["sample_index"]
    row = np.searchsorted(ids, members["unit_index"])
    row[~np.isin(members["unit_index"], ids)] = -1
    every, audit = np.arange(len(ids)), list[dict[str, Any]]()
    counts = np.bincount(row[row >= 0], minlength=len(ids))
    facts = UnitFacts(ids, units.levels, units.next_id, refractory, moving.n_samples)
    trains = Trains({"unit_index": row[row >= 0], "sample_index": samples[row >= 0]}, facts)
    pieces = Pieces(row, every, ids, counts)
    group = moving.join(every, pieces, samples, trains, facts, audit)
    cut, group, cell_bin = moving.cells(pieces, group, samples, row)
    revision = Revision({}, cut.unit, cut.ids, cut.count, group, audit, cell_bin)
    return revision, np.bincount(cut.of_spike[cut.of_spike >= 0], minlength=len(group))


def _next_units(
    units: Units, revision: Revision, spikes: Events, left: StoredAverages, found: StoredAverages, clean: Clean,
    noise: Noise, params: TemplatesParams, moving: Moving | None, selection: Selection | None,
) -> dict[str, np.ndarray]:  # fmt: skip
    templates, poses, first_new = units.handle.load(), units.poses, units.first_new
    trains = dict(zip(templates.ids.tolist(), trains_of(spikes.load(), len(templates)), strict=True))
    partners = find_partners(templates, trains, clean.recording.samples(PARTNER_MS))
    partners = {u: partner for u, partner in partners.items() if templates.ids[u] >= first_new}
    posed = None if poses is None else (poses.index(), poses.templates())
    excess = None if selection is None else excess_of(units, templates.ids, revision, selection)
    old, followed = refined(left.load(), revision, templates, posed, partners, first_new, clean, params, moving, excess)
    next_id = max([units.next_id, *(revision.piece_id + 1).tolist()])
    new, audit = _new(found.load(), next_id, clean, params)
    audit = [*revision.audit, *audit]
    fields = stored_fields(old.joined(new), next_id + len(new), first_new, audit, trains, clean, noise, params)
    return fields if moving is None else with_poses(fields, followed, noise, moving)


def excess_of(units: Units, ids: np.ndarray, revision: Revision, selection: Selection) -> np.ndarray:
    """(n_pieces,) see `Selection.excess`; 0 of known units, of what was split off, and of units that change."""
    unit = revision.piece_unit
    level = units.levels[unit]
    if units.poses is not None and revision.piece_bin is not None:
        level = units.poses.levels()[units.poses.index().row[unit, revision.piece_bin]]
    as_it_is = (revision.piece_id != ids[unit]) | (revision.piece_id < units.first_new)
    if units.sizes is not None:
        as_it_is |= units.sizes.load().changes[unit]
    piece, amplitude = (np.asarray(revision.members[name][:]) for name in ("unit_index", "amplitude"))
    return selection.excess(piece, amplitude, np.where(as_it_is, np.inf, level))


def trains_of(spikes: Mapping[str, np.ndarray], n_units: int) -> list[np.ndarray]:
    """Samples of each unit's spikes, ascending."""
    order = np.argsort(spikes["unit_index"], kind="stable")
    start = np.searchsorted(spikes["unit_index"][order], np.arange(n_units + 1))
    samples = spikes["sample_index"][order]
    return [samples[start[u] : start[u + 1]] for u in range(n_units)]


def _new(
    averages: Averages, next_id: int, clean: Clean, params: TemplatesParams
) -> tuple[Templates, list[dict[str, Any]]]:
    """Templates of clusters, each with a new id."""
    ids = next_id + np.arange(len(averages.waveforms), dtype=np.int64)
    names = clean.recording.channel_ids
    audit = [
        {"unit": int(unit), "action": "found", "into": None,
         "reason": f"a cluster of clear peaks on channel {names[channel]}"}
        for unit, channel in zip(ids, averages.main_channels, strict=True)
    ]  # fmt: skip
    return aligned(averages, ids, clean, params), audit


def stored_fields(
    templates: Templates, next_id: int, first_new: int, audit: list[dict[str, Any]],
    trains: dict[int, np.ndarray] | None, clean: Clean, noise: Noise, params: TemplatesParams,
) -> dict[str, np.ndarray]:  # fmt: skip
    """What the store keeps of Units."""
    lag = clean.recording.samples(DUPLICATE_LAG_MS)
    kept, lines = without_duplicates(templates.without_noise(), noise, params, lag, first_new)
    kept, sums = without_sums(kept, noise, lag, trains, first_new)
    return {
        "waveforms": kept.waveforms,
        "channels": kept.channels,
        "n_spikes": kept.n_spikes,
        "ids": kept.ids,
        "peak": np.array([kept.peak]),
        "n_channels": np.array([kept.n_channels]),
        "levels": levels(kept, noise),
        "next_id": np.array([next_id]),
        "first_new": np.array([first_new]),
        "audit": np.frombuffer(json.dumps([*audit, *lines, *sums]).encode(), np.uint8),
    }


def with_poses(
    fields: dict[str, np.ndarray], followed: Mapping[int, Followed], noise: Noise, moving: Moving
) -> dict[str, np.ndarray]:
    """The fields of units with those of their poses; a unit is as far from nothing as its poses are on average."""
    templates = StoredTemplates(fields).load()
    poses, more = pose_fields(templates, followed, moving.depths(templates), moving.bins.n_bins)
    unit = np.repeat(np.arange(len(templates)), [len(np.unique(row)) for row in more[POSE + "row"]])
    seen, level = np.maximum(more[POSE + "seen"], 1e-3), levels(poses, noise)
    squares, total = (np.bincount(unit, weight, minlength=len(templates)) for weight in (seen * level**2, seen))
    return fields | more | {POSE + "level": level, "levels": np.sqrt(squares / total)}


def open_units(table: Mapping[str, Any], bins: Bins | None = None) -> Units:
    """Units of the fields that the store kept; `bins` of displacement where there are poses among them."""
    levels, audit = (np.asarray(table[name][:]) for name in ("levels", "audit"))
    next_id, first_new = (int(table[name][0]) for name in ("next_id", "first_new"))
    stored = StoredTemplates(table)
    poses = None if bins is None else StoredPoses(table, bins)
    return Units(stored.load(), levels, next_id, json.loads(audit.tobytes()), stored, first_new, poses=poses)
