"""Whitened traces at the rows of events and at the two rows beside: what their tops are found from."""

import numpy as np


def beside(
    traces: np.ndarray, *, rows: np.ndarray, sites: np.ndarray, filters: np.ndarray, channels: np.ndarray
) -> np.ndarray:
    """Whiten, in space, three samples of one channel of each event.

    Parameters
    ----------
    traces : (n_rows, n_channels) float32, n_rows >= 3
    rows : (n,) int, time of each event; those at the ends count as one row further inside
    sites : (n,) int, channel of each event
    filters, channels : the whitening in space, see `whiten_numpy`

    Returns
    -------
    (n, 3) float32: before, at and after the event's row
    """
    n_rows, n_channels = traces.shape
    inner = np.clip(rows, 1, n_rows - 2)
    near = channels[sites]
    weights = np.where(near < n_channels, filters[sites], 0)
    read = np.minimum(near, n_channels - 1)
    return np.stack([(traces[(inner + d)[:, None], read] * weights).sum(axis=1) for d in (-1, 0, 1)], axis=1)
