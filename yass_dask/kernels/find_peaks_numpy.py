"""Threshold extrema with spatio-temporal exclusion."""

import numpy as np
from scipy.ndimage import maximum_filter1d


def find_peaks(
    traces: np.ndarray,
    *,
    threshold: float,
    sign: int,
    exclusion: int,
    neighbors: np.ndarray,
    first: int,
    stop: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples that reach the threshold and are the extremum of their neighbourhood in time and space.

    (t, c) is a peak if its strength is at least `threshold` and no (t', c') with |t' - t| <= exclusion and c'
    in the neighbourhood of c is stronger. Of equally strong ones the earlier sample wins, then the lower channel:
    a peak is dropped if an equal one before it in that order lies in its neighbourhood, whatever became of that one.

    Parameters
    ----------
    traces : (n_samples, n_channels) float32
    threshold : in the unit of the traces, positive
    sign : -1 for troughs (strength is -x), +1 for positive peaks (x), 0 for both (|x|)
    exclusion : samples
    neighbors : (n_channels, n_neighbors) int, padded with n_channels; a channel is its own neighbour
    first, stop : only peaks with first <= t < stop are returned; `exclusion` samples before and after are looked at

    Returns
    -------
    samples, channels : (n_peaks,) int32, sorted by sample, then channel; samples are rows of `traces`
    heights : (n_peaks,) float32, the traces there
    """
    strength = np.abs(traces) if sign == 0 else sign * traces
    in_time = maximum_filter1d(strength, 2 * exclusion + 1, axis=0, mode="constant", cval=-np.inf)
    padded = np.concatenate([in_time, np.full((len(traces), 1), -np.inf, in_time.dtype)], axis=1)
    largest = padded[:, neighbors].max(axis=2)
    candidates = (strength >= threshold) & (strength >= largest)
    candidates[:first] = False
    candidates[stop:] = False
    samples, channels = np.nonzero(candidates)
    kept = [
        not _has_earlier_equal(strength, t, c, exclusion, neighbors[c])
        for t, c in zip(samples.tolist(), channels.tolist(), strict=True)
    ]
    samples, channels = samples[kept].astype(np.int32), channels[kept].astype(np.int32)
    return samples, channels, traces[samples, channels]


def _has_earlier_equal(strength: np.ndarray, t: int, c: int, exclusion: int, neighbors: np.ndarray) -> bool:
    """Is an equally strong value in the neighbourhood before (t, c) in the order of sample, then channel?"""
    near = neighbors[neighbors < strength.shape[1]]
    before = strength[max(t - exclusion, 0) : t, near] == strength[t, c]
    same = strength[t, near[near < c]] == strength[t, c]
    return bool(before.any() or same.any())
