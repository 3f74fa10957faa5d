"""Sums of aligned, weighted waveforms, one sum a group."""

import numpy as np

from yass_dask.kernels.snippets_numpy import snippets


def accumulate(
    traces: np.ndarray,
    *,
    rows: np.ndarray,
    groups: np.ndarray,
    channels: np.ndarray,
    weights: np.ndarray,
    before: int,
    n_samples: int,
    n_groups: int,
    shifts: np.ndarray,
    filters: np.ndarray,
) -> np.ndarray:
    """Add up the waveforms of each group's events, each times its weight and rounded to whole numbers.

    Whole numbers: so the sums do not depend on the order of the events.

    Parameters
    ----------
    traces : (n_rows, n_channels) float32
    rows, groups, shifts : (n,) int; rows may lie outside the block
    channels : (n, n_local) int, padded with n_channels
    weights : (n,) float32
    before : samples of a waveform before its event's row
    filters : (n_shifts, n_taps) float32, see `yass_dask.subsample`

    Returns
    -------
    (n_groups, n_samples, n_local) int64
    """
    waveforms = snippets(
        traces, rows=rows, channels=channels, before=before, n_samples=n_samples, shifts=shifts, filters=filters
    )
    sums = np.zeros((n_groups, n_samples, channels.shape[1]), np.int64)
    np.add.at(sums, groups, np.rint(waveforms * weights[:, None, None]).astype(np.int64))
    return sums
