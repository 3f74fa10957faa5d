"""Cut out aligned waveforms around events."""

import numpy as np


def snippets(
    traces: np.ndarray,
    *,
    rows: np.ndarray,
    channels: np.ndarray,
    before: int,
    n_samples: int,
    shifts: np.ndarray,
    filters: np.ndarray,
) -> np.ndarray:
    """Waveforms of events on their channels, shifted by a fraction of a sample.

    Parameters
    ----------
    traces : (n_rows, n_channels) float32; rows outside it count as zeros
    rows : (n,) int, row of each event
    channels : (n, n_local) int, channels of each event; padded with n_channels, which gives zeros
    before : samples before the event's row; `n_samples` is the length of a waveform
    shifts : (n,) int, index into `filters`
    filters : (n_shifts, 2 * reach + 1) float32, see `yass_dask.subsample`

    Returns
    -------
    (n, n_samples, n_local) float32
    """
    n_rows, n_channels = traces.shape
    reach = filters.shape[1] // 2
    padded = np.zeros((n_rows + 1, n_channels + 1), np.float32)
    padded[:n_rows, :n_channels] = traces
    times = rows[:, None] - before - reach + np.arange(n_samples + 2 * reach)[None, :]
    times = np.where((times < 0) | (times >= n_rows), n_rows, times)
    long = padded[times[:, :, None], channels[:, None, :]]
    result = np.zeros((len(rows), n_samples, channels.shape[1]), np.float32)
    for m in range(2 * reach + 1):
        result += filters[shifts, m][:, None, None] * long[:, m : m + n_samples]
    return result
