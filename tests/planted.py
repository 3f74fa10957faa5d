"""Templates that are known as functions of time, a pursuit bank made of them, and traces they are planted in.

Nothing here calls the package's own template or overlap code: the tests that use it compare with an
independent truth. A planted spike may lie between samples, because its template is an analytic function.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from yass_dask import subsample
from yass_dask.kernels.bank import Bank

N_SAMPLES, PEAK = 41, 16


class Shape(NamedTuple):
    """One unit: a trough and a later hump on each channel, smooth enough to be shifted by any fraction."""

    gains: np.ndarray
    """(n_channels,) depth of the trough"""
    widths: np.ndarray
    """(n_channels,) its width in samples"""
    humps: np.ndarray
    """(n_channels,) size of the hump as a share of the trough"""

    def at(self, times: np.ndarray) -> np.ndarray:
        """(n_times, n_channels) waveform at times in samples from the spike's time."""
        t = np.asarray(times, np.float64)[:, None]
        trough = -np.exp(-0.5 * (t / self.widths) ** 2)
        hump = self.humps * np.exp(-0.5 * ((t - 7) / (1.4 * self.widths)) ** 2)
        return self.gains * (trough + hump)


def shapes(n_units: int, n_channels: int, seed: int = 0, height: float = 12.0) -> list[Shape]:
    """Units with main channels spread over the probe, falling off with distance, unlike in width and hump."""
    rng = np.random.default_rng(seed)
    made = []
    for u in range(n_units):
        main = u * (n_channels - 1) / max(n_units - 1, 1)
        gains = height * rng.uniform(0.8, 1.4) * np.exp(-np.abs(np.arange(n_channels) - main) / 1.3)
        widths = np.full(n_channels, 1.7 + 0.5 * (u % 3)) + 0.1 * rng.random(n_channels)
        made.append(Shape(gains, widths, np.full(n_channels, 0.15 + 0.2 * (u % 2))))
    return made


def waveforms(units: list[Shape]) -> np.ndarray:
    """(n_units, N_SAMPLES, n_channels) float32 templates, spike time at PEAK."""
    return np.stack([unit.at(np.arange(N_SAMPLES) - PEAK) for unit in units]).astype(np.float32)


def bank(
    templates: np.ndarray,
    *,
    peak: int = PEAK,
    refractory: int = 20,
    threshold: float = 0.25,
    precision: float = 1e-3,
) -> Bank:
    """Bank of templates (n_units, n_samples, n_channels) at full rank; thresholds as shares of the norm."""
    n_units, n_samples, n_channels = templates.shape
    left, values, right = np.linalg.svd(templates.astype(np.float64), full_matrices=False)
    norms = (templates.astype(np.float64) ** 2).sum(axis=(1, 2))
    start, other, overlap = [0], [], []
    for u in range(n_units):
        for v in range(n_units):
            if (np.abs(templates[u]).max(axis=0) * np.abs(templates[v]).max(axis=0)).any():
                other.append(v)
                overlap.append(overlaps(templates[u], templates[v]))
        start.append(len(other))
    return Bank(
        temporal=left.transpose(0, 2, 1).astype(np.float32),
        spatial=(values[:, :, None] * right).astype(np.float32),
        support=np.broadcast_to(np.arange(n_channels, dtype=np.int32), (n_units, n_channels)).copy(),
        norms=norms.astype(np.float32),
        thresholds=(threshold * norms).astype(np.float32),
        noise=np.ones(n_units, np.float32),
        precision=np.full(n_units, precision, np.float32),
        pair_start=np.array(start, np.int64),
        pair_unit=np.array(other, np.int32),
        pair_overlap=np.array(overlap, np.float32).reshape(len(other), 2 * n_samples - 1),
        filters=subsample.shift_filters(),
        peak=peak,
        refractory=refractory,
        amplitude_low=0.5,
        amplitude_high=1.6,
    )


def overlaps(w: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(2 n_samples - 1,): [lag + n_samples - 1] = sum_tc w[t + lag, c] v[t, c], by the definition."""
    return sum(np.correlate(w[:, c].astype(np.float64), v[:, c].astype(np.float64), "full") for c in range(w.shape[1]))


def plant(n_rows: int, units: list[Shape], times: np.ndarray, labels: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """(n_rows, n_channels) float64 traces without noise; times may lie between samples or outside."""
    traces = np.zeros((n_rows, len(units[0].gains)))
    for time, unit, amplitude in zip(times, labels, amplitudes, strict=True):
        rows = np.arange(max(int(time) - 60, 0), min(int(time) + 61, n_rows))
        if len(rows):
            traces[rows] += amplitude * units[unit].at(rows - time)
    return traces


def peaks_by_the_words(
    x: np.ndarray, threshold: float, sign: int, exclusion: int, neighbors: np.ndarray, first: int, stop: int
) -> list[tuple[int, int]]:
    """Peaks as the docstring of `find_peaks_numpy` defines them, sample by sample."""
    strength = np.abs(x) if sign == 0 else sign * x
    found = []
    for t in range(first, stop):
        for c in range(x.shape[1]):
            mine = strength[t, c]
            if mine < threshold:
                continue
            near = [
                (strength[u, d], u, d)
                for u in range(max(0, t - exclusion), min(len(x), t + exclusion + 1))
                for d in neighbors[c].tolist()
                if d < x.shape[1] and (u, d) != (t, c)
            ]
            beaten = any(s > mine or (s == mine and (u, d) < (t, c)) for s, u, d in near)
            if not beaten:
                found.append((t, c))
    return found
