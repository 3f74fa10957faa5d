"""Sums of aligned, weighted waveforms: no waveform is kept."""

import numba
import numpy as np


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
    """See `accumulate_numpy`; a value may be rounded to the whole number beside it."""
    sums = np.zeros((n_groups, n_samples, channels.shape[1]), np.int64)
    events = (rows.astype(np.int64), groups.astype(np.int64), shifts.astype(np.int64), weights.astype(np.float32))
    _accumulate(traces, events, channels.astype(np.int64), before, filters, sums)
    return sums


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _accumulate(
    x: np.ndarray, events: tuple, channels: np.ndarray, before: int, filters: np.ndarray, sums: np.ndarray
) -> None:
    rows, groups, shifts, weights = events
    n_rows, n_channels = x.shape
    _, n_samples, n_local = sums.shape
    n_taps = filters.shape[1]
    window = np.empty((n_samples + n_taps - 1, n_local), np.float32)
    mixed = np.empty(n_local, np.float32)
    for i in range(len(rows)):
        start = rows[i] - before - n_taps // 2
        for w in range(len(window)):
            inside = 0 <= start + w < n_rows
            for k in range(n_local):
                c = channels[i, k]
                window[w, k] = x[start + w, c] if inside and c < n_channels else np.float32(0)
        taps, total = weights[i] * filters[shifts[i]], sums[groups[i]]
        for w in range(n_samples):
            mixed[:] = 0
            _mix(window[w : w + n_taps], taps, mixed)
            for k in range(n_local):
                total[w, k] += np.int64(np.rint(mixed[k]))


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _mix(source: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """out[k] += sum_m weights[m] source[m, k], four rows a pass; a filter that only copies has one weight."""
    m = 0
    while m < len(weights):
        if m + 3 < len(weights):
            a, b, c, d = weights[m], weights[m + 1], weights[m + 2], weights[m + 3]
            if a != 0 or b != 0 or c != 0 or d != 0:
                s0, s1, s2, s3 = source[m], source[m + 1], source[m + 2], source[m + 3]
                for k in range(len(out)):
                    out[k] += a * s0[k] + b * s1[k] + c * s2[k] + d * s3[k]
            m += 4
        else:
            a, s0 = weights[m], source[m]
            if a != 0:
                for k in range(len(out)):
                    out[k] += a * s0[k]
            m += 1
