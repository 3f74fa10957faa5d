"""Waveforms without their noise, compiled once for each number of waveforms rounded up to a power of two."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from yass_dask.kernels.network import SOFT_SD, Denoiser

LEAST_WAVEFORMS = 256


def denoise(waveforms: np.ndarray, *, network: Denoiser) -> np.ndarray:
    """See `denoise_numpy`; sums in another order, products in full float32."""
    n = len(waveforms)
    padded = np.zeros((max(LEAST_WAVEFORMS, 1 << max(n - 1, 0).bit_length()), waveforms.shape[1]), np.float32)
    padded[:n] = waveforms
    return np.array(_denoised(padded, network)[:n])


def denoised(x: jax.Array, network: Denoiser) -> jax.Array:
    """(n, n_window) of waveforms (n, n_window); what training differentiates."""
    soft = x / (1 + jnp.abs(x) / SOFT_SD)
    first = jax.nn.relu(_convolved(soft[:, :, None], network.first[:, None, :]) + network.first_bias)
    second = jax.nn.relu(_convolved(first, network.second) + network.second_bias)
    output = network.output.reshape(-1, network.output.shape[-1])
    straight = x + jnp.matmul(soft, network.linear, precision="highest")
    last = jnp.matmul(second.reshape(len(x), output.shape[0]), output, precision="highest")
    return last + network.output_bias + straight


def _convolved(x: jax.Array, taps: Any) -> jax.Array:
    """y[n, t, g] = sum over w and f of x[n, t + w, f] taps[w, f, g]: one product, on CPUs far faster than XLA's."""
    n_left = x.shape[1] - len(taps) + 1
    windows = jnp.concatenate([x[:, w : w + n_left] for w in range(len(taps))], axis=2)
    return jnp.matmul(windows, taps.reshape(-1, taps.shape[-1]), precision="highest")


_denoised = jax.jit(denoised)
