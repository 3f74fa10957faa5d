"""A few weighted cells in place of many points, the tree cut in place."""

import numba
import numpy as np

from yass_dask.kernels.loops import put


def coreset(points: np.ndarray, *, n_cells: int) -> np.ndarray:
    """See `coreset_numpy`; the same cells but where two axes spread alike to the last bits."""
    n = len(points)
    if n <= n_cells:
        return np.arange(n)
    return _cut_all(np.ascontiguousarray(points), -(-n // n_cells))


@numba.njit(nogil=True, cache=True)
def _cut_all(points: np.ndarray, leaf: int) -> np.ndarray:
    cells = np.zeros(len(points), np.int64)
    order = np.arange(len(points))
    pending, count = [(0, len(points))], 0
    while len(pending) > 0:
        start, stop = pending.pop()
        members = order[start:stop]
        if stop - start <= leaf:
            for member in members:
                cells[member] = count
            count += 1
            continue
        values = points[members, _widest(points, members)]
        ranks = np.argsort(values, kind="mergesort")
        put(order, start, members[ranks])
        half = start + _cut(values[ranks])
        pending.append((half, stop))
        pending.append((start, half))
    return cells


@numba.njit(nogil=True, cache=True)
def _widest(points: np.ndarray, members: np.ndarray) -> int:
    """Axis of largest spread."""
    n_dims = points.shape[1]
    total, squares = np.zeros(n_dims), np.zeros(n_dims)
    for member in members:
        for d in range(n_dims):
            value = np.float64(points[member, d])
            total[d] += value
            squares[d] += value * value
    return int(np.argmax(squares - total * total / len(members)))


@numba.njit(nogil=True, cache=True)
def _cut(values: np.ndarray) -> int:
    """Where to cut sorted values: at the widest gap in the middle half, the first of several."""
    n = len(values)
    quarter = max(1, n // 4)
    best, at = values[0] - values[0], n // 2
    for i in range(quarter, n - quarter + 1):
        gap = values[i] - values[i - 1]
        if gap > best:
            best, at = gap, i
    return at
