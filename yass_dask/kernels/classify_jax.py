"""Log-odds of events, compiled once for each number of events rounded up to a power of two."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from yass_dask.kernels.network import Classifier

LEAST_EVENTS = 256


def classify(
    traces: np.ndarray,
    *,
    rows: np.ndarray,
    channels: np.ndarray,
    before: int,
    network: Classifier,
    limit: float,
) -> np.ndarray:
    """See `classify_numpy`; sums in another order, products in full float32."""
    n, n_channels = len(rows), traces.shape[1]
    size = max(LEAST_EVENTS, 1 << max(n - 1, 0).bit_length())
    row, near = np.zeros(size, np.int32), np.full((size, channels.shape[1]), n_channels, np.int32)
    row[:n], near[:n] = rows, channels
    found = _classify(jnp.asarray(traces, jnp.float32), row, near, before, network, jnp.float32(limit))
    return np.array(found[:n])


@partial(jax.jit, static_argnames="before")
def _classify(
    traces: jax.Array, rows: jax.Array, channels: jax.Array, before: int, network: Classifier, limit: jax.Array
) -> jax.Array:
    n_rows = len(traces)
    padded = jnp.pad(traces, ((0, 1), (0, 1)))
    at = rows[:, None] - before + jnp.arange(len(network.temporal))
    at = jnp.where((at >= 0) & (at < n_rows), at, n_rows)
    windows = padded[at[:, None, :], channels[:, :, None]]
    size = jnp.abs(windows).max(axis=(1, 2), keepdims=True)
    # Not limit / max(size, limit): without a limit that would be inf / inf.
    return log_odds(windows * jnp.where(size > limit, limit / size, 1), network)


def log_odds(windows: jax.Array, network: Classifier) -> jax.Array:
    """(n,) of windows (n, n_neighbors, n_window); what training differentiates."""
    dot = partial(jnp.matmul, precision="highest")
    first = jax.nn.relu(dot(windows, network.temporal) + network.temporal_bias)
    second = jax.nn.relu(dot(first, network.mixed) + network.mixed_bias)
    spatial = network.spatial.reshape(-1, network.spatial.shape[-1])
    hidden = dot(second.reshape(len(windows), -1), spatial) + network.spatial_bias
    if len(network.output) == 0:
        return hidden[:, 0]
    return dot(jax.nn.relu(hidden), network.output) + network.output_bias[0]
