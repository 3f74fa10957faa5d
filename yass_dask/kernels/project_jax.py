"""Features of events straight from the traces on a GPU."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from yass_dask.kernels.device import EVENTS, few_lengths, filled
from yass_dask.kernels.xla import PRECISION, zeros


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
    memory: int = 2**28,
) -> np.ndarray:
    """See `project_numpy`; the result stays on the device. `memory` bytes hold the windows of a batch of events."""
    n = len(rows)
    if n == 0:
        return zeros(0, mix.shape[1], bank.shape[2])
    per_event = 4 * (bank.shape[1] * (gather.shape[1] + bank.shape[2]) + mix.shape[1] * mix.shape[2])
    length = batch = few_lengths(n, EVENTS)
    while batch > 1 and batch * per_event > memory:
        batch //= 2
    parts = [filled(np.asarray(part), length).reshape(-1, batch) for part in (rows.astype(np.int32), sites, shifts)]
    return _project(jnp.asarray(traces), *parts, gather, mix, bank, before)[:n]


@jax.jit
def _project(traces: Any, rows: Any, sites: Any, shifts: Any, gather: Any, mix: Any, bank: Any, before: Any) -> Any:
    n_rows, n_channels = traces.shape
    n_window = bank.shape[1]

    def features(batch: tuple[Any, Any, Any]) -> Any:
        row, site, shift = batch
        times = row[:, None] - before + jnp.arange(n_window)[None, :]
        channels = gather[site]
        inside = ((times >= 0) & (times < n_rows))[:, :, None] & (channels < n_channels)[:, None, :]
        flat = times[:, :, None] * n_channels + channels[:, None, :]
        windows = jnp.where(inside, traces.ravel()[jnp.where(inside, flat, 0)], 0).astype(jnp.float32)
        along = jnp.einsum("bwc,bwk->bck", windows, bank[shift], precision=PRECISION)
        return jnp.einsum("blc,bck->blk", mix[site], along, precision=PRECISION)

    if traces.size == 0:
        return jnp.zeros((rows.size, mix.shape[1], bank.shape[2]), jnp.float32)
    return jax.lax.map(features, (rows, sites, shifts)).reshape(rows.size, mix.shape[1], bank.shape[2])
