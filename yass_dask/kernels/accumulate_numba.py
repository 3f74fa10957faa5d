"""Sums of aligned, weighted waveforms: no waveform is kept."""

import numba
import numpy as np

from yass_dask.kernels.loops import correlate, put


def accumulate(
    traces: np.ndarray,
    *,
    rows: np.ndarray,
    groups: np.ndarray,
    channels: np.ndarray,
    weights: np.ndarray,
    before: int,
    n_samples: int,
    n_groups: int,
    shifts: np.ndarray,
    filters: np.ndarray,
) -> np.ndarray:
    """See `accumulate_numpy`; a value may be rounded to the whole number beside it. Fastest for traces contiguous
    along time, as the result is."""
    sums = np.zeros((n_groups, channels.shape[1], n_samples), np.int64)
    events = (rows.astype(np.int64), groups.astype(np.int64), shifts.astype(np.int64), weights.astype(np.float32))
    _accumulate(np.ascontiguousarray(traces.T), events, channels.astype(np.int64), before, filters, sums)
    return sums.transpose(0, 2, 1)


@numba.njit(nogil=True, cache=True)
def _accumulate(
    x: np.ndarray, events: tuple, channels: np.ndarray, before: int, filters: np.ndarray, sums: np.ndarray
) -> None:
    rows, groups, shifts, weights = events
    n_channels, n_rows = x.shape
    _, n_local, n_samples = sums.shape
    n_window = n_samples + filters.shape[1] - 1
    window, moved = np.zeros(n_window, np.float32), np.empty(n_samples, np.float32)
    for i in range(len(rows)):
        start = rows[i] - before - filters.shape[1] // 2
        first, last = min(max(0, -start), n_window), max(0, min(n_window, n_rows - start))
        taps = weights[i] * filters[shifts[i]]
        window[:] = 0
        for k in range(n_local):
            c = channels[i, k]
            if c < n_channels and first < last:
                put(window, first, x[c, start + first : start + last])
                moved[:] = 0
                correlate(window, taps, moved)
                total = sums[groups[i], k]
                for w in range(n_samples):
                    total[w] += np.int64(np.rint(moved[w]))
