"""What the JAX kernels share.

A JAX function is compiled for every shape it meets, so what varies in length (events, units, pairs) is filled up to a
few lengths. Products are taken in full float32: the tensor cores' short formats would cost spikes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PRECISION = "highest"


def tiles(padded: Any, n_tiles: int, hop: int, length: int) -> Any:
    """(n_tiles, length, ...) overlapping pieces of an array, `hop` rows apart."""
    return padded[np.arange(n_tiles)[:, None] * hop + np.arange(length)[None, :]]


def zeros(*shape: int) -> Any:
    """On the device, float32."""
    return jnp.zeros(shape, jnp.float32)


def as_float(array: Any) -> Any:
    """On the device, float32."""
    return jnp.asarray(array).astype(jnp.float32)


def finds_gpu() -> bool:
    """Whether there is a GPU."""
    return jax.default_backend() == "gpu"
