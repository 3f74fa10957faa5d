"""Subtract spikes from a block of traces on a GPU."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from yass_dask.kernels.device import EVENTS, FINE, few_lengths, filled


def subtract(
    traces: np.ndarray,
    *,
    factor: float,
    rows: np.ndarray,
    units: np.ndarray,
    shifts: np.ndarray,
    amplitudes: np.ndarray,
    waveforms: np.ndarray,
    channels: np.ndarray,
    peak: int,
    filters: np.ndarray,
) -> np.ndarray:
    """See `subtract_numpy`; the result stays on the device."""
    length = few_lengths(len(rows), EVENTS)
    spikes = [filled(part, length) for part in (rows.astype(np.int32), units, shifts, amplitudes)]
    return _subtract(jnp.asarray(traces), np.float32(factor), *spikes, waveforms, channels, peak, filters)


@jax.jit
def _subtract(
    traces: Any, factor: Any, rows: Any, units: Any, shifts: Any, amplitudes: Any, waveforms: Any, channels: Any,
    peak: Any, filters: Any,
) -> Any:  # fmt: skip
    n_rows, n_channels = traces.shape
    scaled = traces.astype(jnp.float32) * factor
    if traces.size == 0 or waveforms.size == 0:
        return scaled
    reach = filters.shape[1] // 2
    length = waveforms.shape[1] + 2 * reach
    wide = jnp.pad(waveforms, ((0, 0), (2 * reach, 2 * reach), (0, 0)))
    weights = (filters * FINE)[shifts] * amplitudes[:, None]

    def add(m: Any, moved: Any) -> Any:
        return moved + weights[:, m, None, None] * jax.lax.dynamic_slice_in_dim(wide, m, length, 1)[units]

    moved = jax.lax.fori_loop(0, 2 * reach + 1, add, jnp.zeros((len(rows), length, waveforms.shape[2])))
    times = (rows - peak - reach)[:, None, None] + jnp.arange(length)[None, :, None]
    sites = channels[units][:, None, :]
    inside = (times >= 0) & (times < n_rows) & (sites < n_channels)
    flat = jnp.where(inside, times * n_channels + sites, traces.size)
    total = jnp.zeros(traces.size, jnp.int32).at[flat].add(jnp.rint(moved).astype(jnp.int32), mode="drop")
    return scaled - total.reshape(traces.shape).astype(jnp.float32) / FINE
