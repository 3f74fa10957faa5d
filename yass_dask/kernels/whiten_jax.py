"""Whitening of a block on a GPU."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from yass_dask.kernels.filter_time_jax import convolved
from yass_dask.kernels.xla import zeros


def whiten(
    traces: np.ndarray, *, filters: np.ndarray, channels: np.ndarray, taps: np.ndarray | None = None
) -> np.ndarray:
    """See `whiten_numpy`; the result stays on the device."""
    if traces.size == 0:
        return zeros(*traces.shape)
    white = in_space(jnp.asarray(traces), filters, channels)
    return white if taps is None else convolved(white, taps)


@jax.jit
def in_space(traces: Any, filters: Any, channels: Any) -> Any:
    """Each channel a weighted sum of its neighbours, one neighbour after the other: the cost is linear in channels."""
    n_channels = traces.shape[1]
    weights = jnp.where(channels < n_channels, filters, 0)
    near = jnp.minimum(channels, n_channels - 1)

    def add(k: Any, white: Any) -> Any:
        return white + weights[:, k] * traces[:, near[:, k]].astype(jnp.float32)

    return jax.lax.fori_loop(0, channels.shape[1], add, jnp.zeros(traces.shape, jnp.float32))
