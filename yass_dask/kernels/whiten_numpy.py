"""Whitening of a block: local in space, then, if asked for, along time."""

import numpy as np

from yass_dask.kernels.filter_time_numpy import filter_time


def whiten(
    traces: np.ndarray, *, filters: np.ndarray, channels: np.ndarray, taps: np.ndarray | None = None
) -> np.ndarray:
    """Each output channel is a weighted sum of its neighbours, convolved along time.

    Parameters
    ----------
    traces : (n_samples, n_channels) float32
    filters : (n_channels, n_neighbors) float32, weights of each output channel
    channels : (n_channels, n_neighbors) int, the neighbours; padded with n_channels (weight ignored)
    taps : (n_taps,) float32, symmetric, an odd number; what lies beyond the ends counts as zero

    Returns
    -------
    (n_samples, n_channels) float32, in whichever memory order the backend finds best
    """
    n_channels = traces.shape[1]
    matrix = np.zeros((n_channels + 1, n_channels), np.float32)
    np.add.at(matrix, (channels.T, np.arange(n_channels)), filters.T)
    white = traces @ matrix[:n_channels]
    return white if taps is None else filter_time(white, taps=taps)
