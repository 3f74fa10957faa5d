"""Log-odds of events with CuPy."""

from typing import Any

import cupy
import numpy as np

from yass_dask.kernels.cuda import as_float
from yass_dask.kernels.device import Latest
from yass_dask.kernels.network import Classifier


def classify(
    traces: np.ndarray,
    *,
    rows: np.ndarray,
    channels: np.ndarray,
    before: int,
    network: Classifier,
    limit: float,
    memory: int = 2**28,
) -> np.ndarray:
    """See `classify_numpy`; sums in another order, the result stays on the device. `memory` bytes hold the windows and
    layers of a batch of events.
    """
    n_rows, n_channels = traces.shape
    padded = cupy.zeros((n_rows + 1, n_channels + 1), cupy.float32)  # a row and a channel of zeros for what is beyond
    padded[:n_rows, :n_channels] = as_float(traces)
    rows, channels, weights = cupy.asarray(rows, cupy.int64), cupy.asarray(channels, cupy.int64), _on_device(network)
    times = cupy.arange(len(network.temporal)) - before
    # Of a batch: where the values stand (int64), the values, two layers; and the scaled values or the next layer.
    per_event = channels.shape[1] * (16 * len(times) + 8 * sum(network.mixed.shape))
    batch = max(1, memory // max(per_event, 1))
    found = cupy.zeros(len(rows), cupy.float32)
    for start in range(0, len(rows), batch):
        some = slice(start, start + batch)
        at = rows[some][:, None] + times[None, :]
        at = cupy.where((at >= 0) & (at < n_rows), at, n_rows)
        windows = padded[at[:, None, :], channels[some][:, :, None]]
        if limit < np.inf:
            size = cupy.abs(windows).max(axis=(1, 2), keepdims=True)
            windows = windows * (float(limit) / cupy.maximum(size, float(limit)))
        found[some] = _log_odds(windows, weights)
    return found


def _log_odds(windows: Any, network: Classifier) -> Any:
    """(n,) of windows (n, n_neighbors, n_window)."""
    first = cupy.maximum(windows @ network.temporal + network.temporal_bias, 0)
    second = cupy.maximum(first @ network.mixed + network.mixed_bias, 0)
    spatial = network.spatial.reshape(-1, network.spatial.shape[-1])
    hidden = second.reshape(len(windows), -1) @ spatial + network.spatial_bias
    if len(network.output) == 0:
        return hidden[:, 0]
    return cupy.maximum(hidden, 0) @ network.output + network.output_bias[0]


_on_device = Latest(lambda network: Classifier(*(as_float(layer) for layer in network)))
