"""Filtered traces to whole counts of the noise."""

import numpy as np


def quantize(
    traces: np.ndarray, *, median: np.ndarray, factor: np.ndarray, bar: float
) -> tuple[np.ndarray, np.ndarray]:
    """Standardize and round traces, and count the channels that are loud at once.

    Parameters
    ----------
    traces : (n_samples, n_channels) float32
    median, factor : (n_channels,) float32; a channel is (traces - median) * factor
    bar : a channel is loud beyond this

    Returns
    -------
    (n_samples, n_channels) int16, clipped, half to even; (n_samples,) int32, the number of loud channels
    """
    counts = (traces - median) * factor
    loud = np.count_nonzero(np.abs(counts) > bar, axis=1)
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(counts), limits.min, limits.max).astype(np.int16), loud.astype(np.int32)
