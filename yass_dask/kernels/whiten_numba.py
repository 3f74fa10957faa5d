"""Whitening of a block in one pass: tiles are turned to channels by samples, every inner loop runs over time.

Per value: 2 n_neighbors operations in space, 1.5 n_taps along time (the sides of a symmetric filter are added first).
"""

import numba
import numpy as np

TILE = 1024
SQUARE = 16


def whiten(
    traces: np.ndarray, *, filters: np.ndarray, channels: np.ndarray, taps: np.ndarray | None = None
) -> np.ndarray:
    """See `whiten_numpy`; sums in another order. The result is contiguous along time."""
    result = np.empty(traces.shape[::-1], np.float32)
    along = np.ones(1, np.float32) if taps is None else np.ascontiguousarray(taps, np.float32)
    _whiten(traces, np.ascontiguousarray(filters, np.float32), channels.astype(np.int32), along, result)
    return result.T


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _whiten(x: np.ndarray, filters: np.ndarray, channels: np.ndarray, taps: np.ndarray, out: np.ndarray) -> None:
    n_rows, n_channels = x.shape
    reach = len(taps) // 2
    tile = np.empty((n_channels, TILE + 2 * reach), np.float32)
    mixed = np.empty(TILE + 2 * reach, np.float32)
    for start in range(0, n_rows, TILE):
        stop = min(start + TILE, n_rows)
        _turn(x, start - reach, stop + reach, tile)
        for c in range(n_channels):
            _mix(tile, filters[c], channels[c], mixed[: stop - start + 2 * reach])
            _convolve(mixed, taps, out[c, start:stop])


@numba.njit(nogil=True, cache=True)
def _turn(x: np.ndarray, first: int, last: int, tile: np.ndarray) -> None:
    """tile[c, i] = x[first + i, c]; zero beyond the ends."""
    n_rows, n_channels = x.shape
    low, high = max(first, 0), min(last, n_rows)
    tile[:, : low - first] = 0
    tile[:, high - first : last - first] = 0
    for t0 in range(low, high, SQUARE):
        t1 = min(t0 + SQUARE, high)
        for c0 in range(0, n_channels, SQUARE):
            for c in range(c0, min(c0 + SQUARE, n_channels)):
                for t in range(t0, t1):
                    tile[c, t - first] = x[t, c]


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _mix(tile: np.ndarray, weights: np.ndarray, channels: np.ndarray, out: np.ndarray) -> None:
    """Weighted sum of some rows of the tile, four at a time."""
    n_rows, n = len(tile), len(out)
    out[:] = 0
    k = 0
    while k < len(channels) and channels[k] < n_rows:
        if k + 3 < len(channels) and channels[k + 3] < n_rows:
            w0, w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
            r0, r1, r2, r3 = tile[channels[k]], tile[channels[k + 1]], tile[channels[k + 2]], tile[channels[k + 3]]
            for t in range(n):
                out[t] += w0 * r0[t] + w1 * r1[t] + w2 * r2[t] + w3 * r3[t]
            k += 4
        else:
            w0, r0 = weights[k], tile[channels[k]]
            for t in range(n):
                out[t] += w0 * r0[t]
            k += 1


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
