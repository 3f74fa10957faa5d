"""Common median reference of a block: a partial sort per sample."""

import numba
import numpy as np


def common_reference(traces: np.ndarray, *, groups: np.ndarray) -> np.ndarray:
    """See `common_reference_numpy`; same bits."""
    result = traces.copy()
    for group in np.unique(groups[groups >= 0]):
        _subtract_median(result, np.flatnonzero(groups == group))
    return result


@numba.njit(nogil=True, cache=True)
def _subtract_median(x: np.ndarray, members: np.ndarray) -> None:
    n = len(members)
    values = np.empty(n, np.float32)
    for t in range(x.shape[0]):
        for i in range(n):
            values[i] = x[t, members[i]]
        median = _select(values, n // 2)
        if n % 2 == 0:
            below = values[0]
            for i in range(1, n // 2):
                below = max(below, values[i])
            median = np.float32(0.5) * (below + median)
        for i in range(n):
            x[t, members[i]] -= median


@numba.njit(nogil=True, cache=True)
def _select(values: np.ndarray, k: int) -> np.float32:
    """Quickselect: the k-th smallest, with everything smaller left of it."""
    low, high = 0, len(values) - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return values[k]
