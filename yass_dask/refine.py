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
from yass_dask.events import Events
from yass_dask.matching import LowRank, distances, low_rank, noise_levels, pair_overlaps, pairs
from yass_dask.merge import Revision
from yass_dask.noise import Noise
from yass_dask.preprocess import Clean
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

MAX_DUPLICATE_SHARE = 0.5
"""Templates that differ by more than this share of the smaller one's norm are no duplicates, however small."""
DUPLICATE_LAG_MS = 1.0
PARTNER_MS = 0.4
DUPLICATE_SCALE = 1.2
"""... nor those whose sizes differ by more than this factor."""


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

    @property
    def handle(self) -> Templates | StoredTemplates:
        """The templates as they travel to tasks, that `load` them."""
        return self.stored or self.templates


def first_units(averages: StoredAverages, clean: Clean, noise: Noise, params: TemplatesParams) -> LazyParts:
    """Units of the first clusters, duplicates joined; opens as Units."""
    return LazyParts.one(
        "templates", _first_units, averages, clean, noise, params, params=params, version=2, open=open_units
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
        "templates", _next_units, units.handle, units.next_id, revision, spikes, left, found, clean, noise, params,
        params=params, version=2, open=open_units,
    )  # fmt: skip


def _first_units(
    averages: StoredAverages, clean: Clean, noise: Noise, params: TemplatesParams
) -> dict[str, np.ndarray]:
    templates, audit = _new(averages.load(), 0, clean, params)
    return _fields(templates, len(templates), audit, None, clean, noise, params)


def _next_units(
    stored: Templates | StoredTemplates, next_id: int, revision: Revision, spikes: Events, left: StoredAverages,
    found: StoredAverages, clean: Clean, noise: Noise, params: TemplatesParams,
) -> dict[str, np.ndarray]:  # fmt: skip
    templates = stored.load()
    trains = dict(zip(templates.ids.tolist(), trains_of(spikes.load(), len(templates)), strict=True))
    partners = find_partners(templates, trains, clean.recording.samples(PARTNER_MS))
    old = refined(left.load(), revision, templates, partners, clean, params)
    next_id = max([next_id, *(revision.piece_id + 1).tolist()])
    new, audit = _new(found.load(), next_id, clean, params)
    return _fields(old.joined(new), next_id + len(new), [*revision.audit, *audit], trains, clean, noise, params)


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


def _fields(
    templates: Templates, next_id: int, audit: list[dict[str, Any]], trains: dict[int, np.ndarray] | None,
    clean: Clean, noise: Noise, params: TemplatesParams,
) -> dict[str, np.ndarray]:  # fmt: skip
    """What the store keeps of Units."""
    lag = clean.recording.samples(DUPLICATE_LAG_MS)
    kept, lines = without_duplicates(templates.without_noise(), noise, params, lag)
    kept, sums = without_sums(kept, noise, lag, trains)
    return {
        "waveforms": kept.waveforms,
        "channels": kept.channels,
        "n_spikes": kept.n_spikes,
        "ids": kept.ids,
        "peak": np.array([kept.peak]),
        "n_channels": np.array([kept.n_channels]),
        "levels": levels(kept, noise),
        "next_id": np.array([next_id]),
        "audit": np.frombuffer(json.dumps([*audit, *lines, *sums]).encode(), np.uint8),
    }


def open_units(table: Mapping[str, Any]) -> Units:
    """Units of the fields that the store kept."""
    levels, next_id, audit = (np.asarray(table[name][:]) for name in ("levels", "next_id", "audit"))
    stored = StoredTemplates(table)
    return Units(stored.load(), levels, int(next_id[0]), json.loads(audit.tobytes()), stored)


# --- old units ---


