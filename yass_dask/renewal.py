"""Templates of the next round: what the pieces of each unit looked like, and what their spikes left over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from yass_dask.alignment import Cut, cut_of
from yass_dask.merge import Revision
from yass_dask.motion.dividing import Moving
from yass_dask.motion.poses import Followed, Poses, follow
from yass_dask.preprocess import Clean
from yass_dask.templates import Averages, Templates, TemplatesParams, local_channels

KNOWN_COUNT = 50
"""What is known of a unit from another sort counts as so many spikes when its template is averaged again."""


def refined(
    left: Averages,
    revision: Revision,
    templates: Templates,
    poses: tuple[Poses, Templates] | None,
    partners: Mapping[int, tuple[int, int]],
    first_new: int,
    clean: Clean,
    params: TemplatesParams,
    moving: Moving | None = None,
    excess: np.ndarray | None = None,
) -> tuple[Templates, dict[int, Followed]]:
    """Templates of the groups, and the poses of those units (by id) that look different at each displacement.

    A template is the mean, by count, of what each piece's spikes were taken for plus what they left over on average.
    Pieces of a group are brought to the time of its largest piece, or of its known one, first. A unit with a partner
    (`find_partners`) gets the partner's template as well. Units of ids below `first_new` are known. `excess`, of each
    piece, is what its spikes are too large by for how they were chosen (`Selection`).
    """
    sizes = sizes_of_pieces(revision, templates.ids, first_new)
    main = templates.main_channels(clean.unit_per_sd)
    renewal = _Renewal(left, revision, templates, main, poses, sizes, first_new, clean, params, moving, excess)
    n_groups = int(revision.piece_group.max(initial=-1)) + 1
    renewed = [renewal.group(np.flatnonzero(revision.piece_group == g), partners) for g in range(n_groups)]
    renewed.sort(key=lambda one: one.id)
    n_samples, n_local = templates.n_samples, templates.channels.shape[1]
    joined = Templates(
        np.array([one.waveform for one in renewed], np.float32).reshape(-1, n_samples, n_local),
        np.array([one.channels for one in renewed], np.int32).reshape(-1, n_local),
        np.array([one.n_spikes for one in renewed], np.int64), np.array([one.id for one in renewed], np.int64),
        templates.peak, templates.n_channels,
    )  # fmt: skip
    return joined, {one.id: one.followed for one in renewed if one.followed is not None}


class _Renewed(NamedTuple):
    """One unit of the next round."""

    id: int
    waveform: np.ndarray
    channels: np.ndarray
    n_spikes: int
    followed: Followed | None


@dataclass(frozen=True)
class _Renewal:
    """Makes a unit of the next round of the pieces in its group."""

    left: Averages
    revision: Revision
    templates: Templates
    main: np.ndarray
    """(n_units,) main channels of the templates"""
    poses: tuple[Poses, Templates] | None
    sizes: np.ndarray
    first_new: int
    clean: Clean
    params: TemplatesParams
    moving: Moving | None
    excess: np.ndarray | None

    def group(self, members: np.ndarray, partners: Mapping[int, tuple[int, int]]) -> _Renewed:
        """The unit of these pieces, of which those of one id are one piece in several bins of displacement."""
        revision, margin = self.revision, self.left.margin
        known = revision.piece_id[members] < self.first_new
        anchor = members[np.argmax(np.where(known, np.inf, revision.piece_count[members]))]
        unit = int(revision.piece_unit[anchor])
        # A cluster may have been seen beside its neuron, in spikes that met another's.
        channels = local_channels(self.clean.recording, self.params.max_channels)[self.main[unit]]
        counts = np.array([self.count(p) for p in members])
        cleaned = self.aligned(members, anchor, counts, channels)
        weighted = (counts * self.sizes[members])[:, None, None] * cleaned
        total, waveform = int(counts.sum()), np.zeros(cleaned.shape[1:], np.float32)
        for one in weighted:
            waveform += one
        if known.any():
            waveform += KNOWN_COUNT * _padded(self.templates, unit, margin, channels)
            total += KNOWN_COUNT
        waveform /= max(total, 1)
        partner = np.zeros_like(waveform)
        if (found := partners.get(unit)) is not None:
            partner = np.roll(_padded(self.templates, found[0], margin, channels), found[1], axis=0)
        cut = cut_of(waveform + partner, channels, margin, self.clean, self.params)
        followed = None
        if self.moving is not None and revision.piece_bin is not None and not known.any():
            bins = np.arange(self.moving.bins.n_bins)[:, None] == revision.piece_bin[members]
            followed = _followed(bins, counts, weighted, partner, cut)
        return _Renewed(int(revision.piece_id[anchor]), cut(waveform + partner), channels, total, followed)

    def count(self, p: int) -> int:
        """Spikes of a piece that were averaged."""
        return int(self.left.n_spikes[p]) if p < len(self.left.n_spikes) else 0

    def aligned(self, members: np.ndarray, anchor: int, counts: np.ndarray, channels: np.ndarray) -> np.ndarray:
        """(n_members, n_long, n_local) what the spikes of each piece look like, at the anchor's time."""
        cleaned = np.stack([self.cleaned(p, channels) for p in members])
        ids = self.revision.piece_id[members]

        def mean(piece_id: int) -> np.ndarray:
            of_id = ids == piece_id
            weight = np.maximum(counts[of_id], 1e-3)
            found: np.ndarray = np.tensordot(weight / weight.sum(), cleaned[of_id], 1)
            return found

        main = int(self.revision.piece_id[anchor])
        for other in np.unique(ids[ids != main]).tolist():
            lag = _best_lag(mean(main), mean(other), self.left.margin)
            cleaned[ids == other] = np.roll(cleaned[ids == other], lag, axis=1)
        return cleaned

    def cleaned(self, p: int, channels: np.ndarray) -> np.ndarray:
        """What a piece's spikes were taken for plus what they left over, with the margin, on the wanted channels."""
        unit, margin = self.revision.piece_unit[p], self.left.margin
        piece = _padded(self.templates, unit, margin, channels)
        if self.poses is not None and self.revision.piece_bin is not None:
            index, templates = self.poses
            piece = _padded(templates, index.row[unit, self.revision.piece_bin[p]], margin, channels)
        if self.excess is not None:
            piece = piece * (1 - self.excess[p])
        if p < len(self.left.waveforms):
            there = self.templates.channels[unit]
            piece = piece + on_channels(self.left.waveforms[p], there, channels, self.templates.n_channels)
        return piece


