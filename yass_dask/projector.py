"""Features of events straight from traces: whitening, shift by a fraction of a sample and projection in one map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yass_dask import subsample
from yass_dask.backends import kernel, on_host
from yass_dask.noise import Noise


@dataclass(frozen=True)
class Basis:
    """Temporal components: features of a waveform are waveform.T @ project, with unit noise variance."""

    project: np.ndarray
    """(n_samples, n_components) float32"""
    before: int


@dataclass(frozen=True)
class Projector:
    """Features of whitened waveforms on the channels of some sites, without whitening what lies between them."""

    gather: np.ndarray
    """(n_sites, n_wide) int32: channels that a site reads, those that whiten its own; padded with n_channels"""
    mix: np.ndarray
    """(n_sites, n_local, n_wide) float32"""
    bank: np.ndarray
    """(n_shifts, n_window, n_components) float32"""
    before: int
    backend: str

    @classmethod
    def of(cls, noise: Noise, basis: Basis, sites: np.ndarray, backend: str) -> Projector:
        """Projector onto sites (n_sites, n_local), lists of channels padded with n_channels."""
        gather, mix = _whitened_from(noise, sites)
        taps = np.ones(1) if noise.taps is None else noise.taps.astype(np.float64)
        bank = [
            np.apply_along_axis(np.convolve, 0, basis.project.astype(np.float64), np.convolve(shift, taps))
            for shift in subsample.shift_filters().astype(np.float64)
        ]
        before = basis.before + subsample.REACH + noise.reach
        return cls(gather, mix, np.stack(bank).astype(np.float32), before, backend)

    def features(self, traces: np.ndarray, rows: np.ndarray, sites: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """(n, n_local, n_components) float32 of events that lie a shift (index) later than their rows."""
        features = kernel("project", self.backend)(
            traces, rows=rows, sites=sites, shifts=subsample.opposite(shifts), gather=self.gather, mix=self.mix,
            bank=self.bank, before=self.before,
        )  # fmt: skip
        result: np.ndarray = on_host(features)
        return result


def _whitened_from(noise: Noise, sites: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the channels of each site are whitened from: (n_sites, n_wide), and weights (n_sites, n_local, n_wide)."""
    n_channels = len(noise.filters)
    unions = []
    for site in sites:
        at = np.flatnonzero(site < n_channels)
        local = site[at]
        near, index = np.unique(noise.channels[local], return_inverse=True)
        weights = np.zeros((sites.shape[1], len(near)), np.float32)
        np.add.at(weights, (at[:, None], index.reshape(noise.channels[local].shape)), noise.filters[local])
        read = near < n_channels
        unions.append((near[read], weights[:, read]))
    wide = max((len(near) for near, _ in unions), default=0)
    gather = np.full((len(sites), wide), n_channels, np.int32)
    mix = np.zeros((len(sites), sites.shape[1], wide), np.float32)
    for i, (near, weights) in enumerate(unions):
        gather[i, : len(near)], mix[i, :, : len(near)] = near, weights
    return gather, mix


def tops(traces: np.ndarray, noise: Noise, rows: np.ndarray, channels: np.ndarray, backend: str) -> np.ndarray:
    """(n,) index of the shift from each peak's row to its top on one channel of the traces whitened in space."""
    beside = kernel("beside", backend)(
        traces, rows=rows, sites=channels, filters=noise.filters, channels=noise.channels
    )  # fmt: skip
    return peak_shift(*on_host(beside).T)


def peak_shift(left: np.ndarray, middle: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Index of the shift from a sample to the top of the parabola through it and the two beside it."""
    bend = left - 2 * middle + right
    offset = np.where(bend != 0, 0.5 * (left - right) / np.where(bend == 0, 1, bend), 0)
    return subsample.shift_index(offset)
