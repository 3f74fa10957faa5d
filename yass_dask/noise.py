"""Stage: the noise in clean traces, and the local whitening that makes its channels alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask import delayed

from yass_dask.backends import kernel
from yass_dask.chunked import LazyParts
from yass_dask.conditioning import PreprocessParams
from yass_dask.geometry import nearest_channels
from yass_dask.preprocess import Clean, sampled_blocks

SPIKE_SD = 4.0
"""Samples beyond this, and their surroundings, are no noise."""
MAX_WHITENING_CHANNELS = 24


@dataclass(frozen=True)
class Noise:
    """Spatial whitening of the clean traces."""

    filters: np.ndarray
    """(n_channels, n_neighbors) float32"""
    channels: np.ndarray
    """(n_channels, n_neighbors) int32, padded with n_channels"""

    def whiten(self, traces: np.ndarray, backend: str) -> np.ndarray:
        """Whiten a block given in noise standard deviations."""
        return kernel("whiten", backend)(traces, filters=self.filters, channels=self.channels)

    def matrix(self) -> np.ndarray:
        """(n_channels, n_channels) float32: whitened = traces @ matrix."""
        n_channels = len(self.filters)
        matrix = np.zeros((n_channels + 1, n_channels), np.float32)
        np.add.at(matrix, (self.channels.T, np.arange(n_channels)), self.filters.T)
        return matrix[:n_channels]


def measure_noise(clean: Clean, params: PreprocessParams, backend: str) -> LazyParts:
    """Local whitening filters from the covariance of the spike-free samples (ZCA on each channel's neighbourhood)."""
    recording = clean.recording
    around = recording.samples(1.0)
    parts = {
        chunk.name: delayed(_noise_sums, name="noise", pure=False)(block, around, clean)
        for chunk, block in sampled_blocks(recording, params.n_sampled_blocks, 0, "zero")
    }
    near = nearest_channels(
        recording.neighbors(params.whitening_radius_um), recording.probe.positions, MAX_WHITENING_CHANNELS
    )
    return LazyParts(parts, params, 1, lambda table: _whitening(table, near, clean.scale.bad, params.whitening_floor))


def _noise_sums(block: np.ndarray, around: int, clean: Clean) -> dict[str, np.ndarray]:
    """Sums of products over samples quiet on both channels, and the number of such samples."""
    from scipy.ndimage import maximum_filter1d

    x = clean.to_sd(block)
    loud = maximum_filter1d((np.abs(x) > SPIKE_SD).view(np.uint8), 2 * around + 1, axis=0, mode="nearest")
    quiet = ((loud == 0) & (x != 0).any(axis=1, keepdims=True)).astype(np.float32)
    x = x * quiet
    products, counts = x.T @ x, quiet.T @ quiet
    return {"products": products[None].astype(np.float64), "counts": counts[None].astype(np.float64)}


def _whitening(table: Mapping[str, Any], near: np.ndarray, bad: np.ndarray, floor: float) -> Noise:
    """Rows of the symmetric inverse root of each channel's local noise covariance."""
    products, counts = (np.asarray(table[name][:]).sum(axis=0) for name in ("products", "counts"))
    covariance = np.where(counts > 100, products / np.maximum(counts, 1), np.eye(len(products)))
    n_channels = len(covariance)
    filters = np.zeros(near.shape, np.float32)
    for c in range(n_channels):
        members = near[c][near[c] < n_channels]
        members = members[~bad[members]]
        if bad[c]:
            continue
        local = covariance[np.ix_(members, members)]
        values, vectors = np.linalg.eigh(local)
        root = np.sqrt(np.maximum(values, 0) + floor * values.mean())
        row = (vectors / root) @ vectors[members.tolist().index(c)]
        filters[c, np.isin(near[c], members)] = row
    return Noise(filters, near.astype(np.int32))
