"""Correlation with templates by Fourier transforms of overlapping tiles: the rank of a template costs nothing.

A few tiles at a time are whitened, transformed, multiplied and transformed back, so that nothing as large as the
block is made but the result.

Per value of the traces and of the result: 2.5 log2(n_fft) operations for the transforms; per value of the result and
channel of its template: 4, half as many frequencies as rows, a complex product of 8 operations each.
"""

import threading
from typing import NamedTuple

import numba
import numpy as np
from scipy import fft

from yass_dask.kernels.bank import Bank
from yass_dask.kernels.scale_numba import scale
from yass_dask.kernels.whiten_numba import whiten

LEAST_TILE = 256
TEMPLATES_A_TILE = 5
"""A tile is the next power of two of so many templates: longer ones waste less where they overlap, but the templates'
spectra no longer fit in the cache."""
GROUP_VALUES = 1_500_000
"""Tiles are whitened and transformed together, up to so many values: they stay in the cache."""

_last = threading.local()


class Spectra(NamedTuple):
    """Templates in the frequency domain."""

    weights: np.ndarray
    """(n_pieces, n_frequencies) complex64, a piece is a unit on a channel"""
    start: np.ndarray
    """(n_units + 1,) a unit's pieces are start[u] to start[u + 1]"""
    channels: np.ndarray
    """(n_pieces,) which of `used`"""
    used: np.ndarray
    """channels that any unit is matched on"""
    length: int
    """samples of a template after the filter along time"""
    before: int
    """of these before its peak"""


def correlate(
    traces: np.ndarray,
    *,
    factor: float,
    filters: np.ndarray,
    channels: np.ndarray,
    taps: np.ndarray | None = None,
    bank: Bank,
) -> np.ndarray:
    """See `correlate_numpy`; rounding is relative to the largest value around. The result is contiguous along time."""
    n_rows, n_channels = traces.shape
    n_units = len(bank.norms)
    if not n_rows or not n_units:
        return np.zeros((n_rows, n_units), np.float32)
    spectra = _spectra_of(bank, taps, n_channels)
    n_fft = 2 * (spectra.weights.shape[1] - 1)
    step = n_fft - spectra.length + 1
    n_tiles = -(-n_rows // step)
    group = max(1, (GROUP_VALUES // n_channels - n_fft) // step + 1)
    result = np.empty((n_units, n_tiles, step), np.float32)
    for first in range(0, n_tiles, group):
        some = slice(first, min(first + group, n_tiles))
        start, stop = first * step - spectra.before, (some.stop - 1) * step - spectra.before + n_fft
        low, high = max(start, 0), min(stop, n_rows)
        white = whiten(scale(traces[low:high], factor=factor), filters=filters, channels=channels).T
        rows = _extended(white, spectra.used, low - start, stop - high)
        spectrum = fft.rfft(np.lib.stride_tricks.sliding_window_view(rows, n_fft, axis=1)[:, ::step], axis=2)
        product = np.empty((n_units, *spectrum.shape[1:]), np.complex64)
        _multiply(spectrum, spectra.weights, spectra.start, spectra.channels, product)
        result[:, some] = fft.irfft(product, n=n_fft, axis=2, overwrite_x=True)[:, :, :step]
    return result.reshape(n_units, n_tiles * step)[:, :n_rows].T


def _extended(rows: np.ndarray, used: np.ndarray, before: int, after: int) -> np.ndarray:
    """Some of the rows, with so many zeros at both ends; the rows themselves where nothing changes."""
    if len(used) == len(rows) and not before and not after:
        return rows
    extended = np.zeros((len(used), before + rows.shape[1] + after), np.float32)
    extended[:, before : before + rows.shape[1]] = rows[used]
    return extended


def _spectra_of(bank: Bank, taps: np.ndarray | None, n_channels: int) -> Spectra:
    """Spectra of a bank; this thread's last are kept, as one bank serves many blocks."""
    inputs = (bank.temporal, bank.spatial, taps, n_channels)
    known = getattr(_last, "inputs", None)
    if known is None or any(a is not b for a, b in zip(known[:3], inputs[:3], strict=True)) or known[3] != n_channels:
        _last.inputs, _last.spectra = inputs, _make_spectra(bank, taps, n_channels)
    spectra: Spectra = _last.spectra
    return spectra


def _make_spectra(bank: Bank, taps: np.ndarray | None, n_channels: int) -> Spectra:
    reach = 0 if taps is None else len(taps) // 2
    length = bank.temporal.shape[2] + 2 * reach
    n_fft = max(LEAST_TILE, 1 << (TEMPLATES_A_TILE * length - 1).bit_length())
    along = fft.rfft(bank.temporal, n=n_fft, axis=2).conj()
    if taps is not None:
        along *= fft.rfft(taps.astype(np.float32), n=n_fft).conj()
    on = (bank.support < n_channels) & (bank.spatial != 0).any(axis=1)
    start = np.concatenate([[0], np.cumsum(on.sum(axis=1))]).astype(np.int64)
    weights = np.empty((start[-1], n_fft // 2 + 1), np.complex64)
    for u in range(len(on)):
        weights[start[u] : start[u + 1]] = bank.spatial[u][:, on[u]].T @ along[u]
    used, channels = np.unique(bank.support[on], return_inverse=True)
    return Spectra(weights, start, channels.astype(np.int64), used, length, bank.peak + reach)


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nnan"})
def _multiply(
    spectrum: np.ndarray, weights: np.ndarray, start: np.ndarray, channels: np.ndarray, out: np.ndarray
) -> None:
    """out[u, tile] = sum over a unit's channels of spectrum[channel, tile] weights[piece]."""
    for u in range(len(out)):
        for tile in range(out.shape[1]):
            total = out[u, tile]
            total[:] = 0
            p = start[u]
            if (start[u + 1] - p) % 2:
                x, w = spectrum[channels[p], tile], weights[p]
                for f in range(len(total)):
                    total[f] = x[f] * w[f]
                p += 1
            while p < start[u + 1]:
                x, w = spectrum[channels[p], tile], weights[p]
                y, v = spectrum[channels[p + 1], tile], weights[p + 1]
                for f in range(len(total)):
                    total[f] += x[f] * w[f] + y[f] * v[f]
                p += 2
