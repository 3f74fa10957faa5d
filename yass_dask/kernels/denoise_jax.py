"""Waveforms without their noise, compiled once for each number of waveforms rounded up to a power of two."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from yass_dask.kernels.network import Denoiser

LEAST_WAVEFORMS = 256


def denoise(waveforms: np.ndarray, *, network: Denoiser) -> np.ndarray:
    """See `denoise_numpy`; sums in another order, products in full float32."""
    n = len(waveforms)
    padded = np.zeros((max(LEAST_WAVEFORMS, 1 << max(n - 1, 0).bit_length()), waveforms.shape[1]), np.float32)
    padded[:n] = waveforms
    return np.array(jax.jit(denoised)(padded, network)[:n])


def denoised(x: jax.Array, network: Denoiser) -> jax.Array:
    """(n, n_window) of waveforms (n, n_window); what training differentiates."""
    first = jax.nn.relu(_convolved(x[:, :, None], network.first[:, None, :]) + network.first_bias)
    second = jax.nn.relu(_convolved(first, network.second) + network.second_bias)
    output = network.output.reshape(-1, network.output.shape[-1])
    straight = jnp.matmul(x, network.linear, precision="highest")
    last = jnp.matmul(second.reshape(len(x), output.shape[0]), output, precision="highest")
    return last + network.output_bias + straight


def _convolved(x: jax.Array, taps: Any) -> jax.Array:
    """y[n, t, g] = sum over w and f of x[n, t + w, f] taps[w, f, g]."""
    dimensions = ("NWC", "WIO", "NWC")
    return jax.lax.conv_general_dilated(x, taps, (1,), "VALID", dimension_numbers=dimensions, precision="highest")
