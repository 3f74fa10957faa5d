"""Inner loops that several compiled kernels share; rows of all arrays run along time."""

import numba
import numpy as np


@numba.njit(nogil=True, cache=True, inline="always")
def put(out: np.ndarray, start: int, values: np.ndarray) -> None:
    """out[start : start + len(values)] = values, without the shape check that takes seconds to compile."""
    for i in range(len(values)):
        out[start + i] = values[i]


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def mix(x: np.ndarray, low: int, high: int, weights: np.ndarray, channels: np.ndarray, out: np.ndarray) -> None:
    """out[t] = sum_k weights[k] x[channels[k], low + t], t < high - low; channels end at the first that x lacks."""
    n_channels, n = len(x), high - low
    out[:] = 0
    k = 0
    while k < len(channels) and channels[k] < n_channels:
        if k + 3 < len(channels) and channels[k + 3] < n_channels:
            w0, w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
            x0, x1 = x[channels[k], low:high], x[channels[k + 1], low:high]
            x2, x3 = x[channels[k + 2], low:high], x[channels[k + 3], low:high]
            for t in range(n):
                out[t] += w0 * x0[t] + w1 * x1[t] + w2 * x2[t] + w3 * x3[t]
            k += 4
        else:
            w0, x0 = weights[k], x[channels[k], low:high]
            for t in range(n):
                out[t] += w0 * x0[t]
            k += 1


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def correlate(series: np.ndarray, taps: np.ndarray, out: np.ndarray) -> None:
    """out[t] += sum_w taps[w] series[t + w], eight taps a pass; `series` has len(taps) - 1 values more than `out`."""
    w = 0
    while w < len(taps):
        s = series[w:]
        if w + 7 < len(taps):
            a, b, c, d = taps[w], taps[w + 1], taps[w + 2], taps[w + 3]
            e, f, g, h = taps[w + 4], taps[w + 5], taps[w + 6], taps[w + 7]
            for t in range(len(out)):
                out[t] += (
                    a * s[t] + b * s[t + 1] + c * s[t + 2] + d * s[t + 3]
                    + e * s[t + 4] + f * s[t + 5] + g * s[t + 6] + h * s[t + 7]
                )  # fmt: skip
            w += 8
        elif w + 2 < len(taps):
            a, b, c = taps[w], taps[w + 1], taps[w + 2]
            for t in range(len(out)):
                out[t] += a * s[t] + b * s[t + 1] + c * s[t + 2]
            w += 3
        else:
            a = taps[w]
            for t in range(len(out)):
                out[t] += a * s[t]
            w += 1
