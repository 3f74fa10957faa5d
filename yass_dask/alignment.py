"""Averages -> templates: cut so that the largest extremum lies at the peak, to a fraction of a sample."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from yass_dask import subsample
from yass_dask.preprocess import Clean
from yass_dask.projector import peak_shift
from yass_dask.templates import Averages, Templates, TemplatesParams, local_channels


def aligned(averages: Averages, ids: np.ndarray, clean: Clean, params: TemplatesParams) -> Templates:
    """Cut templates out of averages so that the largest extremum, in the recording's unit, lies at the peak.

    The largest of |w| within `align_ms` of the events' time; a parabola through it gives the fraction of a sample.
    """
    recording = clean.recording
    channels = local_channels(recording, params.max_channels)[averages.main_channels]
    cuts = [cut_of(*one, averages.margin, clean, params) for one in zip(averages.waveforms, channels, strict=True)]
    n_samples = recording.samples(params.before_ms) + recording.samples(params.after_ms) + 1
    result = np.zeros((len(cuts), n_samples, averages.waveforms.shape[2]), np.float32)
    for u, (cut, long) in enumerate(zip(cuts, averages.waveforms, strict=True)):
        result[u] = cut(long)
    peak = recording.samples(params.before_ms)
    return Templates(result, channels, averages.n_spikes, ids, peak, recording.n_channels)


class Cut(NamedTuple):
    """Cuts a template out of a longer waveform."""

    first: int
    n_samples: int
    shift: int

    def __call__(self, long: np.ndarray) -> np.ndarray:
        """(n_samples, n_local) of (n_long, n_local)."""
        moved: np.ndarray = subsample.shifted(long, self.shift)[self.first : self.first + self.n_samples]
        return moved


def cut_of(long: np.ndarray, channels: np.ndarray, margin: int, clean: Clean, params: TemplatesParams) -> Cut:
    """What `aligned` cuts of a waveform (n_long, n_local)."""
    recording = clean.recording
    peak, move = recording.samples(params.before_ms), recording.samples(params.align_ms)
    scaled = long * np.append(clean.unit_per_sd, 0)[channels]
    centre = margin + peak
    window = np.abs(scaled[centre - move : centre + move + 1])
    row, k = np.unravel_index(int(window.argmax()), window.shape)
    top = centre - move + int(row)
    beside = (np.sign(scaled[top, k]) * scaled[top + d, k] for d in (-1, 0, 1))
    shift = int(subsample.opposite(peak_shift(*beside)))
    return Cut(top - peak, peak + recording.samples(params.after_ms) + 1, shift)
