"""Subtract spikes from a block of traces."""

import numba
import numpy as np


def subtract(
    traces: np.ndarray,
    *,
    rows: np.ndarray,
    units: np.ndarray,
    shifts: np.ndarray,
    amplitudes: np.ndarray,
    waveforms: np.ndarray,
    channels: np.ndarray,
    peak: int,
    filters: np.ndarray,
) -> np.ndarray:
    """See `subtract_numpy`; same result but for the last bit of the sums."""
    result = np.array(traces, np.float32)
    spikes = (
        rows.astype(np.int64),
        units.astype(np.int64),
        shifts.astype(np.int64),
        amplitudes.astype(np.float32),
    )
    _subtract(result, spikes, waveforms, channels.astype(np.int64), peak, filters)
    return result


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _subtract(
    x: np.ndarray, spikes: tuple, waveforms: np.ndarray, channels: np.ndarray, peak: int, filters: np.ndarray
) -> None:
    rows, units, shifts, amplitudes = spikes
    n_rows, n_channels = x.shape
    _, n_samples, n_local = waveforms.shape
    reach = filters.shape[1] // 2
    moved = np.empty(n_local, np.float32)
    for i in range(len(rows)):
        unit = units[i]
        weights = amplitudes[i] * filters[shifts[i]]
        for w in range(max(-reach, peak - rows[i]), min(n_samples + reach, n_rows + peak - rows[i])):
            moved[:] = 0
            first, last = max(0, reach - w), min(len(weights), n_samples + reach - w)
            _mix(waveforms[unit, w + first - reach : w + last - reach], weights[first:last], moved)
            row = x[rows[i] - peak + w]
            for k in range(n_local):
                if channels[unit, k] < n_channels:
                    row[channels[unit, k]] -= moved[k]


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _mix(source: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """out[k] += sum_m weights[m] source[m, k], four rows a pass."""
    m = 0
    while m < len(weights):
        if m + 3 < len(weights):
            a, b, c, d = weights[m], weights[m + 1], weights[m + 2], weights[m + 3]
            s0, s1, s2, s3 = source[m], source[m + 1], source[m + 2], source[m + 3]
            for k in range(len(out)):
                out[k] += a * s0[k] + b * s1[k] + c * s2[k] + d * s3[k]
            m += 4
        else:
            a, s0 = weights[m], source[m]
            for k in range(len(out)):
                out[k] += a * s0[k]
            m += 1
