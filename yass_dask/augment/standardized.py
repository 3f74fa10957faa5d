"""Standardized traces of a configuration's recording, and mean waveforms in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yass_dask.errors import InputError
from yass_dask.preprocess import Clean, measure_scale, preprocess
from yass_dask.session import running

if TYPE_CHECKING:
    from yass_dask.config import Config

MAX_SPIKES = 500
"""Spikes of a unit that are averaged, spread evenly over the recording."""


def spike_size(CONFIG: Config) -> int:
    """Half length of a waveform in samples: a waveform has 2 * spike_size + 1."""
    recordings = CONFIG.recordings
    return round(recordings.spike_size_ms * recordings.sampling_rate / 2000)


def standardized(folder: str | Path, CONFIG: Config) -> Clean:
    """Open preprocessed traces, or preprocess the recording into `folder` where they are not there."""
    from yass_dask.config import sort_params

    params = sort_params(CONFIG.stage_params()).preprocess
    recording = CONFIG.recording()
    with running(recording, folder, backend="auto", client=None, seed=0, progress=None) as (keep, _, _, backend):
        scale = keep("scale", measure_scale(recording, params, backend))
        clean: Clean = keep("preprocess", preprocess(recording, scale, params, backend))
    return clean


def check_spike_train(spike_train: np.ndarray, n_samples: int) -> np.ndarray:
    """(n, 2) int64, sample and unit, in order of time.

    Raises
    ------
    InputError
        Another shape, numbers that are not whole, or spikes out of the recording.
    """
    found = np.asarray(spike_train)
    whole = found.dtype.kind in "iu" or (found.dtype.kind == "f" and np.isfinite(found).all() and
                                         (found == np.round(found)).all())  # fmt: skip
    if found.ndim != 2 or found.shape[1] != 2 or not whole:
        raise InputError(
            f"the spike train has shape {found.shape} and type {found.dtype}: give whole numbers (n_spikes, 2), the "
            "sample and the unit of each spike"
        )
    train = found.astype(np.int64)
    out = (train[:, 0] < 0) | (train[:, 0] >= n_samples)
    if out.any():
        raise InputError(
            f"{int(out.sum())} spikes of the spike train lie outside the recording, the first at sample "
            f"{train[out][0, 0]} of {n_samples}: is it the train of this recording?"
        )
    return train[np.argsort(train[:, 0], kind="stable")]


def mean_waveforms(clean: Clean, spike_train: np.ndarray, units: Sequence[int], reach: int) -> np.ndarray:
    """(n_units, 2 * reach + 1, n_channels) float32 means in noise standard deviations, the spike in the middle.

    Spikes without room for a whole waveform are left out.

    Raises
    ------
    InputError
        A bad spike train, or a unit that has no spike with room.
    """
    recording = clean.recording
    train = check_spike_train(spike_train, recording.n_samples)
    train = train[(train[:, 0] >= reach) & (train[:, 0] < recording.n_samples - reach)]
    sums, counts = np.zeros((len(units), 2 * reach + 1, recording.n_channels)), np.zeros(len(units))
    chosen = []
    for row, unit in enumerate(units):
        times = train[train[:, 1] == unit, 0]
        if not len(times):
            raise InputError(f"unit {unit} has no spike with room for a waveform; choose among {_some(train[:, 1])}")
        times = times[np.linspace(0, len(times) - 1, min(MAX_SPIKES, len(times))).astype(int)]
        chosen.append(np.stack([times, np.full(len(times), row)], axis=1))
    events = np.concatenate([np.zeros((0, 2), np.int64), *chosen])
    length = recording.block_samples
    for start in range(0, recording.n_samples, length):
        mine = events[(events[:, 0] >= start) & (events[:, 0] < start + length)]
        if len(mine):
            first, last = max(0, start - reach), min(recording.n_samples, start + length + reach)
            x = clean.to_sd(np.asarray(recording.source.read(first, last)), first)
            for time, row in mine.tolist():
                sums[row] += x[time - reach - first : time + reach + 1 - first]
                counts[row] += 1
    return (sums / np.maximum(counts, 1)[:, None, None]).astype(np.float32)


def _some(units: np.ndarray) -> str:
    known = np.unique(units).tolist()
    return ", ".join(map(str, known[:20])) + (" ..." if len(known) > 20 else "")
