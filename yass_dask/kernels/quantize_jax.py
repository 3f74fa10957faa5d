"""Filtered traces to whole counts of the noise on a GPU."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def quantize(
    traces: np.ndarray, *, median: np.ndarray, factor: np.ndarray, bar: float
) -> tuple[np.ndarray, np.ndarray]:
    """See `quantize_numpy`; the results stay on the device."""
    return _quantize(jnp.asarray(traces), median, factor, np.float32(bar))


@jax.jit
def _quantize(traces: Any, median: Any, factor: Any, bar: Any) -> tuple[Any, Any]:
    counts = (traces - median) * factor
    loud = jnp.sum(jnp.abs(counts) > bar, axis=1, dtype=jnp.int32)
    limits = jnp.iinfo(jnp.int16)
    return jnp.clip(jnp.rint(counts), limits.min, limits.max).astype(jnp.int16), loud
