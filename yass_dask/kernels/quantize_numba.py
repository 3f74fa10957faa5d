"""Filtered traces to whole counts of the noise, in one pass."""

import numba
import numpy as np


def quantize(
    traces: np.ndarray, *, median: np.ndarray, factor: np.ndarray, bar: float
) -> tuple[np.ndarray, np.ndarray]:
    """See `quantize_numpy`; the same bits."""
    counts, loud = np.empty(traces.shape, np.int16), np.zeros(len(traces), np.int32)
    _quantize(traces, median.astype(np.float32), factor.astype(np.float32), np.float32(bar), counts, loud)
    return counts, loud


@numba.njit(nogil=True, cache=True)
def _quantize(
    x: np.ndarray, median: np.ndarray, factor: np.ndarray, bar: np.float32, counts: np.ndarray, loud: np.ndarray
) -> None:
    low, high = np.float32(-32768), np.float32(32767)
    for t in range(x.shape[0]):
        row, out, n_loud = x[t], counts[t], np.int32(0)
        for c in range(x.shape[1]):
            value = (row[c] - median[c]) * factor[c]
            n_loud += np.int32(abs(value) > bar)
            out[c] = np.int16(min(max(np.rint(value), low), high))
        loud[t] = n_loud
