"""Correlation of a block with templates: what the matching pursuit works on."""

import numpy as np

from yass_dask.kernels.bank import Bank


def correlate(traces: np.ndarray, *, bank: Bank, taps: np.ndarray | None = None) -> np.ndarray:
    """Correlation with each template, its peak at the row.

    Parameters
    ----------
    traces : (n_rows, n_channels) float32, zero beyond the block
    bank : templates
    taps : (n_taps,) float32, an odd number, symmetric: a filter along time that the traces are still to go through

    Returns
    -------
    (n_rows, n_units) float32, in whichever memory order the backend finds best
    """
    n_rows = len(traces)
    n_units, rank = bank.temporal.shape[:2]
    filters = np.ones(1, np.float32) if taps is None else taps
    before = bank.peak + len(filters) // 2
    padded = np.concatenate([traces, np.zeros((n_rows, 1), np.float32)], axis=1)
    result = np.zeros((n_rows, n_units), np.float32)
    for u in range(n_units if n_rows else 0):
        for r in range(rank):
            template = np.convolve(bank.temporal[u, r], filters)
            series = padded[:, bank.support[u]] @ bank.spatial[u, r]
            long = np.pad(series, (before, len(template) - 1 - before))
            result[:, u] += np.correlate(long, template, mode="valid")
    return result
