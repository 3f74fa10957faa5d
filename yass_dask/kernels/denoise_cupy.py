"""Waveforms without their noise with CuPy."""

from typing import Any

import cupy
import numpy as np

from yass_dask.kernels.cuda import as_float
from yass_dask.kernels.device import Latest
from yass_dask.kernels.network import SOFT_SD, Denoiser


def denoise(waveforms: np.ndarray, *, network: Denoiser, memory: int = 2**28) -> np.ndarray:
    """See `denoise_numpy`; sums in another order, the result stays on the device. `memory` bytes hold the layers of a
    batch of waveforms.
    """
    weights = _on_device(network)
    taps, n_first, n_second = network.second.shape
    n_left = len(network.output)
    per_waveform = 4 * (waveforms.shape[1] * (len(network.first) + 2 * n_first) + n_left * (taps * n_first + n_second))
    batch = max(1, memory // max(per_waveform, 1))
    result = cupy.zeros((len(waveforms), network.linear.shape[1]), cupy.float32)
    for start in range(0, len(waveforms), batch):
        some = slice(start, start + batch)
        result[some] = _denoised(as_float(waveforms[some]), weights)
    return result


def _denoised(x: Any, network: Denoiser) -> Any:
    soft = x / (1 + cupy.abs(x) / np.float32(SOFT_SD))
    first = cupy.maximum(_convolved(soft[:, :, None], network.first[:, None, :]) + network.first_bias, 0)
    second = cupy.maximum(_convolved(first, network.second) + network.second_bias, 0)
    output = network.output.reshape(-1, network.output.shape[-1])
    last = second.reshape(len(x), output.shape[0]) @ output + network.output_bias
    return last + soft @ network.linear + x


def _convolved(x: Any, taps: Any) -> Any:
    """y[n, t, g] = sum over w and f of x[n, t + w, f] taps[w, f, g], as one product."""
    n_left = x.shape[1] - len(taps) + 1
    at = cupy.arange(n_left)[:, None] + cupy.arange(len(taps))[None, :]
    windows = x[:, at].reshape(len(x), n_left, -1)
    return windows @ taps.reshape(-1, taps.shape[-1])


_on_device = Latest(lambda network: Denoiser(*(as_float(layer) for layer in network)))
