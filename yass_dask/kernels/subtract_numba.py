"""Subtract spikes from a block of traces, channel by channel, along time."""

import numba
import numpy as np

from yass_dask.kernels.loops import correlate, put
from yass_dask.kernels.scale_numba import turn


def subtract(
    traces: np.ndarray,
    *,
    factor: float,
    rows: np.ndarray,
    units: np.ndarray,
    shifts: np.ndarray,
    amplitudes: np.ndarray,
    waveforms: np.ndarray,
    channels: np.ndarray,
    peak: int,
    filters: np.ndarray,
) -> np.ndarray:
    """See `subtract_numpy`; same result but for the last bit of the sums. The result is contiguous along time."""
    result = np.empty(traces.shape[::-1], np.float32)
    turn(traces, np.float32(factor), result)
    spikes = (
        rows.astype(np.int64),
        units.astype(np.int64),
        shifts.astype(np.int64),
        amplitudes.astype(np.float32),
    )
    by_channel = np.ascontiguousarray(waveforms.transpose(0, 2, 1))
    _subtract(result, spikes, by_channel, channels.astype(np.int64), peak, filters)
    return result.T


@numba.njit(nogil=True, cache=True)
def _subtract(
    x: np.ndarray, spikes: tuple, waveforms: np.ndarray, channels: np.ndarray, peak: int, filters: np.ndarray
) -> None:
    rows, units, shifts, amplitudes = spikes
    n_channels, n_rows = x.shape
    _, n_local, n_samples = waveforms.shape
    reach = filters.shape[1] // 2
    padded = np.zeros(n_samples + 4 * reach, np.float32)
    for i in range(len(rows)):
        unit = units[i]
        weights = -amplitudes[i] * filters[shifts[i]]
        start = rows[i] - peak - reach
        low, high = max(start, 0), min(start + n_samples + 2 * reach, n_rows)
        if low >= high:
            continue
        for k in range(n_local):
            c = channels[unit, k]
            if c < n_channels:
                put(padded, 2 * reach, waveforms[unit, k])
                correlate(padded[low - start :], weights, x[c, low:high])
