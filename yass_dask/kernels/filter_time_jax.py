"""One symmetric filter along time on a GPU."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.fft import next_fast_len

from yass_dask.kernels.xla import zeros


def filter_time(traces: np.ndarray, *, taps: np.ndarray) -> np.ndarray:
    """See `filter_time_numpy`; the result stays on the device."""
    if traces.size == 0:
        return zeros(*traces.shape)
    return convolved(jnp.asarray(traces), taps)


@jax.jit
def convolved(traces: Any, taps: Any) -> Any:
    """Centred convolution along the first axis; zeros beyond the ends."""
    n, reach = len(traces), len(taps) // 2
    n_fourier = next_fast_len(n + len(taps) - 1, real=True)
    spectrum = jnp.fft.rfft(jnp.asarray(taps, jnp.float32), n_fourier)[:, None]
    full = jnp.fft.irfft(jnp.fft.rfft(traces.astype(jnp.float32), n_fourier, axis=0) * spectrum, n_fourier, axis=0)
    return full[reach : reach + n]
