"""Counts -> correlation of the whitened traces with templates with CuPy."""

from typing import Any

import cupy
import numpy as np

from yass_dask.kernels.bank import Bank
from yass_dask.kernels.cuda import as_float
from yass_dask.kernels.device import Latest
from yass_dask.kernels.whiten_cupy import in_space


def correlate(
    traces: np.ndarray,
    *,
    factor: float,
    filters: np.ndarray,
    channels: np.ndarray,
    taps: np.ndarray | None = None,
    bank: Bank,
    memory: int = 2**28,
) -> np.ndarray:
    """See `correlate_numpy`; the result stays on the device.

    Tiles of the traces are transformed once; there each unit is a weighted sum over its channels, its weights a
    template whitened along time. `memory` bytes hold a batch of units.
    """
    n_rows, n_units = len(traces), len(bank.norms)
    by_unit = cupy.zeros((n_units, n_rows), cupy.float32)
    if by_unit.size == 0:
        return by_unit.T
    along = np.ones(1, np.float32) if taps is None else taps
    length = bank.temporal.shape[2] + len(along) - 1
    n_fourier = 1 << max(10, (4 * length).bit_length())
    hop = n_fourier - length + 1
    n_tiles = -(-n_rows // hop)
    white = in_space(as_float(traces) * np.float32(factor), filters, channels)
    # One more channel for the padding of the support; rows of zeros ahead and after.
    before = bank.peak + len(along) // 2
    padded = cupy.zeros((n_tiles * hop + n_fourier, white.shape[1] + 1), cupy.float32)
    padded[before : before + n_rows, :-1] = white[: len(padded) - before]
    at = cupy.arange(n_tiles)[:, None] * hop + cupy.arange(n_fourier)[None, :]
    spectra = cupy.fft.rfft(padded[at], axis=1)
    whitening = cupy.fft.rfft(cupy.asarray(along), n_fourier)
    per_unit = 16 * n_tiles * (n_fourier // 2 + 1) * (bank.support.shape[1] + 3)
    batch = max(1, memory // per_unit)
    temporal, spatial, support = _on_device(bank)
    for start in range(0, n_units, batch):
        some = slice(start, start + batch)
        found = _correlate(spectra, whitening, temporal[some], spatial[some], support[some], n_fourier)[:, :, :hop]
        by_unit[start : start + batch] = found.reshape(len(found), n_tiles * hop)[:, :n_rows]
    return by_unit.T


def _correlate(spectra: Any, whitening: Any, temporal: Any, spatial: Any, support: Any, n_fourier: int) -> Any:
    """(n_units, n_tiles, n_fourier) of a batch of units."""
    template = cupy.conj(cupy.fft.rfft(temporal, n_fourier) * whitening)
    weights = template.transpose(0, 2, 1) @ spatial.astype(cupy.complex64)
    gathered = spectra[:, :, support].transpose(2, 1, 0, 3)
    product = (gathered @ weights[:, :, :, None])[..., 0]
    return cupy.fft.irfft(product.transpose(0, 2, 1), n_fourier, axis=2)


_on_device = Latest(lambda bank: tuple(cupy.asarray(part) for part in (bank.temporal, bank.spatial, bank.support)))
