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
    taps = filters.shape[1]
    reach = taps // 2
    moved = np.empty(n_local, np.float32)
    for i in range(len(rows)):
        unit, weights = units[i], filters[shifts[i]]
        for w in range(-reach, n_samples + reach):
            t = rows[i] - peak + w
            if t < 0 or t >= n_rows:
                continue
            moved[:] = 0
            for m in range(max(0, reach - w), min(taps, n_samples + reach - w)):
                if weights[m] != 0:
                    source = waveforms[unit, w + m - reach]
                    for k in range(n_local):
                        moved[k] += weights[m] * source[k]
            for k in range(n_local):
                c = channels[unit, k]
                if c < n_channels:
                    x[t, c] -= amplitudes[i] * moved[k]
