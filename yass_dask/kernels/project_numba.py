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
    """See `project_numpy`; sums in another order."""
    result = np.zeros((len(rows), mix.shape[1], bank.shape[2]), np.float32)
    components = np.ascontiguousarray(bank.transpose(0, 2, 1))
    events = (rows.astype(np.int64), sites.astype(np.int64), shifts.astype(np.int64))
    _project(traces, events, gather.astype(np.int64), mix, components, before, result)
    return result


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
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
    n_rows, n_channels = x.shape
    _, n_local, n_wide = mix.shape
    _, n_components, n_window = bank.shape
    window = np.empty((n_wide, n_window), np.float32)
    for i in range(len(rows)):
        site, start = sites[i], rows[i] - before
        first, last = max(0, -start), min(n_window, n_rows - start)
        if first >= last:
            continue
        for t in range(first, last):
            for k in range(n_wide):
                c = gather[site, k]
                window[k, t] = x[start + t, c] if c < n_channels else np.float32(0)
        for k in range(n_wide):
            if gather[site, k] >= n_channels:
                continue
            for p in range(n_components):
                taps, total = bank[shifts[i], p], np.float32(0)
                for t in range(first, last):
                    total += taps[t] * window[k, t]
                for j in range(n_local):
                    out[i, j, p] += mix[site, j, k] * total
