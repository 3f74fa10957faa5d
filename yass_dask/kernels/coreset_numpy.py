"""A few weighted cells in place of many points."""

import numpy as np


def coreset(points: np.ndarray, *, n_cells: int) -> np.ndarray:
    """Cell of each point: a k-d tree of about `n_cells` leaves, cut at medians along the axis of largest spread.

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
        axis = int(np.argmax(points[members].var(axis=0)))
        order = members[np.argsort(points[members, axis], kind="stable")]
        half = len(order) // 2
        pending += [order[half:], order[:half]]
    return cells
