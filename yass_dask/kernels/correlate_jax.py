"""Counts -> correlation of the whitened traces with templates on a GPU."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from yass_dask.kernels.bank import Bank
from yass_dask.kernels.device import Latest, few_lengths, filled
from yass_dask.kernels.whiten_jax import in_space
from yass_dask.kernels.xla import PRECISION, as_float, tiles, zeros


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
    if n_rows == 0 or n_units == 0:
        return zeros(n_rows, n_units)
    along = np.ones(1, np.float32) if taps is None else taps
    length = bank.temporal.shape[2] + len(along) - 1
    n_fourier = 1 << max(10, (4 * length).bit_length())
    n_tiles = -(-n_rows // (n_fourier - length + 1))
    per_unit = 8 * n_tiles * (n_fourier // 2 + 1) * (bank.support.shape[1] + 3)
    batch = max(1, min(few_lengths(n_units), 1 << max(0, (memory // per_unit).bit_length() - 1)))
    temporal, spatial, support = _on_device(bank)
    return _correlate(
        jnp.asarray(traces), np.float32(factor), filters, channels, along, temporal, spatial, support,
        bank.peak + len(along) // 2, n_fourier=n_fourier, batch=batch,
    )[:, :n_units]  # fmt: skip


def _to_device(bank: Bank) -> tuple[Any, ...]:
    length = few_lengths(len(bank.norms))
    return tuple(jnp.asarray(filled(part, length)) for part in (bank.temporal, bank.spatial, bank.support))


_on_device = Latest(_to_device)


@partial(jax.jit, static_argnames=("n_fourier", "batch"))
def _correlate(
    traces: Any, factor: Any, filters: Any, channels: Any, along: Any, temporal: Any, spatial: Any, support: Any,
    before: Any, *, n_fourier: int, batch: int,
) -> Any:  # fmt: skip
    n_rows = len(traces)
    hop = n_fourier - (temporal.shape[2] + len(along) - 1) + 1
    n_tiles = -(-n_rows // hop)
    white = in_space(as_float(traces) * factor, filters, channels)
    # One more channel for the padding of the support; `before` rows of zeros ahead.
    room = jnp.zeros((n_tiles * hop + n_fourier, white.shape[1] + 1), jnp.float32)
    padded = jax.lax.dynamic_update_slice(room, white, (before, 0))
    spectra = jnp.fft.rfft(tiles(padded, n_tiles, hop, n_fourier), axis=1)
    whitening = jnp.fft.rfft(along, n_fourier)

    def units(some: tuple[Any, Any, Any]) -> Any:
        time, space, sites = some
        template = jnp.conj(jnp.fft.rfft(time, n_fourier) * whitening)
        weights = jnp.einsum("urf,urs->ufs", template, space.astype(jnp.complex64), precision=PRECISION)
        product = jnp.einsum("tfus,ufs->utf", spectra[:, :, sites], weights, precision=PRECISION)
        return jnp.fft.irfft(product, n_fourier, axis=2)[:, :, :hop]

    n_units = len(temporal)
    n_batches = -(-n_units // batch)
    batches = [
        jnp.pad(part, [(0, n_batches * batch - n_units)] + [(0, 0)] * (part.ndim - 1)).reshape(
            n_batches, batch, *part.shape[1:]
        )
        for part in (temporal, spatial, support)
    ]
    found = jax.lax.map(units, tuple(batches))
    return found.reshape(n_batches * batch, n_tiles * hop)[:n_units, :n_rows].T