def _followed(
    bins: np.ndarray, counts: np.ndarray, weighted: np.ndarray, partner: np.ndarray, cut: Cut
) -> Followed | None:
    """Poses of a unit; None if it looks the same at all displacements.

    Parameters
    ----------
    bins : (n_bins, n_pieces) bool, which piece is from which bin
    counts : (n_pieces,) spikes averaged
    weighted : (n_pieces, n_long, n_local) sums of what they look like
    partner : (n_long, n_local) added to all means
    """
    of_bin = bins @ counts
    if np.count_nonzero(of_bin) < 2:
        return None
    means = np.tensordot(bins.astype(np.float32), weighted, 1) / np.maximum(of_bin, 1)[:, None, None]
    found = follow(np.stack([cut(mean + partner) for mean in means]), of_bin)
    return found if len(found.seen) > 1 else None


def sizes_of_pieces(revision: Revision, ids: np.ndarray, first_new: int) -> np.ndarray:
    """(n_pieces,) size of pieces of known units that are others, relative to those: what is averaged is x / a.

    A new neuron that fires beside a known one is found at some size of that one's template, not at its own.
    """
    sizes, of = np.ones(len(revision.piece_unit), np.float32), ids[revision.piece_unit]
    strangers = np.flatnonzero((of < first_new) & (of != revision.piece_id))
    if len(strangers):
        piece, amplitude = (np.asarray(revision.members[name][:]) for name in ("unit_index", "amplitude"))
        seen = [amplitude[piece == p] for p in strangers]
        sizes[strangers] = [np.median(some) if len(some) else 1 for some in seen]
    return sizes


def _padded(templates: Templates, row: Any, margin: int, wanted: np.ndarray) -> np.ndarray:
    """A template with a margin of zeros, on the wanted channels."""
    whole = np.pad(templates.waveforms[row], ((margin, margin), (0, 0)))
    return on_channels(whole, templates.channels[row], wanted, templates.n_channels)


def on_channels(waveform: np.ndarray, channels: np.ndarray, wanted: np.ndarray, n_channels: int) -> np.ndarray:
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
