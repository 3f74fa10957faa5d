"""Features of events straight from the traces: whitening, shift and projection are one linear map."""

import numpy as np


def project(
    traces: np.ndarray,
    *,
    rows: np.ndarray,
    sites: np.ndarray,
    shifts: np.ndarray,
    gather: np.ndarray,
    mix: np.ndarray,
    bank: np.ndarray,
    before: int,
) -> np.ndarray:
    """Project the window of each event along time, then mix the channels.

    Parameters
    ----------
    traces : (n_rows, n_channels) float32; what lies beyond the ends counts as zero
    rows : (n,) int, time of each event
    sites : (n,) int, index into `gather` and `mix`
    shifts : (n,) int, index into `bank`
    gather : (n_sites, n_wide) int, channels that a site reads, padded with n_channels
    mix : (n_sites, n_local, n_wide) float32, weights of what they give; 0 for padding
    bank : (n_shifts, n_window, n_components) float32, components along time, for each shift
    before : row at which a window starts before its event's

    Returns
    -------
    (n, n_local, n_components) float32
    """
    n_rows, n_channels = traces.shape
    n_window = bank.shape[1]
    result = np.zeros((len(rows), mix.shape[1], bank.shape[2]), np.float32)
    padded = np.zeros((n_rows + 2 * n_window, n_channels + 1), np.float32)
    padded[n_window : n_window + n_rows, :n_channels] = traces
    start = rows.astype(np.int64) - before + n_window
    for i in np.flatnonzero((start >= 0) & (start <= n_rows + n_window)):
        window = padded[start[i] : start[i] + n_window][:, gather[sites[i]]]
        result[i] = mix[sites[i]] @ (window.T @ bank[shifts[i]])
    return result
