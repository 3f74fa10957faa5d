"""Filter and standardization of arrays, for `BatchProcessor` and `BatchPipeline`."""

from __future__ import annotations

import numpy as np

from yass_dask.backends import kernel
from yass_dask.conditioning import PreprocessParams, design, settling_samples
from yass_dask.errors import InputError

MIDDLE_S = 5.0
MEDIAN_TO_SD = 0.6745


def butterworth(
    ts: np.ndarray, low_freq: float | None, high_factor: float | None, order: int, sampling_freq: float
) -> np.ndarray:
    """Band-pass by a Butterworth filter that runs forward and backward, so that nothing is moved in time.

    Parameters
    ----------
    ts : (n_samples,) or (n_samples, n_channels) array
    low_freq : lower corner, Hz; None: no high-pass
    high_factor : upper corner as a share of the sampling rate, at most 0.45; None: no low-pass
    order : of the filter
    sampling_freq : Hz

    Returns
    -------
    array of the shape of `ts`, float32. Beyond the ends the first and the last sample are thought to go on.

    Raises
    ------
    InputError
        Corners that cannot be.
    """
    high = None if high_factor is None else high_factor * sampling_freq
    try:
        params = PreprocessParams(filter_low_hz=low_freq, filter_high_hz=high, filter_order=order)
    except ValueError as error:
        raise InputError(
            f"butterworth: low_freq {low_freq}, high_factor {high_factor}, order {order}: {error}"
        ) from None
    sos = design(sampling_freq, params)
    traces = _columns(ts)
    if sos is None:
        return traces.astype(np.float32).reshape(np.shape(ts))
    halo = settling_samples(sos)
    padded = np.pad(traces, ((halo, halo), (0, 0)), mode="edge")
    filtered: np.ndarray = kernel("bandpass", "numpy")(padded, sos=sos)
    return filtered[halo : halo + len(traces)].reshape(np.shape(ts))


def standarize(rec: np.ndarray, sampling_freq: float) -> np.ndarray:
    """Divide each channel by its noise: median(abs(x)) / 0.6745 over the middle five seconds.

    Parameters
    ----------
    rec : (n_samples,) or (n_samples, n_channels) array, filtered
    sampling_freq : Hz

    Returns
    -------
    array of the shape of `rec`; a channel without any noise stays as it is
    """
    traces = _columns(rec)
    middle, half = len(traces) // 2, int(MIDDLE_S / 2 * sampling_freq)
    sd = np.median(np.abs(traces[max(middle - half, 0) : middle + half]), axis=0) / MEDIAN_TO_SD
    return (traces / np.where(sd > 0, sd, 1)).reshape(np.shape(rec))


def _columns(values: np.ndarray) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim not in (1, 2) or not len(array):
        raise InputError(f"expected an array (n_samples,) or (n_samples, n_channels), found shape {array.shape}")
    return array.reshape(len(array), -1)
