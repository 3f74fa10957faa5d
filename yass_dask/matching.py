"""Templates -> what the pursuit matches: whitened, low-rank, with the overlaps of all pairs that meet in space."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import fft

from yass_dask.noise import Noise
from yass_dask.templates import Templates


class LowRank(NamedTuple):
    """Whitened templates w[t, c] = sum_r temporal[r, t] spatial[r, c]; fields as of `kernels.bank.Bank`."""

    temporal: np.ndarray
    spatial: np.ndarray
    support: np.ndarray
    norms: np.ndarray
    doubt: np.ndarray
    """(n_units,) energy that noise in the average is expected to have left in the template"""


def low_rank(templates: Templates, noise: Noise, rank: int, max_support: int) -> LowRank:
    """Whiten templates, keep the channels and components that stand out of the noise of the average.

    A mean of n spikes carries noise of variance 1/n per whitened sample; a channel is kept if its energy is more than
    twice what that gives, a component if it is more than the largest that pure noise would give.
    """
    matrix, along = noise.sparse_matrix(), noise.time_matrix(templates.n_samples)
    n_channels, n_samples = templates.n_channels, templates.n_samples
    width = min(max_support, n_channels)
    temporal = np.zeros((len(templates), rank, n_samples), np.float32)
    spatial = np.zeros((len(templates), rank, width), np.float32)
    support = np.full((len(templates), width), n_channels, np.int32)
    doubt = np.zeros(len(templates), np.float32)
    for u in range(len(templates)):
        local = (templates.channels[u] < n_channels) & templates.waveforms[u].any(axis=0)
        mixing = matrix[templates.channels[u][local]].toarray()
        reached = np.flatnonzero(mixing.any(axis=0))
        reached = reached if len(reached) else np.arange(1)
        white = along @ (templates.waveforms[u][:, local] @ mixing[:, reached])
        energy = (white**2).sum(axis=0)
        n_spikes = max(int(templates.n_spikes[u]), 1)
        floor = n_samples / n_spikes
        order = np.argsort(-energy, kind="stable")[:width]
        kept = order[energy[order] > max(2 * floor, 1e-3 * energy[order[0]])] if len(order) else order
        kept = np.sort(kept if len(kept) else order[:1])
        left, values, right = np.linalg.svd(white[:, kept], full_matrices=False)
        noise_edge = (np.sqrt(n_samples) + np.sqrt(len(kept))) / np.sqrt(n_spikes)
        n_kept = max(1, min(rank, len(values), int((values > noise_edge).sum())))
        temporal[u, :n_kept] = left[:, :n_kept].T
        spatial[u, :n_kept, : len(kept)] = values[:n_kept, None] * right[:n_kept]
        support[u, : len(kept)] = reached[kept]
        doubt[u] = n_kept * (n_samples + len(kept) - n_kept) / n_spikes
    norms = (spatial**2).sum(axis=(1, 2))
    return LowRank(temporal, spatial, support, norms.astype(np.float32), doubt)


def pairs(ranked: LowRank, n_channels: int, together: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of units whose supports share a channel: (n_units + 1,) start of each unit's, (n_pairs,) the other.

    `together`: (n_units, n_units) sparse, nonzero for the pairs that may meet in time; None: all.
    """
    on = np.zeros((len(ranked.support), n_channels + 1), np.float32)
    np.put_along_axis(on, ranked.support.astype(np.int64), 1.0, axis=1)
    meets = (on[:, :n_channels] @ on[:, :n_channels].T) > 0
    if together is not None:
        meets &= together.toarray() > 0
    np.fill_diagonal(meets, True)
    start = np.concatenate([[0], np.cumsum(meets.sum(axis=1))]).astype(np.int64)
    return start, np.nonzero(meets)[1].astype(np.int32)


