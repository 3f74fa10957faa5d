"""Counts to noise standard deviations, turned so that time runs innermost: all kernels after it read it that way."""

import numba
import numpy as np

ROWS, CHANNELS = 128, 32
"""So much is turned at a time (measured): it stays in the cache, and rows of the result are written in long pieces."""


def scale(traces: np.ndarray, *, factor: float) -> np.ndarray:
    """See `scale_numpy`; the same bits. The result is contiguous along time."""
    result = np.empty(traces.shape[::-1], np.float32)
    turn(traces, np.float32(factor), result)
    return result.T


@numba.njit(nogil=True, cache=True)
def turn(x: np.ndarray, factor: np.float32, out: np.ndarray) -> None:
    """out[c, t] = factor x[t, c], piece by piece."""
    n_rows, n_channels = x.shape
    for t0 in range(0, n_rows, ROWS):
        t1 = min(t0 + ROWS, n_rows)
        for c0 in range(0, n_channels, CHANNELS):
            for c in range(c0, min(c0 + CHANNELS, n_channels)):
                row = out[c, t0:t1]
                for i in range(t1 - t0):
                    row[i] = np.float32(x[t0 + i, c]) * factor
