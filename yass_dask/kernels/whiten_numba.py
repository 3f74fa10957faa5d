"""Whitening of a block in one pass, tile by tile, every inner loop along time.

Per value: 2 n_neighbors operations in space, 1.5 n_taps along time (the sides of a symmetric filter are added first).
Four channels are made at a time: neighbours share nearly all of theirs, so a value read serves all four.
"""

import numba
import numpy as np

TILE = 1024


def whiten(
    traces: np.ndarray, *, filters: np.ndarray, channels: np.ndarray, taps: np.ndarray | None = None
) -> np.ndarray:
    """See `whiten_numpy`; sums in another order. The result is contiguous along time, traces are best so, too."""
    n_channels = traces.shape[1]
    # Some rows more, so that the last channels are four, too.
    result = np.empty((-(-n_channels // 4) * 4, len(traces)), np.float32)
    along = np.zeros(0, np.float32) if taps is None else np.ascontiguousarray(taps, np.float32)
    by_channel = np.ascontiguousarray(traces.T, np.float32)
    weights = _by_fours(np.ascontiguousarray(filters, np.float32), channels.astype(np.int64), n_channels)
    _whiten(by_channel, *weights, along, result)
    return result[:n_channels].T


@numba.njit(nogil=True, cache=True)
def _by_fours(filters: np.ndarray, channels: np.ndarray, n_channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (n_fours, 4, n_read) of what four channels in a row read, which channels that is, and how many."""
    n_fours, n_neighbors = (n_channels + 3) // 4, filters.shape[1]
    weights = np.zeros((n_fours, 4, 4 * n_neighbors), np.float32)
    read, count = np.zeros((n_fours, 4 * n_neighbors), np.int64), np.zeros(n_fours, np.int64)
    place = np.full(n_channels, -1)
    for c in range(n_channels):
        four = c // 4
        if c % 4 == 0:
            place[:] = -1
        for k in range(n_neighbors):
            other = channels[c, k]
            if other < n_channels:
                if place[other] < 0:
                    place[other] = count[four]
                    read[four, count[four]] = other
                    count[four] += 1
                weights[four, c % 4, place[other]] += filters[c, k]
    return weights, read, count


@numba.njit(nogil=True, cache=True)
def _whiten(
    x: np.ndarray, weights: np.ndarray, read: np.ndarray, count: np.ndarray, taps: np.ndarray, out: np.ndarray
) -> None:
    n_rows = x.shape[1]
    reach = len(taps) // 2
    mixed = np.empty((4, TILE + 2 * reach), np.float32)
    for start in range(0, n_rows, TILE):
        stop = min(start + TILE, n_rows)
        first = start - reach
        low, high = max(first, 0), min(stop + reach, n_rows)
        for four in range(len(count)):
            used = read[four, : count[four]]
            # Rows one by one: only so the compiler knows that each is contiguous.
            if len(taps) == 0:
                c, i, j = 4 * four, start, stop
                rows = out[c, i:j], out[c + 1, i:j], out[c + 2, i:j], out[c + 3, i:j]
                _mix_four(x, low, high, weights[four], used, rows)
                continue
            mixed[:, : low - first] = 0
            mixed[:, high - first :] = 0
            i, j = low - first, high - first
            rows = mixed[0, i:j], mixed[1, i:j], mixed[2, i:j], mixed[3, i:j]
            _mix_four(x, low, high, weights[four], used, rows)
            for k in range(4):
                _convolve(mixed[k], taps, out[4 * four + k, start:stop])


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _mix_four(x: np.ndarray, low: int, high: int, w: np.ndarray, channels: np.ndarray, out: tuple) -> None:
    """out[j][t] = sum_k w[j, k] x[channels[k], low + t], four channels a pass."""
    a, b, c, d = out
    a[:], b[:], c[:], d[:] = 0, 0, 0, 0
    k = 0
    while k + 3 < len(channels):
        x0, x1 = x[channels[k], low:high], x[channels[k + 1], low:high]
        x2, x3 = x[channels[k + 2], low:high], x[channels[k + 3], low:high]
        a0, a1, a2, a3 = w[0, k], w[0, k + 1], w[0, k + 2], w[0, k + 3]
        b0, b1, b2, b3 = w[1, k], w[1, k + 1], w[1, k + 2], w[1, k + 3]
        c0, c1, c2, c3 = w[2, k], w[2, k + 1], w[2, k + 2], w[2, k + 3]
        d0, d1, d2, d3 = w[3, k], w[3, k + 1], w[3, k + 2], w[3, k + 3]
        for t in range(high - low):
            p, q, r, s = x0[t], x1[t], x2[t], x3[t]
            a[t] += a0 * p + a1 * q + a2 * r + a3 * s
            b[t] += b0 * p + b1 * q + b2 * r + b3 * s
            c[t] += c0 * p + c1 * q + c2 * r + c3 * s
            d[t] += d0 * p + d1 * q + d2 * r + d3 * s
        k += 4
    while k < len(channels):
        x0, a0, b0, c0, d0 = x[channels[k], low:high], w[0, k], w[1, k], w[2, k], w[3, k]
        for t in range(high - low):
            p = x0[t]
            a[t] += a0 * p
            b[t] += b0 * p
            c[t] += c0 * p
            d[t] += d0 * p
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
