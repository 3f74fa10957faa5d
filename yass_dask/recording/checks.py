"""Refusals: what does not fit together in a recording, and selections that are not in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.errors import InputError

if TYPE_CHECKING:
    from yass_dask.recording import Recording

MIN_RATE_HZ, MAX_RATE_HZ = 1e-3, 1e9
"""No amplifier is as slow or as fast; beyond, times and samples could not be counted."""


def check_fields(recording: Recording) -> None:
    n, length = recording.n_channels, recording.n_samples
    rate: Any = recording.sampling_rate
    if not (isinstance(rate, int | float | np.number) and MIN_RATE_HZ <= rate <= MAX_RATE_HZ):
        limits = f"{MIN_RATE_HZ:g} to {MAX_RATE_HZ:g}"
        raise InputError(f"sampling_rate: must be a positive number of Hz, found {rate!r}; allowed are {limits}")
    if recording.probe.n_channels != n:
        raise InputError(f"geometry: {recording.probe.n_channels} channels, but the recording has {n}")
    if recording.chunk_blocks < 1:
        raise InputError(f"chunk_blocks: must be at least 1, found {recording.chunk_blocks}")
    outside = [channel for channel in recording.bad_channels if not 0 <= channel < n]
    if outside:
        raise InputError(f"bad_channels: {outside} are not channels of the recording (0 ... {n - 1})")
    for start, stop in recording.excluded_samples:
        if not 0 <= start < stop <= length:
            raise InputError(
                f"excluded_samples: [{start}, {stop}) is not within the recording of {length} samples; "
                "give 0 <= start < stop"
            )


def as_gain(gain: Any, n_channels: int) -> np.ndarray:
    try:
        values = np.asarray(gain, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"gain_to_uv: must be one number or {n_channels}, uV per count, found {gain!r}") from None
    if values.shape not in ((), (n_channels,)):
        raise InputError(f"gain_to_uv: expected one value or {n_channels}, found shape {values.shape}")
    if not (np.isfinite(values) & (values != 0)).all():
        raise InputError(f"gain_to_uv: must be finite and not 0, found {values.tolist()}")
    return np.broadcast_to(values, (n_channels,)).copy()


def channel_index(channels: Any, n_channels: int) -> np.ndarray:
    if isinstance(channels, slice):
        index = np.arange(n_channels)[channels]
    else:
        index = np.atleast_1d(np.asarray(channels))
        if index.dtype == bool and index.shape == (n_channels,):
            index = np.flatnonzero(index)
    valid = index.size and np.issubdtype(index.dtype, np.integer) and index.ndim == 1
    if not valid or index.min() < 0 or index.max() >= n_channels or len(np.unique(index)) != len(index):
        raise InputError(f"channels {channels!r}: give different indices within 0 ... {n_channels - 1}")
    return index.astype(np.int64)
