"""Counts to noise standard deviations, turned so that time runs innermost: all kernels after it read it that way."""

import sys

import numba
import numpy as np

from yass_dask.kernels.loops import put

ROWS, CHANNELS = 256, 32
"""So much is turned at a time (measured): it stays in the cache, and rows of the result are written in long pieces."""
LINE = 8
"""Numbers of 8 bytes in a cache line."""


def scale(traces: np.ndarray, *, factor: float) -> np.ndarray:
    """See `scale_numpy`; the same bits. The result is contiguous along time."""
    result = np.empty(traces.shape[::-1], np.float32)
    turn(traces, np.float32(factor), result)
    return result.T


def turn(x: np.ndarray, factor: np.float32, out: np.ndarray) -> None:
    """out[c, t] = factor x[t, c]."""
    if sys.byteorder == "little" and x.dtype == np.int16 and x.flags.c_contiguous and x.shape[1] % 4 == 0:
        _turn_fours(x.view(np.int64), factor, out)
    else:
        _turn(x, factor, out)


@numba.njit(nogil=True, cache=True)
def _turn_fours(x: np.ndarray, factor: np.float32, out: np.ndarray) -> None:
    """The same from int16 read four at a time, of a copy with longer rows.

    Rows of many channels are whole multiples of a cache line that leave most of the cache's sets unused: read down
    a column, they would push each other out.
    """
    n_rows, n_fours = x.shape
    copy = np.empty((ROWS, n_fours + LINE), np.int64)
    for t0 in range(0, n_rows, ROWS):
        n = min(ROWS, n_rows - t0)
        for i in range(n):
            put(copy[i], 0, x[t0 + i])
        for k in range(n_fours):
            t1 = t0 + n
            a, b, c, d = out[4 * k, t0:t1], out[4 * k + 1, t0:t1], out[4 * k + 2, t0:t1], out[4 * k + 3, t0:t1]
            for i in range(n):
                four = copy[i, k]
                a[i] = np.float32(np.int16(four)) * factor
                b[i] = np.float32(np.int16(four >> 16)) * factor
                c[i] = np.float32(np.int16(four >> 32)) * factor
                d[i] = np.float32(np.int16(four >> 48)) * factor


@numba.njit(nogil=True, cache=True)
def _turn(x: np.ndarray, factor: np.float32, out: np.ndarray) -> None:
    """Piece by piece."""
    n_rows, n_channels = x.shape
    for t0 in range(0, n_rows, ROWS):
        t1 = min(t0 + ROWS, n_rows)
        for c0 in range(0, n_channels, CHANNELS):
            for c in range(c0, min(c0 + CHANNELS, n_channels)):
                row = out[c, t0:t1]
                for i in range(t1 - t0):
                    row[i] = np.float32(x[t0 + i, c]) * factor
