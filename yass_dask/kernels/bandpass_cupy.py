"""Zero-phase filter of a block with CuPy: convolved twice with the filter's impulse response, by transforms."""

import cupy
import numpy as np
from scipy.fft import next_fast_len

from yass_dask.kernels.impulse import impulse_response


def bandpass(traces: np.ndarray, *, sos: np.ndarray) -> np.ndarray:
    """See `bandpass_numpy`; the result stays on the device.

    A row depends on the rows before it only, so that a convolution as long as the block is the recursive filter.
    """
    n = len(traces)
    if traces.size == 0:
        return cupy.zeros(traces.shape, cupy.float32)
    response, gain = impulse_response(np.ascontiguousarray(sos, np.float64).tobytes(), n)
    n_fourier = next_fast_len(n + len(response) - 1, real=True)
    spectrum = cupy.fft.rfft(cupy.asarray(response), n_fourier)[:, None]
    result = cupy.asarray(traces).astype(cupy.float32)
    for _ in range(2):
        first = result[:1]
        filtered = cupy.fft.irfft(cupy.fft.rfft(result - first, n_fourier, axis=0) * spectrum, n_fourier, axis=0)
        result = (filtered[:n] + first * gain)[::-1]
    return result.astype(cupy.float32)