def refined(
    left: Averages,
    revision: Revision,
    templates: Templates,
    partners: Mapping[int, tuple[int, int]],
    clean: Clean,
    params: TemplatesParams,
) -> Templates:
    """Templates of the groups: each piece's old template plus the mean its spikes left over, joined by count.

    Pieces of a group are brought to the time of its largest piece first. A unit with a partner (`find_partners`) gets
    the partner's template as well.
    """
    counts = np.zeros(len(revision.piece_unit), np.int64)
    counts[: len(left.n_spikes)] = left.n_spikes
    n_groups = int(revision.piece_group.max(initial=-1)) + 1
    local = local_channels(clean.recording, params.max_channels)
    shape = (n_groups, templates.n_samples + 2 * left.margin, templates.channels.shape[1])
    waveforms, main = np.zeros(shape, np.float32), np.zeros(n_groups, np.int32)
    total, ids = np.zeros(n_groups, np.int64), np.zeros(n_groups, np.int64)
    for group in range(n_groups):
        members = np.flatnonzero(revision.piece_group == group)
        anchor = members[np.argmax(revision.piece_count[members])]
        main[group] = templates.channels[revision.piece_unit[anchor], 0]
        ids[group] = revision.piece_id[anchor]
        total[group] = counts[members].sum()
        cleaned = {p: _cleaned(p, left, revision, templates, local[main[group]]) for p in members}
        for p in members:
            lag = 0 if p == anchor else _best_lag(cleaned[anchor], cleaned[p], left.margin)
            waveforms[group] += counts[p] * np.roll(cleaned[p], lag, axis=0)
        waveforms[group] /= max(total[group], 1)
        if (partner := partners.get(int(revision.piece_unit[anchor]))) is not None:
            whole = np.pad(templates.waveforms[partner[0]], ((left.margin, left.margin), (0, 0)))
            there = _on_channels(whole, templates.channels[partner[0]], local[main[group]], templates.n_channels)
            waveforms[group] += np.roll(there, partner[1], axis=0)
    order = np.argsort(ids, kind="stable")
    averages = Averages(waveforms[order], main[order], total[order], left.margin)
    return aligned(averages, ids[order], clean, params)


def _cleaned(p: Any, left: Averages, revision: Revision, templates: Templates, wanted: np.ndarray) -> np.ndarray:
    """Old template of a piece plus what its spikes left over, with the margin, on the wanted channels."""
    unit = revision.piece_unit[p]
    piece = np.pad(templates.waveforms[unit], ((left.margin, left.margin), (0, 0)))
    if p < len(left.waveforms):
        piece = piece + left.waveforms[p]
    return _on_channels(piece, templates.channels[unit], wanted, templates.n_channels)


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


# --- duplicates and nothing ---


def levels(templates: Templates, noise: Noise) -> np.ndarray:
    """(n_units,) distance of each template from nothing, in standard deviations of the noise along it."""
    ranked = low_rank(templates, noise, 5, templates.n_channels)
    signal = np.maximum(ranked.norms - ranked.doubt, 0)
    return np.sqrt(signal / np.maximum(noise_levels(ranked, noise), 1e-9))


def without_duplicates(
    templates: Templates, noise: Noise, params: TemplatesParams, max_lag: int
) -> tuple[Templates, list[dict[str, Any]]]:
    """Join templates that differ by less than noise would show; drop those too small to be told from nothing.

    Joins go from the nearest pair on; the template of more spikes stands for both. Returns the audit as well.
    """
    ranked = low_rank(templates, noise, 5, templates.n_channels)
    sd = np.sqrt(np.maximum(noise_levels(ranked, noise), 1e-9))
    root = np.arange(len(templates))
    itself = root.copy()
    audit: list[dict[str, Any]] = []
    for distance, u, v in _close_pairs(ranked, templates.n_channels, sd, params, max_lag):
        a, b = int(root[u]), int(root[v])
        if a == b:
            continue
        larger, smaller = (a, b) if templates.n_spikes[a] >= templates.n_spikes[b] else (b, a)
        root[root == smaller] = larger
        audit.append(
            {"unit": int(templates.ids[smaller]), "action": "merge", "into": int(templates.ids[larger]),
             "reason": f"templates {distance:.1f} noise sd apart"}
        )  # fmt: skip
    height = np.abs(templates.waveforms).max(axis=(1, 2), initial=0)
    kept = np.flatnonzero((root == itself) & (height >= params.min_peak_sd))
    for u in np.flatnonzero((root == itself) & (height < params.min_peak_sd)).tolist():
        audit.append(
            {"unit": int(templates.ids[u]), "action": "drop", "into": None,
             "reason": f"peak of {height[u]:.1f} sd, less than {params.min_peak_sd:g}"}
        )  # fmt: skip
    return templates.select(kept), audit


def _close_pairs(
    ranked: LowRank, n_channels: int, sd: np.ndarray, params: TemplatesParams, max_lag: int
) -> list[tuple[float, int, int]]:
    """(distance, u, v) of pairs nearer than the params allow, the nearest first."""
    start, other = pairs(ranked, n_channels)
    overlaps = pair_overlaps(ranked, start, other, n_channels)
    distance, _ = distances(ranked, start, other, overlaps, max_lag, DUPLICATE_SCALE)
    unit = np.repeat(np.arange(len(start) - 1), np.diff(start))
    norm = np.sqrt(np.minimum(ranked.norms[unit], ranked.norms[other]))
    in_sd = distance / np.sqrt(sd[unit] * sd[other])
    close = (distance < params.duplicate_share * norm) | (
        (in_sd < params.duplicate_sd) & (distance < MAX_DUPLICATE_SHARE * norm)
    )
    close &= unit < other
    return sorted(zip(in_sd[close].tolist(), unit[close].tolist(), other[close].tolist(), strict=True))
