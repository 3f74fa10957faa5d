"""Decentralised registration: displacements that explain best how images of many times are shifted pair by pair.

Varol et al. 2021 and Windolf et al. 2023 (decentralised registration, DREDge): every image is compared with many others
instead of one template, and the displacements are the least squares solution of all differences.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csr_array, diags_array, eye_array, kron
from scipy.sparse.linalg import cg

from yass_dask.backends import kernel

SMOOTH_UM, SMOOTH_SIZES, TRUNCATED_SD = 6.0, 0.7, 4.0
"""Histograms are smoothed over depth and over steps of size."""
LAG_RATIO = 1.25
"""Lags between compared images grow by this: each is compared with some 30 others, near and far."""
UNLIKE = 0.2
"""Pairs no more alike than this say nothing."""
TIME_WEIGHT, DEPTH_WEIGHT = 0.1, 0.3
"""Against a pair of weight 1: how much neighbours in time, and windows beside each other, hold together."""
N_REWEIGHTINGS, LEAST_SCALE_UM, ANCHOR = 8, 0.5, 1e-6


def windows_of(depths: np.ndarray, width_um: float, beyond_um: float) -> tuple[np.ndarray, np.ndarray]:
    """Triangular windows half a width apart: middles (n_windows,) um, and weights (n_windows, n_depths) float32.

    A probe that is not longer than a width has one window, which is flat.
    """
    low, high = depths[0] + beyond_um, depths[-1] - beyond_um
    n_windows = max(1, round(float(high - low) / (0.5 * width_um)))
    if n_windows == 1:
        return np.array([0.5 * (low + high)]), np.ones((1, len(depths)), np.float32)
    quarter = 0.25 * width_um
    middles = np.linspace(low + quarter, high - quarter, n_windows)
    weights = np.maximum(1 - np.abs(depths - middles[:, None]) / (0.5 * width_um), 0)
    return middles, weights.astype(np.float32)


def smoothed(counts: np.ndarray, step_um: float) -> np.ndarray:
    """Images (n_times, n_sizes, n_depths) float32 of counts: smooth, not ruled by what fires most, and brighter the
    larger the peaks are, whose places are the surer.
    """
    images = gaussian_filter1d(
        counts.astype(np.float32), SMOOTH_UM / step_um, axis=2, mode="constant", truncate=TRUNCATED_SD
    )
    images = gaussian_filter1d(images, SMOOTH_SIZES, axis=1, mode="constant")
    bright = 1 + np.arange(images.shape[1], dtype=np.float32)[:, None]
    smooth: np.ndarray = np.sqrt(np.maximum(images, 0)) * bright
    return smooth


def pairs_within(n_times: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Earlier and later image of every pair that is compared."""
    lags = np.unique(np.floor(LAG_RATIO ** np.arange(np.log(max(horizon, 1)) / np.log(LAG_RATIO) + 1)).astype(np.int64))
    lags = lags[(lags <= horizon) & (lags < n_times)]
    first = [np.arange(n_times - lag) for lag in lags]
    return np.concatenate([[], *first]).astype(np.int64), np.concatenate(
        [[], *(earlier + lag for earlier, lag in zip(first, lags, strict=True))]
    ).astype(np.int64)


def register(
    counts: np.ndarray, step_um: float, windows: np.ndarray, horizon: int, max_shift_um: float, backend: str
) -> np.ndarray:
    """Displacement of each window at each time, whose median over time is 0.

    Parameters
    ----------
    counts : (n_times, n_sizes, n_depths)
    windows : (n_windows, n_depths) float32
    horizon : pairs are at most so many times apart

    Returns
    -------
    (n_times, n_windows) float64 um
    """
    first, second = pairs_within(len(counts), horizon)
    reach = max(1, round(max_shift_um / step_um))
    found = [_shifts(counts, step_um, window, first, second, reach, backend) for window in windows]
    shifts = np.stack([shift for shift, _ in found]).astype(np.float64) * step_um
    alike = np.stack([likeness for _, likeness in found]).astype(np.float64)
    moved = solve(len(counts), first, second, shifts, np.maximum(alike - UNLIKE, 0) ** 2)
    still: np.ndarray = moved - np.median(moved, axis=0)
    return still


def _shifts(
    counts: np.ndarray, step_um: float, window: np.ndarray, first: np.ndarray, second: np.ndarray, reach: int,
    backend: str,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Shifts of the pairs under a window, in bins, and likeness; images are made of what it may see only."""
    under = np.flatnonzero(window)
    beyond = reach + int(np.ceil(TRUNCATED_SD * SMOOTH_UM / step_um))
    seen = slice(max(int(under[0]) - beyond, 0), int(under[-1]) + 1 + beyond)
    images = smoothed(counts[:, :, seen], step_um)
    shifts, likeness = kernel("pair_shifts", backend)(
        images, first=first, second=second, window=window[seen], reach=reach
    )
    return shifts, likeness


def solve(n_times: int, first: np.ndarray, second: np.ndarray, shifts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Least squares of pairs' shifts, smooth in time and depth; pairs that do not fit lose their weight (Cauchy).

    Parameters
    ----------
    first, second : (n_pairs,)
    shifts, weights : (n_windows, n_pairs)

    Returns
    -------
    (n_times, n_windows)
    """
    n_windows, n_pairs = shifts.shape
    if n_times < 2 or n_pairs == 0:
        return np.zeros((n_times, n_windows))
    pairs = np.arange(n_pairs)
    differences = csr_array(
        (np.repeat([1.0, -1.0], n_pairs), (np.tile(pairs, 2), np.concatenate([second, first]))), (n_pairs, n_times)
    )
    smooth = TIME_WEIGHT * kron(eye_array(n_windows), _roughness(n_times)) + DEPTH_WEIGHT * kron(
        _roughness(n_windows), eye_array(n_times)
    )
    smooth = (smooth + ANCHOR * eye_array(n_windows * n_times)).tocsr()
    every = kron(eye_array(n_windows), differences).tocsr()
    wanted, weight = shifts.ravel(), weights.ravel()
    moved, trust = np.zeros(n_windows * n_times), np.ones(len(wanted))
    for _ in range(N_REWEIGHTINGS):
        matrix = (every.T @ diags_array(weight * trust) @ every + smooth).tocsr()
        precondition = diags_array(1 / matrix.diagonal())
        moved, _ = cg(matrix, every.T @ (weight * trust * wanted), x0=moved, rtol=1e-6, maxiter=2000, M=precondition)
        misfit = wanted - every @ moved
        scale = 2 * max(1.4826 * float(np.median(np.abs(misfit))), LEAST_SCALE_UM)
        trust = 1 / (1 + (misfit / scale) ** 2)
    result: np.ndarray = moved.reshape(n_windows, n_times).T
    return result


def _roughness(n: int) -> csr_array:
    """Quadratic form of the differences of neighbours, (n, n)."""
    if n < 2:
        return csr_array((n, n))
    steps = diags_array([-np.ones(n - 1), np.ones(n - 1)], offsets=[0, 1], shape=(n - 1, n))
    return (steps.T @ steps).tocsr()
