"""Stage: the noise in clean traces, and the local whitening that makes its channels alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from dask import delayed
from scipy.fft import next_fast_len
from scipy.linalg import toeplitz

from yass_dask.backends import kernel, on_host
from yass_dask.chunked import LazyParts
from yass_dask.conditioning import PreprocessParams
from yass_dask.geometry import nearest_channels
from yass_dask.preprocess import Clean, sampled_blocks, thinning
from yass_dask.recording.spans import len_of

SPIKE_SD = 4.0
"""Samples beyond this, and their surroundings, are no noise."""
MAX_LAG_MS = 5.0
CHANNELS_AT_ONCE = 384
"""Products of so many channels with all others near them are made at once."""
MAX_WHITENING_CHANNELS = 24
STRETCH = 200
"""Samples; in so many, noise changes."""
MAX_CHANNELS_FOR_LAGS = 32
"""Autocovariances are means over channels: so many are enough."""
TAPS_MS = 1.0
"""The filter that whitens in time looks so far before and after."""
SPECTRUM_FLOOR = 0.05
"""Share of the largest power density added to the noise's before it is inverted."""
TOP_OF_BAND = 0.9
"""Above this share of the band-pass's upper corner the noise falls because of the band-pass: it is not raised again."""


@dataclass(frozen=True)
class Noise:
    """Whitening of the clean traces, in space and, once its spectrum was measured, along time."""

    filters: np.ndarray
    """(n_channels, n_neighbors) float32"""
    channels: np.ndarray
    """(n_channels, n_neighbors) int32, padded with n_channels"""
    lags: np.ndarray = field(default_factory=lambda: np.ones(1))
    """(n_lags,) autocovariance of the noise whitened in space, mean over channels; lag 0 is its variance"""
    taps: np.ndarray | None = None
    """(n_taps,) float32, a symmetric filter along time; None: whitened in space only"""

    @property
    def reach(self) -> int:
        """Samples before and after each that the filter along time looks at."""
        return 0 if self.taps is None else len(self.taps) // 2

    def whiten(self, traces: np.ndarray, backend: str) -> np.ndarray:
        """Whiten a block given in noise standard deviations."""
        white: np.ndarray = kernel("whiten", backend)(
            traces, filters=self.filters, channels=self.channels, taps=self.taps
        )
        return white

    def in_space(self) -> Noise:
        """The same, whitening in space only."""
        return replace(self, taps=None)

    def along_time(self, white: np.ndarray) -> np.ndarray:
        """Waveforms (n_samples, n_channels) that are whitened in space, whitened in time if this noise is."""
        return white if self.taps is None else self.time_matrix(len(white)) @ white

    def time_matrix(self, n_samples: int) -> np.ndarray:
        """(n_samples, n_samples) float32: whitened in time = matrix @ waveform."""
        first = np.zeros(max(n_samples, self.reach + 1), np.float32)
        first[: self.reach + 1] = 1 if self.taps is None else self.taps[self.reach :]
        matrix: np.ndarray = toeplitz(first)[:n_samples, :n_samples]
        return matrix

    def autocovariance(self, n_lags: int) -> np.ndarray:
        """(n_lags,) of the whitened noise."""
        both = np.concatenate([self.lags[:0:-1], self.lags])
        if self.taps is not None:
            both = np.convolve(both, np.convolve(self.taps, self.taps[::-1]), mode="same")
        half = both[len(both) // 2 :][:n_lags]
        return np.pad(half, (0, n_lags - len(half)))

    def in_time(self, lags: np.ndarray, sampling_rate: float, upper_hz: float | None) -> Noise:
        """The same with a filter along time that whitens noise of this autocovariance.

        The filter's gain is 1 / sqrt(power density). Outside of the band-pass, where there is no noise because
        nothing was let through, raising it would only bring up rounding noise: there the gain stays what it is at
        the band's edges.

        Parameters
        ----------
        lags : (n_lags,) autocovariance of the noise whitened in space
        upper_hz : upper corner of the band-pass
        """
        n_lags = len(lags)
        window = np.cos(0.5 * np.pi * np.arange(n_lags) / n_lags) ** 2
        one_sided = lags * window
        power = np.fft.rfft(np.concatenate([one_sided, one_sided[:0:-1]])).real
        frequency = np.fft.rfftfreq(2 * n_lags - 1, 1 / sampling_rate)
        power[: int(power.argmax())] = power.max()
        top = TOP_OF_BAND * min(upper_hz or np.inf, 0.5 * sampling_rate)
        power[frequency > top] = power[np.searchsorted(frequency, top, side="right") - 1]
        gain = 1 / np.sqrt(np.maximum(power, 0) + SPECTRUM_FLOOR * power.max())
        reach = min(round(TAPS_MS * sampling_rate / 1e3), n_lags - 1)
        response = np.fft.fftshift(np.fft.irfft(gain, 2 * n_lags - 1))
        taps = response[n_lags - 1 - reach : n_lags + reach] * np.hanning(2 * reach + 3)[1:-1]
        return replace(self, lags=lags, taps=taps.astype(np.float32))

    def matrix(self) -> np.ndarray:
        """(n_channels, n_channels) float32: whitened = traces @ matrix."""
        n_channels = len(self.filters)
        matrix: np.ndarray = self.sparse_matrix().toarray()[:n_channels]
        return matrix

    def sparse_matrix(self) -> Any:
        """The same as a scipy.sparse array by rows, with one more of padding: of many channels it is nearly all 0."""
        from scipy.sparse import csr_array

        n_channels, n_near = self.channels.shape
        columns = np.repeat(np.arange(n_channels), n_near)
        entries = self.filters.ravel(), (self.channels.ravel(), columns)
        return csr_array(entries, shape=(n_channels + 1, n_channels))


def measure_noise(clean: Clean, params: PreprocessParams, backend: str) -> LazyParts:
    """Local whitening filters from the covariance of the spike-free samples (ZCA on each channel's neighbourhood)."""
    recording = clean.recording
    around, thin = recording.samples(1.0), thinning(recording, params.n_sampled_blocks)
    near = nearest_channels(
        recording.neighbors(params.whitening_radius_um), recording.probe.positions, MAX_WHITENING_CHANNELS
    )
    parts = {
        chunk.name: delayed(_noise_sums, name="noise", pure=False)(block, near, around, clean, thin)
        for chunk, block in sampled_blocks(recording, params.n_sampled_blocks, 0, "zero")
    }
    bad, floor = clean.scale.bad, params.whitening_floor
    return LazyParts(parts, params, 4, lambda table: _whitening(table, near, bad, floor), reads_traces=True)


def measure_spectrum(clean: Clean, noise: Noise, params: PreprocessParams, backend: str) -> LazyParts:
    """The noise's autocovariance, and with it whitening along time; opens as Noise.

    Loud samples are clipped rather than left out: small spikes belong to the background of what is matched.
    """
    recording = clean.recording
    n_lags = recording.samples(MAX_LAG_MS) + 1
    parts = {}
    for chunk, block in sampled_blocks(recording, params.n_sampled_blocks, 0, "zero"):
        n_excluded = len_of(recording.excluded_samples, chunk.start, chunk.stop)
        sums = delayed(_lagged_sums, name="spectrum", pure=False)
        parts[chunk.name] = sums(block, n_excluded, clean, noise, n_lags, backend)
    rate, upper_hz = recording.sampling_rate, params.filter_high_hz
    return LazyParts(parts, params, 3, lambda table: noise.in_time(_lags(table), rate, upper_hz), reads_traces=True)


def _lagged_sums(
    block: np.ndarray, n_excluded: int, clean: Clean, noise: Noise, n_lags: int, backend: str
) -> dict[str, np.ndarray]:
    """Mean over good channels of sums of x[t] x[t + lag], and the number of samples neither excluded nor off."""
    x = on_host(noise.in_space().whiten(clean.to_sd(block), backend))
    alive = some_alive(x)
    n = next_fast_len(len(x) + n_lags, real=True)
    power = np.zeros(n // 2 + 1)
    for channel in alive:  # one at a time: spectra of all would be the largest arrays of a sort
        spectrum = np.fft.rfft(np.clip(x[:, channel], -SPIKE_SD, SPIKE_SD), n=n)
        power += spectrum.real**2 + spectrum.imag**2
    products = np.fft.irfft(power, n=n)[:n_lags] / max(len(alive), 1)
    left_out = max(n_excluded, int(is_off(x).sum()))
    return {"products": products[None], "count": np.array([float(len(x) - left_out if len(alive) else 0)])}


def is_off(traces: np.ndarray) -> np.ndarray:
    """(n_samples,) bool: stretches in which no channel changes: the amplifier was off, or they are left out.

    They are no noise, and what is measured over them as well would make it too small.
    """
    starts = np.arange(0, len(traces), STRETCH)
    still = np.maximum.reduceat(traces, starts, axis=0) == np.minimum.reduceat(traces, starts, axis=0)
    return np.repeat(still.all(axis=1), STRETCH)[: len(traces)]


def some_alive(traces: np.ndarray) -> np.ndarray:
    """Channels that are not constant zero; of many, fewer than twice MAX_CHANNELS_FOR_LAGS, evenly spread."""
    alive = np.flatnonzero((traces != 0).any(axis=0))
    return alive[:: max(1, len(alive) // MAX_CHANNELS_FOR_LAGS)]


def _lags(table: Mapping[str, Any]) -> np.ndarray:
    products, count = (np.asarray(table[name][:]).sum(axis=0) for name in ("products", "count"))
    lags: np.ndarray = products / max(float(count), 1.0)
    return lags if lags[0] > 0 else np.eye(1, len(lags))[0]


def pairs_of(near: np.ndarray) -> np.ndarray:
    """(2, n_pairs) channels that lie in a neighbourhood together, the lower one first; sorted. No channel more than a
    few: their number grows with the channels, not with the square.

    Parameters
    ----------
    near : (n_channels, n_neighbors), padded with n_channels
    """
    n_channels = len(near)
    found = []
    for channels in np.array_split(near.astype(np.int64), max(1, n_channels // CHANNELS_AT_ONCE)):
        low = np.minimum(channels[:, :, None], channels[:, None])
        high = np.maximum(channels[:, :, None], channels[:, None])
        found.append(np.unique((low * n_channels + high)[high < n_channels]))
    return np.stack(np.divmod(np.unique(np.concatenate(found)), n_channels))


def sums_of_pairs(x: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(n_pairs,) float64: sums of the products of two columns, of some columns at a time with those they pair with."""
    if x.shape[1] <= CHANNELS_AT_ONCE:
        return (x.T @ x)[*pairs].astype(np.float64)
    sums = np.empty(pairs.shape[1])
    edges = np.searchsorted(pairs[0], np.arange(0, x.shape[1] + CHANNELS_AT_ONCE, CHANNELS_AT_ONCE))
    for first, last in pairwise(edges):
        (low, row), (high, column) = (np.unique(some, return_inverse=True) for some in pairs[:, first:last])
        sums[first:last] = (x[:, low].T @ x[:, high])[row, column]
    return sums


def _noise_sums(block: np.ndarray, near: np.ndarray, around: int, clean: Clean, thin: int) -> dict[str, np.ndarray]:
    """Sums of products over samples quiet on both channels of a pair, and the number of such samples."""
    from scipy.ndimage import maximum_filter1d

    x = on_host(clean.to_sd(block))
    loud = maximum_filter1d((np.abs(x) > SPIKE_SD).view(np.uint8), 2 * around + 1, axis=0, mode="nearest")
    off = is_off(x) | ~x.any(axis=1)
    x = x[::thin]
    quiet = ((loud[::thin] == 0) & ~off[::thin, None]).astype(np.float32)
    x = x * quiet
    pairs = pairs_of(near)
    return {"products": sums_of_pairs(x, pairs)[None], "counts": sums_of_pairs(quiet, pairs)[None]}


def _whitening(table: Mapping[str, Any], near: np.ndarray, bad: np.ndarray, floor: float) -> Noise:
    """Rows of the symmetric inverse root of each channel's local noise covariance."""
    products, counts = (np.asarray(table[name][:]).sum(axis=0) for name in ("products", "counts"))
    n_channels, (low, high) = len(near), pairs_of(near)
    alike = (low == high).astype(np.float64)
    covariance, pair_keys = np.where(counts > 100, products / np.maximum(counts, 1), alike), low * n_channels + high
    filters = np.zeros(near.shape, np.float32)
    for c in range(n_channels):
        members = near[c][near[c] < n_channels]
        members = members[~bad[members]]
        if bad[c]:
            continue
        keys = np.minimum(members[:, None], members) * n_channels + np.maximum(members[:, None], members)
        local = covariance[np.searchsorted(pair_keys, keys)]
        values, vectors = np.linalg.eigh(local)
        root = np.sqrt(np.maximum(values, 0) + floor * values.mean())
        row = (vectors / root) @ vectors[members.tolist().index(c)]
        filters[c, np.isin(near[c], members)] = row
    return Noise(filters, near.astype(np.int32))
