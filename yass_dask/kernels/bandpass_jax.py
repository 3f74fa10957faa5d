"""Zero-phase filter of a block on a GPU: two convolutions with the filter's impulse response, by Fourier transforms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.fft import next_fast_len

from yass_dask.kernels.impulse import impulse_response
from yass_dask.kernels.xla import as_float, zeros


def bandpass(traces: np.ndarray, *, sos: np.ndarray) -> np.ndarray:
    """See `bandpass_numpy`; the result stays on the device.

    A row depends on the rows before it only, so that a convolution as long as the block is the recursive filter.
    """
    if traces.size == 0:
        return zeros(*traces.shape)
    response, gain = impulse_response(np.ascontiguousarray(sos, np.float64).tobytes(), len(traces))
    return _bandpass(jnp.asarray(traces), response, gain)


@jax.jit
def _bandpass(traces: Any, response: Any, gain: Any) -> Any:
    n = len(traces)
    n_fourier = next_fast_len(n + len(response) - 1, real=True)
    spectrum = jnp.fft.rfft(response, n_fourier)[:, None]
    result = as_float(traces)
    for _ in range(2):
        first = result[:1]
        filtered = jnp.fft.irfft(jnp.fft.rfft(result - first, n_fourier, axis=0) * spectrum, n_fourier, axis=0)
        result = (filtered[:n] + first * gain)[::-1]
    return result
