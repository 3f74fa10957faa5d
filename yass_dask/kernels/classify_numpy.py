"""Log-odds of events by a small network that looks at their windows."""

import numpy as np

from yass_dask.kernels.network import EVENTS_AT_ONCE, Classifier


def classify(
    traces: np.ndarray,
    *,
    rows: np.ndarray,
    channels: np.ndarray,
    before: int,
    network: Classifier,
    limit: float,
) -> np.ndarray:
    """Log-odds of each event that it is of the network's kind.

    Parameters
    ----------
    traces : (n_samples, n_channels) float32, in the unit the network was trained in
    rows : (n,) int, row of each event; what lies beyond the ends of the traces counts as zero
    channels : (n, n_neighbors) int, the event's channel first; padded with n_channels (zeros there)
    before : rows of a window before the event's
    limit : a window whose largest absolute value is above this is scaled down to it, so that a spike larger than any
        that was learned from does not lead the network astray; inf: none is

    Returns
    -------
    (n,) float32
    """
    n_rows, n_channels = traces.shape
    padded = np.zeros((n_rows + 1, n_channels + 1), np.float32)
    padded[:n_rows, :n_channels] = traces
    found = [np.zeros(0, np.float32)]
    for start in range(0, len(rows), EVENTS_AT_ONCE):
        some = slice(start, start + EVENTS_AT_ONCE)
        at = rows[some].astype(np.int64)[:, None] - before + np.arange(len(network.temporal))
        at = np.where((at >= 0) & (at < n_rows), at, n_rows)
        windows = padded[at[:, None, :], channels[some, :, None]]
        size = np.abs(windows).max(axis=(1, 2), keepdims=True)
        scaled = windows * (np.float32(limit) / np.maximum(size, np.float32(limit))) if limit < np.inf else windows
        found.append(_log_odds(scaled, network))
    return np.concatenate(found)


def _log_odds(windows: np.ndarray, network: Classifier) -> np.ndarray:
    """(n,) float32 of windows (n, n_neighbors, n_window)."""
    first = np.maximum(windows @ network.temporal + network.temporal_bias, 0)
    second = np.maximum(first @ network.mixed + network.mixed_bias, 0)
    spatial = network.spatial.reshape(-1, network.spatial.shape[-1])
    hidden = second.reshape(len(windows), -1) @ spatial + network.spatial_bias
    if len(network.output) == 0:
        return hidden[:, 0]
    result: np.ndarray = np.maximum(hidden, 0) @ network.output + network.output_bias[0]
    return result
