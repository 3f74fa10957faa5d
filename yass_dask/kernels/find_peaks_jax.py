"""Threshold extrema with spatio-temporal exclusion on a GPU."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from yass_dask.kernels.device import EVENTS, few_lengths

PER_VALUE = 200
"""Room for one peak in so many values at first; where there are more, the search is done again with more room."""


def find_peaks(
    traces: np.ndarray,
    *,
    threshold: float,
    sign: int,
    exclusion: int,
    neighbors: np.ndarray,
    first: int,
    stop: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `find_peaks_numpy`; the peaks come back to the host, their number is not known before."""
    if traces.size == 0:
        return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32)
    size = few_lengths(traces.size // PER_VALUE, EVENTS)
    while True:
        *found, count = _find_peaks(
            jnp.asarray(traces),
            np.float32(threshold),
            neighbors,
            first,
            stop,
            sign=sign,
            exclusion=exclusion,
            size=size,
        )
        if count <= size:
            samples, channels, heights = (np.asarray(part)[:count] for part in found)
            return samples, channels, heights
        size = few_lengths(int(count), EVENTS)


@partial(jax.jit, static_argnames=("sign", "exclusion", "size"))
def _find_peaks(
    traces: Any, threshold: Any, neighbors: Any, first: Any, stop: Any, *, sign: int, exclusion: int, size: int
) -> tuple[Any, Any, Any, Any]:
    """Samples, channels and heights, filled up to `size`, and how many there are."""
    n_rows, n_channels = traces.shape
    strength = jnp.abs(traces) if sign == 0 else sign * traces
    before = _largest_before(strength, exclusion)
    after = _largest_before(strength[::-1], exclusion)[::-1]
    # What comes earlier, or at the same sample on a lower channel, must be weaker; what comes later not stronger.
    mine = jnp.arange(n_channels)
    rivals = jnp.maximum(jnp.maximum(before, after), strength)

    def beaten(k: Any, lost: Any) -> Any:
        near = neighbors[:, k]
        there, at = near < n_channels, jnp.minimum(near, n_channels - 1)
        lower = there & (near < mine)
        lost |= there & (rivals[:, at] > strength)
        lost |= there & (before[:, at] == strength)
        return lost | (lower & (strength[:, at] == strength))

    lost = jax.lax.fori_loop(0, neighbors.shape[1], beaten, jnp.zeros(strength.shape, bool))
    rows = jnp.arange(n_rows)
    inside = ((rows >= first) & (rows < stop))[:, None]
    found = inside & (strength >= threshold) & ~lost
    samples, channels = jnp.nonzero(found, size=size, fill_value=0)
    return samples.astype(jnp.int32), channels.astype(jnp.int32), traces[samples, channels], found.sum()


def _largest_before(strength: Any, exclusion: int) -> Any:
    """Largest of the `exclusion` rows before each row."""
    if exclusion == 0:
        return jnp.full(strength.shape, -jnp.inf)
    ended = jax.lax.reduce_window(
        strength, -jnp.inf, jax.lax.max, (exclusion, 1), (1, 1), ((exclusion, 0), (0, 0))
    )  # row t holds the largest of t - exclusion to t - 1
    return ended[: len(strength)]
