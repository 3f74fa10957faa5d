"""Counts -> correlation of the whitened traces with templates: what the matching pursuit works on."""

import numpy as np

from yass_dask.kernels.bank import Bank
from yass_dask.kernels.scale_numpy import scale
from yass_dask.kernels.whiten_numpy import whiten


def correlate(
    traces: np.ndarray,
    *,
    factor: float,
    filters: np.ndarray,
    channels: np.ndarray,
    taps: np.ndarray | None = None,
    bank: Bank,
) -> np.ndarray:
    """Correlation with each template, its peak at the row.

    Parameters
    ----------
    traces : (n_rows, n_channels) counts; they are zero beyond the block
    factor : noise standard deviations per count
    filters, channels : the whitening in space, see `whiten_numpy`
    taps : (n_taps,) float32, an odd number, symmetric: the whitening along time, if any
    bank : templates

    Returns
    -------
    (n_rows, n_units) float32, in whichever memory order the backend finds best
    """
    n_rows = len(traces)
    n_units, rank = bank.temporal.shape[:2]
    along = np.ones(1, np.float32) if taps is None else taps
    before = bank.peak + len(along) // 2
    white = whiten(scale(traces, factor=factor), filters=filters, channels=channels)
    padded = np.concatenate([white, np.zeros((n_rows, 1), np.float32)], axis=1)
    result = np.zeros((n_rows, n_units), np.float32)
    for u in range(n_units if n_rows else 0):
        for r in range(rank):
            template = np.convolve(bank.temporal[u, r], along)
            series = padded[:, bank.support[u]] @ bank.spatial[u, r]
            long = np.pad(series, (before, len(template) - 1 - before))
            result[:, u] += np.correlate(long, template, mode="valid")
    return result
