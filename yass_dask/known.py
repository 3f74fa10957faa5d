"""Units known from another sort: where a sort begins in place of clusters, and what they may not become.

A known unit keeps its id. Its template is averaged again from round to round, what is known counting as `KNOWN_COUNT`
spikes, so it follows what changes slowly and stays where it hardly fires. Two known units are never joined, and none is
dropped before the end, unless its template hardly stands out of this recording's noise; one may be split, and the part
that is most like its template keeps the id. What known units do not explain becomes new units, with ids above all that
were ever given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.base import tokenize

from yass_dask.chunked import LazyParts
from yass_dask.noise import Noise
from yass_dask.preprocess import Clean
from yass_dask.refine import open_units, stored_fields
from yass_dask.templates import Templates, TemplatesParams, local_channels


@dataclass(frozen=True)
class Known:
    """Units of another sort."""

    waveforms: np.ndarray
    """(n_units, n_samples, n_channels) float32, uV (counts where no gain is known)"""
    peak: int
    ids: np.ndarray
    n_spikes: np.ndarray
    next_id: int
    """above all ids that the other sort ever gave"""
    name: str
    """of the other sort, for the audit"""

    @property
    def token(self) -> str:
        """The same for the same units."""
        return str(tokenize(self.waveforms, self.peak, self.ids, self.n_spikes, self.next_id))


def begin_with(known: Known, clean: Clean, noise: Noise, params: TemplatesParams) -> LazyParts:
    """Units to begin with; opens as Units."""
    about = params.model_dump(mode="json") | {"known": known.token}
    return LazyParts.one(
        "templates", _begin_with, known, clean, noise, params, params=about, version=1, open=open_units
    )


def _begin_with(known: Known, clean: Clean, noise: Noise, params: TemplatesParams) -> dict[str, np.ndarray]:
    templates = as_templates(known, clean, params)
    audit: list[dict[str, Any]] = [
        {"unit": unit, "action": "known", "into": None, "reason": f"known from {known.name}"}
        for unit in known.ids.tolist()
    ]
    return stored_fields(templates, known.next_id, known.next_id, audit, None, clean, noise, params)


def as_templates(known: Known, clean: Clean, params: TemplatesParams) -> Templates:
    """Known units in noise standard deviations of these traces, at the length that the params say."""
    recording = clean.recording
    before, after = recording.samples(params.before_ms), recording.samples(params.after_ms)
    length = known.waveforms.shape[1]
    first, stop = known.peak - before, known.peak + after + 1
    padding = ((0, 0), (max(0, -first), max(0, stop - length)), (0, 0))
    cut = np.pad(known.waveforms[:, max(0, first) : min(stop, length)], padding)
    sd = clean.unit_per_sd
    scaled = np.where(sd > 0, cut / np.where(sd > 0, sd, 1), 0).astype(np.float32)
    main = np.abs(np.where(sd > 0, cut, 0)).max(axis=1).argmax(axis=1)
    channels = local_channels(recording, params.max_channels)[main]
    full = np.pad(scaled, ((0, 0), (0, 0), (0, 1)))  # channels of templates are padded with n_channels
    waveforms = np.take_along_axis(full, channels[:, None, :].astype(np.int64), axis=2)
    return Templates(waveforms, channels, known.n_spikes, known.ids, before, recording.n_channels)
