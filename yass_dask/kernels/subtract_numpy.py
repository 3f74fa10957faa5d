"""Subtract spikes from a block of traces."""

import numpy as np


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
    """Traces less amplitude times the shifted template of each spike; what lies outside the block is cut off.

    Parameters
    ----------
    traces : (n_rows, n_channels) numbers; times `factor` they are what spikes are subtracted from
    rows, units, shifts, amplitudes : (n,) spikes; rows may lie outside the block
    waveforms : (n_units, n_samples, n_local) float32 on `channels` (n_units, n_local), padded with n_channels
    peak : sample of a template that lies at the spike's row
    filters : (n_shifts, 2 * reach + 1) float32, see `yass_dask.subsample`

    Returns
    -------
    (n_rows, n_channels) float32, in whichever memory order the backend finds best. Spikes are subtracted in the order
    given.
    """
    n_rows, n_channels = traces.shape
    reach = filters.shape[1] // 2
    scaled = traces.astype(np.float32) * np.float32(factor)
    result = np.concatenate([scaled, np.zeros((n_rows, 1), np.float32)], axis=1)
    for row, unit, shift, amplitude in zip(rows, units, shifts, amplitudes, strict=True):
        padded = np.pad(waveforms[unit], ((2 * reach, 2 * reach), (0, 0)))
        length = waveforms.shape[1] + 2 * reach
        moved = sum(filters[shift, m] * padded[m : m + length] for m in range(2 * reach + 1))
        start = row - peak - reach
        low, high = max(start, 0), min(start + length, n_rows)
        if low < high:
            result[low:high, channels[unit]] -= amplitude * moved[low - start : high - start]
    return np.ascontiguousarray(result[:, :n_channels])
