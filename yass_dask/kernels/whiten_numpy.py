"""Local spatial whitening of a block."""

import numpy as np


def whiten(traces: np.ndarray, *, filters: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """Each output channel is a weighted sum of its neighbours.

    Parameters
    ----------
    traces : (n_samples, n_channels) float32
    filters : (n_channels, n_neighbors) float32, weights of each output channel
    channels : (n_channels, n_neighbors) int, the neighbours; padded with n_channels (weight ignored)

    Returns
    -------
    (n_samples, n_channels) float32
    """
    n_channels = traces.shape[1]
    matrix = np.zeros((n_channels + 1, n_channels), np.float32)
    np.add.at(matrix, (channels.T, np.arange(n_channels)), filters.T)
    return traces @ matrix[:n_channels]
