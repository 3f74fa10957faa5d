"""Waveforms without their noise, by a small network."""

import numpy as np

from yass_dask.kernels.network import EVENTS_AT_ONCE, SOFT_SD, Denoiser


def denoise(waveforms: np.ndarray, *, network: Denoiser) -> np.ndarray:
    """Take the noise out of waveforms.

    Parameters
    ----------
    waveforms : (n, n_window) float32, each on one channel, in the unit the network was trained in

    Returns
    -------
    (n, n_window) float32
    """
    found = [np.zeros((0, network.linear.shape[1]), np.float32)]
    for start in range(0, len(waveforms), EVENTS_AT_ONCE):
        found.append(_denoised(waveforms[start : start + EVENTS_AT_ONCE].astype(np.float32), network))
    return np.concatenate(found)


def _denoised(x: np.ndarray, network: Denoiser) -> np.ndarray:
    soft = x / (1 + np.abs(x) / np.float32(SOFT_SD))
    first = np.maximum(_windows(soft, len(network.first)) @ network.first + network.first_bias, 0)
    taps, n_first, n_second = network.second.shape
    windows = _windows(first, taps).swapaxes(2, 3).reshape(len(x), -1, taps * n_first)
    second = np.maximum(windows @ network.second.reshape(-1, n_second) + network.second_bias, 0)
    output = network.output.reshape(-1, network.output.shape[-1])
    result: np.ndarray = (
        second.reshape(len(x), output.shape[0]) @ output + network.output_bias + soft @ network.linear + x
    )
    return result


def _windows(x: np.ndarray, taps: int) -> np.ndarray:
    """Windows along the second axis, as the last axis."""
    return np.lib.stride_tricks.sliding_window_view(x, taps, axis=1)
