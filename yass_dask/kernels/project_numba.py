"""Features of events straight from the traces: the cost goes with the events, not with the block."""

import numba
import numpy as np


def project(
    traces: np.ndarray,
    *,
    rows: np.ndarray,
    sites: np.ndarray,
    shifts: np.ndarray,
    gather: np.ndarray,
    mix: np.ndarray,
    bank: np.ndarray,
    before: int,
) -> np.ndarray:
    """See `project_numpy`; sums in another order. Fastest for traces contiguous along time."""
    result = np.zeros((len(rows), mix.shape[1], bank.shape[2]), np.float32)
    components = np.ascontiguousarray(bank.transpose(0, 2, 1))
    events = (rows.astype(np.int64), sites.astype(np.int64), shifts.astype(np.int64))
    by_channel = np.ascontiguousarray(traces.T)
    _project(by_channel, events, gather.astype(np.int64), mix, components, before, result)
    return result


@numba.njit(nogil=True, cache=True)
def _project(
    x: np.ndarray,
    events: tuple,
    gather: np.ndarray,
    mix: np.ndarray,
    bank: np.ndarray,
    before: int,
    out: np.ndarray,
) -> None:
    rows, sites, shifts = events
    n_channels, n_rows = x.shape
    _, n_local, n_wide = mix.shape
    _, n_components, n_window = bank.shape
    along = np.zeros((n_components, n_wide), np.float32)
    for i in range(len(rows)):
        site, start = sites[i], rows[i] - before
        first, last = max(0, -start), min(n_window, n_rows - start)
        if first >= last:
            continue
        for k in range(n_wide):
            c = gather[site, k]
            for p in range(n_components):
                if c < n_channels:
                    along[p, k] = _dot(bank[shifts[i], p, first:last], x[c, start + first : start + last])
                else:
                    along[p, k] = 0
        for j in range(n_local):
            for p in range(n_components):
                out[i, j, p] = _dot(mix[site, j], along[p])


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _dot(a: np.ndarray, b: np.ndarray) -> np.float32:
    total = np.float32(0)
    for t in range(len(a)):
        total += a[t] * b[t]
    return total
