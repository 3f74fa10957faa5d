"""The noise of a recording as two covariances, over channels and over time, and draws from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter1d

from yass_dask.errors import InputError

LOUD_SD = 3.0
"""Samples beyond this, and a waveform's length around them, are no noise."""
SNIPPETS = 1000
"""Stretches of noise that the covariance over time is measured on, at most."""
LEAST_SNIPPETS = 10
MAX_TURNS = 20


class NoiseModel(NamedTuple):
    """Symmetric roots of the noise's covariances."""

    spatial_SIG: np.ndarray
    """(n_neighbors, n_neighbors), over a channel and its neighbours by distance"""
    temporal_SIG: np.ndarray
    """(waveform_length, waveform_length), of unit variance"""


def measure_noise(traces: np.ndarray, channel_index: np.ndarray, waveform_length: int, seed: int = 0) -> NoiseModel:
    """Covariances of the stretches without spikes.

    Parameters
    ----------
    traces : (n_samples, n_channels) standardized
    channel_index : (n_channels, n_neighbors) each channel, then its neighbours by distance, padded with n_channels

    Raises
    ------
    InputError
        There are hardly any such stretches.
    """
    x = np.asarray(traces, np.float64)
    loud = np.abs(x) > LOUD_SD
    quiet = maximum_filter1d(loud.view(np.uint8), 2 * waveform_length + 1, axis=0) == 0
    quiet &= (x != 0).any(axis=1, keepdims=True)
    kept = x * quiet
    counts = quiet.astype(np.float64).T @ quiet
    covariance = np.divide(kept.T @ kept, counts, out=np.zeros_like(counts), where=counts > 0)
    spatial = _over_neighbors(covariance, channel_index)
    return NoiseModel(_root(spatial), _root(_over_time(x, quiet, waveform_length, seed)))


def draw_noise(n: int, model: NoiseModel, draw: np.random.Generator) -> np.ndarray:
    """(n, waveform_length, n_neighbors) float32 noise."""
    white = draw.standard_normal((n, len(model.temporal_SIG), len(model.spatial_SIG)))
    noise: np.ndarray = model.temporal_SIG @ white @ model.spatial_SIG
    return noise.astype(np.float32)


def add_noise(
    x: np.ndarray, model: NoiseModel, draw: np.random.Generator, reject_cancelling_noise: bool = False
) -> np.ndarray:
    """Waveforms (n, waveform_length, n_neighbors) with noise.

    Parameters
    ----------
    reject_cancelling_noise : draw anew, a few times, where noise makes a waveform smaller than it is without
    """
    noisy = x + draw_noise(len(x), model, draw)
    size = np.abs(x).max(axis=(1, 2), initial=0)
    for _ in range(MAX_TURNS if reject_cancelling_noise else 0):
        smaller = np.flatnonzero(np.abs(noisy).max(axis=(1, 2), initial=0) < size)
        noisy[smaller] = x[smaller] + draw_noise(len(smaller), model, draw)
    return noisy.astype(np.float32)


def _over_neighbors(covariance: np.ndarray, channel_index: np.ndarray) -> np.ndarray:
    """Mean covariance between the i-th and the j-th nearest channel; unit variance where there is no such channel."""
    n_channels, width = len(covariance), channel_index.shape[1]
    padded = np.pad(covariance, (0, 1), constant_values=np.nan)
    index = np.minimum(channel_index, n_channels)
    pairs = padded[index[:, :, None], index[:, None, :]]
    there = ~np.isnan(pairs)
    mean: np.ndarray = np.where(there, pairs, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    return np.where(there.any(axis=0), mean, np.eye(width))


def _over_time(x: np.ndarray, quiet: np.ndarray, length: int, seed: int) -> np.ndarray:
    """Covariance of stretches of single channels in which all is quiet, scaled to unit variance."""
    so_far = np.cumsum(np.pad(quiet, ((1, 0), (0, 0))), axis=0)
    starts, channels = np.nonzero(so_far[length:] - so_far[:-length] == length)
    if len(starts) < LEAST_SNIPPETS:
        raise InputError(
            f"the traces have {len(starts)} stretches of {length} samples without anything beyond {LOUD_SD:g} standard "
            "deviations: too few to measure the noise; give a longer recording, or check that it is standardized"
        )
    picked = np.random.default_rng(seed).choice(len(starts), min(SNIPPETS, len(starts)), replace=False)
    cuts = x[starts[picked, None] + np.arange(length), channels[picked, None]]
    covariance: np.ndarray = cuts.T @ cuts / len(cuts)
    return covariance / np.mean(np.diag(covariance))


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    root: np.ndarray = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    return root
