"""Waveforms without their noise: waveform by waveform, every inner loop over the filters of a layer."""

import numba
import numpy as np

from yass_dask.kernels.network import SOFT_SD, Denoiser


def denoise(waveforms: np.ndarray, *, network: Denoiser) -> np.ndarray:
    """See `denoise_numpy`; sums in another order."""
    result = np.empty((len(waveforms), network.linear.shape[1]), np.float32)
    weights = tuple(np.ascontiguousarray(layer, np.float32) for layer in network)
    _denoise(np.ascontiguousarray(waveforms, np.float32), weights, np.float32(SOFT_SD), result)
    return result


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _denoise(x: np.ndarray, weights: tuple, limit: np.float32, result: np.ndarray) -> None:
    first, first_bias, second, second_bias, output, output_bias, linear = weights
    n_middle = x.shape[1] - len(first) + 1
    middle, last = np.empty((n_middle, len(first_bias)), np.float32), np.empty_like(second_bias)
    soft = np.empty(x.shape[1], np.float32)
    for i in range(len(x)):
        result[i] = output_bias
        result[i] += x[i]
        for t in range(x.shape[1]):
            soft[t] = x[i, t] / (1 + abs(x[i, t]) / limit)
            _add(result[i], soft[t], linear[t])
        for t in range(n_middle):
            middle[t] = first_bias
            for w in range(len(first)):
                _add(middle[t], soft[t + w], first[w])
        for t in range(len(output)):
            last[:] = second_bias
            for w in range(len(second)):
                for f in range(len(first_bias)):
                    if middle[t + w, f] > 0:
                        _add(last, middle[t + w, f], second[w, f])
            for f in range(len(last)):
                if last[f] > 0:
                    _add(result[i], last[f], output[t, f])


@numba.njit(nogil=True, cache=True, inline="always", fastmath={"contract", "reassoc"})
def _add(total: np.ndarray, factor: np.float32, row: np.ndarray) -> None:
    for i in range(len(total)):
        total[i] += factor * row[i]
