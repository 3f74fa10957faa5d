"""Log-odds of events: event by event, every inner loop over the filters of a layer."""

import numba
import numpy as np

from yass_dask.kernels.network import Classifier


def classify(
    traces: np.ndarray,
    *,
    rows: np.ndarray,
    channels: np.ndarray,
    before: int,
    network: Classifier,
    limit: float,
) -> np.ndarray:
    """See `classify_numpy`; sums in another order. Fastest for traces contiguous along time."""
    by_channel = np.ascontiguousarray(traces.T, np.float32)
    found = np.empty(len(rows), np.float32)
    weights = tuple(np.ascontiguousarray(layer, np.float32) for layer in network)
    _classify(by_channel, rows.astype(np.int64), channels.astype(np.int64), before, weights, np.float32(limit), found)
    return found


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _classify(
    x: np.ndarray, rows: np.ndarray, channels: np.ndarray, before: int, weights: tuple, limit: np.float32,
    found: np.ndarray,
) -> None:  # fmt: skip
    temporal, temporal_bias, mixed, mixed_bias, spatial, spatial_bias, output, output_bias = weights
    n_channels, n_rows = x.shape
    first, second = np.empty_like(temporal_bias), np.empty_like(mixed_bias)
    hidden = np.empty_like(spatial_bias)
    for event in range(len(rows)):
        hidden[:] = spatial_bias
        start = rows[event] - before
        low, high = max(start, 0), min(start + len(temporal), n_rows)
        scale = np.float32(1) if limit == np.inf else _scale(x, channels[event], low, high, limit)
        for k in range(channels.shape[1]):
            first[:] = temporal_bias
            c = channels[event, k]
            if c < n_channels:
                for t in range(low, high):
                    _add(first, scale * x[c, t], temporal[t - start])
            second[:] = mixed_bias
            for f in range(len(first)):
                if first[f] > 0:
                    _add(second, first[f], mixed[f])
            for f in range(len(second)):
                if second[f] > 0:
                    _add(hidden, second[f], spatial[k, f])
        found[event] = hidden[0] if len(output) == 0 else output_bias[0]
        for f in range(len(output)):
            found[event] += max(hidden[f], np.float32(0)) * output[f]


@numba.njit(nogil=True, cache=True)
def _scale(x: np.ndarray, channels: np.ndarray, low: int, high: int, limit: np.float32) -> np.float32:
    """What a window is multiplied by so that nothing in it is above the limit."""
    size = limit
    for c in channels:
        if c < len(x):
            for t in range(low, high):
                size = max(size, abs(x[c, t]))
    return limit / size


@numba.njit(nogil=True, cache=True, inline="always", fastmath={"contract", "reassoc"})
def _add(total: np.ndarray, factor: np.float32, row: np.ndarray) -> None:
    for i in range(len(total)):
        total[i] += factor * row[i]
