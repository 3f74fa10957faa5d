"""A few weighted cells in place of many points."""

import numpy as np


def coreset(points: np.ndarray, *, n_cells: int) -> np.ndarray:
    """Cell of each point: a k-d tree of `n_cells` leaves or some more, cut across the axis of largest spread.

    Deterministic: no seed, ties go by the order of the points.

    Parameters
    ----------
    points : (n, n_dims) array

    Returns
    -------
    (n,) int64, cells numbered from 0 without gaps
    """
    n = len(points)
    cells = np.zeros(n, np.int64)
    if n <= n_cells:
        return np.arange(n)
    leaf = -(-n // n_cells)
    pending, count = [np.arange(n)], 0
    while pending:
        members = pending.pop()
        if len(members) <= leaf:
            cells[members] = count
            count += 1
            continue
        mine = points[members].astype(np.float64)
        axis = int(np.argmax((mine**2).sum(axis=0) - mine.sum(axis=0) ** 2 / len(mine)))
        order = members[np.argsort(points[members, axis], kind="stable")]
        half = _cut(points[order, axis])
        pending += [order[half:], order[:half]]
    return cells


def _cut(values: np.ndarray) -> int:
    """Where to cut sorted values: at the widest gap in the middle half, so that few cells lie across two clusters."""
    quarter = max(1, len(values) // 4)
    gaps = np.diff(values[quarter - 1 : len(values) - quarter + 1])
    return quarter + int(np.argmax(gaps)) if gaps.max() > 0 else len(values) // 2
