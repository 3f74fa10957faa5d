"""Whitening of a block in one pass, tile by tile, every inner loop along time.

Per value: 2 n_neighbors operations in space, 1.5 n_taps along time (the sides of a symmetric filter are added first).
"""

import numba
import numpy as np

from yass_dask.kernels.loops import mix

TILE = 1024


def whiten(
    traces: np.ndarray, *, filters: np.ndarray, channels: np.ndarray, taps: np.ndarray | None = None
) -> np.ndarray:
    """See `whiten_numpy`; sums in another order. The result is contiguous along time, traces are best so, too."""
    result = np.empty(traces.shape[::-1], np.float32)
    along = np.ones(1, np.float32) if taps is None else np.ascontiguousarray(taps, np.float32)
    by_channel = np.ascontiguousarray(traces.T, np.float32)
    _whiten(by_channel, np.ascontiguousarray(filters, np.float32), channels.astype(np.int32), along, result)
    return result.T


@numba.njit(nogil=True, cache=True)
def _whiten(x: np.ndarray, filters: np.ndarray, channels: np.ndarray, taps: np.ndarray, out: np.ndarray) -> None:
    n_channels, n_rows = x.shape
    reach = len(taps) // 2
    mixed = np.empty(TILE + 2 * reach, np.float32)
    for start in range(0, n_rows, TILE):
        stop = min(start + TILE, n_rows)
        first = start - reach
        low, high = max(first, 0), min(stop + reach, n_rows)
        mixed[: low - first] = 0
        mixed[high - first :] = 0
        for c in range(n_channels):
            mix(x, low, high, filters[c], channels[c], mixed[low - first : high - first])
            _convolve(mixed, taps, out[c, start:stop])


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _convolve(x: np.ndarray, taps: np.ndarray, out: np.ndarray) -> None:
    """out[t] = sum_j taps[j] x[t + j] for symmetric taps."""
    reach, n = len(taps) // 2, len(out)
    middle = x[reach:]
    for t in range(n):
        out[t] = taps[reach] * middle[t]
    j = 1
    while j <= reach:
        if j + 3 <= reach:
            w0, w1, w2, w3 = taps[reach + j], taps[reach + j + 1], taps[reach + j + 2], taps[reach + j + 3]
            after, before = x[reach + j :], x[reach - j - 3 :]
            for t in range(n):
                out[t] += (
                    w0 * (after[t] + before[t + 3])
                    + w1 * (after[t + 1] + before[t + 2])
                    + w2 * (after[t + 2] + before[t + 1])
                    + w3 * (after[t + 3] + before[t])
                )
            j += 4
        else:
            after, before = x[reach + j :], x[reach - j :]
            for t in range(n):
                out[t] += taps[reach + j] * (after[t] + before[t])
            j += 1
