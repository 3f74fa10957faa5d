"""What spike trains tell by themselves: correlograms, presence, rates over time; some of many spikes."""

from __future__ import annotations

import numpy as np

N_STRETCHES = 20
"""A unit is looked for in so many equal stretches of the recording."""


def autocorrelogram(
    times: np.ndarray, sampling_rate: float, window_ms: float, bin_ms: float
) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the bins (ms) and spikes per second in each, relative to every spike of an ascending train."""
    n_bins = max(1, round(window_ms / bin_ms))
    edges = np.linspace(-window_ms, window_ms, 2 * n_bins + 1)
    lags = []
    for order in range(1, len(times)):
        ahead = (times[order:] - times[:-order]) / sampling_rate * 1e3
        ahead = ahead[ahead < window_ms]
        if not len(ahead):
            break
        lags.append(ahead)
    counts = np.histogram(np.concatenate([[], *lags]), edges[n_bins:])[0]
    rates = counts / max(len(times), 1) / (window_ms / n_bins / 1e3)
    return edges, np.concatenate([rates[::-1], rates])


def crosscorrelogram(
    times: np.ndarray, others: np.ndarray, sampling_rate: float, window_ms: float, bin_ms: float
) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the bins (ms) and the other train's spikes per second in each, relative to every spike of a train.

    Both trains ascend; a positive lag is an other's spike that comes after.
    """
    n_bins = max(1, round(window_ms / bin_ms))
    edges = np.linspace(-window_ms, window_ms, 2 * n_bins + 1)
    reach = int(np.ceil(window_ms * sampling_rate / 1e3))
    low = np.searchsorted(others, times - reach)
    count = np.searchsorted(others, times + reach, side="right") - low
    place = np.arange(count.sum()) + np.repeat(low - np.cumsum(count) + count, count)
    lags = (others[place] - np.repeat(times, count)) / sampling_rate * 1e3
    counts = np.histogram(lags[np.abs(lags) < window_ms], edges)[0]
    return edges, counts / max(len(times), 1) / (window_ms / n_bins / 1e3)


def evenly(n: int, most: int) -> np.ndarray:
    """At most so many of the numbers below n, spread evenly."""
    return np.unique(np.linspace(0, n, min(most, n), endpoint=False).astype(np.int64))


def presence(times: np.ndarray, n_samples: int) -> float:
    """Share of N_STRETCHES equal stretches of the recording in which a train has a spike."""
    counts = np.histogram(times, N_STRETCHES, (0, n_samples))[0]
    return float(np.mean(counts > 0))


def expected_presence(n_spikes: int) -> float:
    """Presence of as many spikes at random times, on average."""
    return float(1 - (1 - 1 / N_STRETCHES) ** n_spikes)


def rates(times: np.ndarray, n_samples: int, sampling_rate: float, n_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges of equal bins over the recording (s), and spikes per second in each."""
    counts, edges = np.histogram(times, n_bins, (0, n_samples))
    return edges / sampling_rate, counts / (n_samples / n_bins / sampling_rate)