def pair_overlaps(ranked: LowRank, start: np.ndarray, other: np.ndarray, n_channels: int) -> np.ndarray:
    """(n_pairs, 2 n_samples - 1) float32: [p, lag + n_samples - 1] = sum_tc w_u[t + lag, c] w_v[t, c].

    Computed from the low-rank factors: r x r one-dimensional correlations, in the frequency domain. Of two units one
    order is computed, the other is its mirror image.
    """
    n_samples = ranked.temporal.shape[2]
    length = 2 * n_samples - 1
    spectra = fft.rfft(ranked.temporal, n=length, axis=2)
    result = np.zeros((len(other), length), np.float32)
    for u in range(len(start) - 1):
        mine = np.arange(start[u], start[u + 1])
        mine = mine[other[mine] >= u]
        others, on = other[mine], ranked.support[u][ranked.support[u] < n_channels]
        full = _spread(ranked, np.append(others, u), n_channels)
        mixed = full[-1][:, on] @ full[:-1, :, on].transpose(0, 2, 1)
        products = (spectra[u] * (mixed @ spectra[others].conj())).sum(axis=1)
        result[mine] = np.roll(fft.irfft(products, n=length, axis=1), n_samples - 1, axis=1)
    return _mirrored(result, start, other)


def _spread(ranked: LowRank, units: np.ndarray, n_channels: int) -> np.ndarray:
    """(n, rank, n_channels + 1) spatial components of some units on all channels: of all units they would fill GB."""
    spatial, support = ranked.spatial[units], ranked.support[units].astype(np.int64)
    full = np.zeros((*spatial.shape[:2], n_channels + 1), np.float32)
    np.put_along_axis(full, np.broadcast_to(support[:, None, :], spatial.shape), spatial, axis=2)
    return full


def _mirrored(overlaps: np.ndarray, start: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Fill in the pairs (u, v) with v < u from (v, u)."""
    n_units = len(start) - 1
    first = np.repeat(np.arange(n_units), np.diff(start))
    later = np.flatnonzero(other < first)
    place = first * n_units + other  # ascending
    overlaps[later] = overlaps[np.searchsorted(place, other[later] * n_units + first[later]), ::-1]
    return overlaps


def noise_levels(ranked: LowRank, noise: Noise) -> np.ndarray:
    """(n_units,) variance of the noise along each template's direction: w' T w / |w|^2, T the noise's Toeplitz."""
    n_samples = ranked.temporal.shape[2]
    autocovariance = noise.autocovariance(n_samples)
    toeplitz = autocovariance[np.abs(np.subtract.outer(np.arange(n_samples), np.arange(n_samples)))]
    inner = np.einsum("urt,ts,uqs->urq", ranked.temporal, toeplitz, ranked.temporal, optimize=True)
    across = np.einsum("urc,uqc->urq", ranked.spatial, ranked.spatial)
    return ((inner * across).sum(axis=(1, 2)) / np.maximum(ranked.norms, 1e-9)).astype(np.float32)


def distances(
    ranked: LowRank,
    start: np.ndarray,
    other: np.ndarray,
    overlaps: np.ndarray,
    max_lag: int,
    max_scale: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Of each pair (u, v): least |w_u - s w_v(. - lag)| over lags and scales s up to `max_scale` either way; the lag.

    What noise in the two averages adds to the distance is taken off.

    The lag is a whole number of samples; a parabola through the overlap takes up the fraction.
    """
    n_samples = ranked.temporal.shape[2]
    centre = n_samples - 1
    max_lag = min(max_lag, centre - 1)
    window = overlaps[:, centre - max_lag : centre + max_lag + 1]
    best = window.argmax(axis=1)
    rows = np.arange(len(overlaps))
    middle = centre - max_lag + best
    left, top, right = (overlaps[rows, middle + d] for d in (-1, 0, 1))
    bend = left - 2 * top + right
    offset = np.clip(np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, 1), 0), -0.5, 0.5)
    top = top - 0.25 * (left - right) * offset
    first = np.repeat(np.arange(len(start) - 1), np.diff(start))
    n_u, n_v = ranked.norms[first], ranked.norms[other]
    scale = np.clip(top / np.maximum(n_v, 1e-9), 1 / max_scale, max_scale)
    squared = n_u + scale**2 * n_v - 2 * scale * top - ranked.doubt[first] - scale**2 * ranked.doubt[other]
    return np.sqrt(np.maximum(squared, 0)), best - max_lag
