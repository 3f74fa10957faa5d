"""Whitened traces at the rows of events and beside with CuPy."""

import numpy as np

from yass_dask.kernels.project_cupy import project

THREE = np.eye(3, dtype=np.float32)[None]
"""A projection that keeps three samples as they are."""


def beside(
    traces: np.ndarray, *, rows: np.ndarray, sites: np.ndarray, filters: np.ndarray, channels: np.ndarray
) -> np.ndarray:
    """See `beside_numpy`; the result stays on the device."""
    inner, same = np.clip(rows, 1, len(traces) - 2), np.zeros(len(rows), np.int32)
    mix = np.where(channels < traces.shape[1], filters, 0)[:, None]
    found = project(traces, rows=inner, sites=sites, shifts=same, gather=channels, mix=mix, bank=THREE, before=1)
    return found.reshape(len(rows), 3)
