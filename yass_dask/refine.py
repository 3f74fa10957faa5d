"""Stage: templates of the first clusters, and from round to round: cleaned, joined, dropped, and new ones found.

Every unit has an id that it keeps; every decision leaves a line in the audit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from yass_dask.chunked import LazyParts
from yass_dask.duplicates import levels, without_duplicates
from yass_dask.events import Events
from yass_dask.merge import Revision
from yass_dask.noise import Noise
from yass_dask.preprocess import Clean
from yass_dask.sizes import StoredSizes
from yass_dask.sums import find_partners, without_sums
from yass_dask.templates import (
    Averages,
    StoredAverages,
    StoredTemplates,
    Templates,
    TemplatesParams,
    aligned,
    local_channels,
)

DUPLICATE_LAG_MS = 1.0
PARTNER_MS = 0.4
KNOWN_COUNT = 50
"""What is known of a unit from another sort counts as so many spikes when its template is averaged again."""


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

    @property
    def handle(self) -> Templates | StoredTemplates:
        """The templates as they travel to tasks, that `load` them."""
        return self.stored or self.templates


def first_units(averages: StoredAverages, clean: Clean, noise: Noise, params: TemplatesParams) -> LazyParts:
    """Units of the first clusters, duplicates joined; opens as Units."""
    return LazyParts.one(
        "templates", _first_units, averages, clean, noise, params, params=params, version=3, open=open_units
    )


def next_units(
    units: Units, revision: Revision, spikes: Events, left: StoredAverages, found: StoredAverages,
    clean: Clean, noise: Noise, params: TemplatesParams,
) -> LazyParts:  # fmt: skip
    """Units of the next round; opens as Units.

    Parameters
    ----------
    spikes : those of the round
    left : what the spikes of each piece left over, on average
    found : averages of clusters in the residual, units that were missed so far
    """
    return LazyParts.one(
        "templates", _next_units, units.handle, units.next_id, units.first_new, revision, spikes, left, found,
        clean, noise, params, params=params, version=3, open=open_units,
    )  # fmt: skip


def _first_units(
    averages: StoredAverages, clean: Clean, noise: Noise, params: TemplatesParams
) -> dict[str, np.ndarray]:
    templates, audit = _new(averages.load(), 0, clean, params)
    return stored_fields(templates, len(templates), 0, audit, None, clean, noise, params)


def _next_units(
    stored: Templates | StoredTemplates, next_id: int, first_new: int, revision: Revision, spikes: Events,
    left: StoredAverages, found: StoredAverages, clean: Clean, noise: Noise, params: TemplatesParams,
) -> dict[str, np.ndarray]:  # fmt: skip
    templates = stored.load()
    trains = dict(zip(templates.ids.tolist(), trains_of(spikes.load(), len(templates)), strict=True))
    partners = find_partners(templates, trains, clean.recording.samples(PARTNER_MS))
    partners = {u: partner for u, partner in partners.items() if templates.ids[u] >= first_new}
    old = refined(left.load(), revision, templates, partners, first_new, clean, params)
    next_id = max([next_id, *(revision.piece_id + 1).tolist()])
    new, audit = _new(found.load(), next_id, clean, params)
    audit = [*revision.audit, *audit]
    return stored_fields(old.joined(new), next_id + len(new), first_new, audit, trains, clean, noise, params)


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


def open_units(table: Mapping[str, Any]) -> Units:
    """Units of the fields that the store kept."""
    levels, audit = (np.asarray(table[name][:]) for name in ("levels", "audit"))
    next_id, first_new = (int(table[name][0]) for name in ("next_id", "first_new"))
    stored = StoredTemplates(table)
    return Units(stored.load(), levels, next_id, json.loads(audit.tobytes()), stored, first_new)


# --- old units ---


def refined(
    left: Averages,
    revision: Revision,
    templates: Templates,
    partners: Mapping[int, tuple[int, int]],
    first_new: int,
    clean: Clean,
    params: TemplatesParams,
) -> Templates:
    """Templates of the groups: each piece's old template plus the mean its spikes left over, joined by count.

    Pieces of a group are brought to the time of its largest piece, or of its known one, first. A unit with a partner
    (`find_partners`) gets the partner's template as well. Units of ids below `first_new` are known.
    """
    counts = np.zeros(len(revision.piece_unit), np.int64)
    counts[: len(left.n_spikes)] = left.n_spikes
    n_groups = int(revision.piece_group.max(initial=-1)) + 1
    local = local_channels(clean.recording, params.max_channels)
    shape = (n_groups, templates.n_samples + 2 * left.margin, templates.channels.shape[1])
    waveforms, main = np.zeros(shape, np.float32), np.zeros(n_groups, np.int32)
    total, ids = np.zeros(n_groups, np.int64), np.zeros(n_groups, np.int64)
    sizes = _sizes(revision, templates.ids, first_new)
    for group in range(n_groups):
        members = np.flatnonzero(revision.piece_group == group)
        known = revision.piece_id[members] < first_new
        anchor = members[np.argmax(np.where(known, np.inf, revision.piece_count[members]))]
        main[group] = templates.channels[revision.piece_unit[anchor], 0]
        ids[group] = revision.piece_id[anchor]
        total[group] = counts[members].sum()
        cleaned = {p: _cleaned(p, left, revision, templates, local[main[group]]) for p in members}
        for p in members:
            lag = 0 if p == anchor else _best_lag(cleaned[anchor], cleaned[p], left.margin)
            waveforms[group] += counts[p] * sizes[p] * np.roll(cleaned[p], lag, axis=0)
        if known.any():
            there = _template(revision.piece_unit[anchor], left.margin, templates, local[main[group]])
            waveforms[group] += KNOWN_COUNT * there
            total[group] += KNOWN_COUNT
        waveforms[group] /= max(total[group], 1)
        if (partner := partners.get(int(revision.piece_unit[anchor]))) is not None:
            there = _template(partner[0], left.margin, templates, local[main[group]])
            waveforms[group] += np.roll(there, partner[1], axis=0)
    order = np.argsort(ids, kind="stable")
    averages = Averages(waveforms[order], main[order], total[order], left.margin)
    return aligned(averages, ids[order], clean, params)


def _sizes(revision: Revision, ids: np.ndarray, first_new: int) -> np.ndarray:
    """(n_pieces,) size of pieces of known units that are others, relative to those: what is averaged is x / a.

    A new neuron that fires beside a known one is found at some size of that one's template, not at its own.
    """
    sizes, of = np.ones(len(revision.piece_unit), np.float32), ids[revision.piece_unit]
    strangers = np.flatnonzero((of < first_new) & (of != revision.piece_id))
    if len(strangers):
        piece, amplitude = (np.asarray(revision.members[name][:]) for name in ("unit_index", "amplitude"))
        sizes[strangers] = [np.median(amplitude[piece == p]) for p in strangers]
    return sizes


def _cleaned(p: Any, left: Averages, revision: Revision, templates: Templates, wanted: np.ndarray) -> np.ndarray:
    """Old template of a piece plus what its spikes left over, with the margin, on the wanted channels."""
    unit = revision.piece_unit[p]
    piece = np.pad(templates.waveforms[unit], ((left.margin, left.margin), (0, 0)))
    if p < len(left.waveforms):
        piece = piece + left.waveforms[p]
    return _on_channels(piece, templates.channels[unit], wanted, templates.n_channels)


def _template(unit: Any, margin: int, templates: Templates, wanted: np.ndarray) -> np.ndarray:
    """A template with a margin of zeros, on the wanted channels."""
    whole = np.pad(templates.waveforms[unit], ((margin, margin), (0, 0)))
    return _on_channels(whole, templates.channels[unit], wanted, templates.n_channels)


def _on_channels(waveform: np.ndarray, channels: np.ndarray, wanted: np.ndarray, n_channels: int) -> np.ndarray:
    """The same waveform on another list of channels."""
    full = np.zeros((len(waveform), n_channels + 1), np.float32)
    full[:, channels] = waveform
    full[:, n_channels] = 0  # padding
    return full[:, wanted]


def _best_lag(reference: np.ndarray, other: np.ndarray, reach: int) -> int:
    """Whole samples by which `other` must be moved to lie best on `reference`."""
    lags = np.arange(-reach, reach + 1)
    scores = [float((reference * np.roll(other, lag, axis=0)).sum()) for lag in lags]
    return int(lags[int(np.argmax(scores))])
