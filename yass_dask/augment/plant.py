"""Spikes planted into a background: what the networks learn from, because there every spike is known.

The background is the recording's own noise (or a simulated one), whitened in space; what is loud in it is unknown and
left out. Amplitudes are noise standard deviations of the whitened traces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter1d

from yass_dask import subsample

SHIFTS = np.array([2, 6, 10, 14])
"""Indices of sub-sample shifts that spikes are planted with: a quarter of a sample apart."""
LOUD_SD = 4.0
LOUD_MS = 1.5
"""Background so near in time to a sample beyond LOUD_SD holds a spike that nobody planted."""
COLLIDER_SHARE = (0.3, 1.5)
"""Size of a planted collision's second spike, relative to the first."""


@dataclass(frozen=True)
class Bank:
    """Templates to plant, each at some sub-sample shifts, largest absolute value 1."""

    waveforms: np.ndarray
    """(n_units, n_shifts, n_samples, n_channels) float32"""
    peak: int
    """Sample on which a spike's time falls"""

    @classmethod
    def of(cls, templates: np.ndarray, peak: int, shifts: np.ndarray = SHIFTS) -> Bank:
        """Bank of templates (n_units, n_samples, n_channels), whitened; those that are zero are left out."""
        size = np.abs(templates).max(axis=(1, 2), initial=0)
        unit = templates[size > 0] / size[size > 0, None, None]
        shifted = [np.stack([subsample.shifted(wave, int(shift)) for shift in shifts]) for wave in unit]
        shape = (0, len(shifts), *templates.shape[1:])
        return cls(np.stack(shifted) if shifted else np.zeros(shape, np.float32), peak)

    def __len__(self) -> int:
        return len(self.waveforms)

    @property
    def sizes(self) -> np.ndarray:
        """(n_units, n_channels) largest absolute value."""
        return np.abs(self.waveforms).max(axis=(1, 2))

    @property
    def offsets(self) -> np.ndarray:
        """(n_units, n_channels) samples from a spike's time to the extremum on each channel."""
        return np.abs(self.waveforms).max(axis=1).argmax(axis=1) - self.peak


class Spikes(NamedTuple):
    """Planted spikes, in order of time."""

    times: np.ndarray
    units: np.ndarray
    shifts: np.ndarray
    """Index into the bank's shifts"""
    scales: np.ndarray


@dataclass(frozen=True)
class Planted:
    """A background with spikes in it."""

    traces: np.ndarray
    """(n_samples, n_channels) float32"""
    signal: np.ndarray
    """The same without the background"""
    known: np.ndarray
    """(n_samples, n_channels) bool: nothing but planted spikes and noise is there"""
    spikes: Spikes
    bank: Bank

    def own(self, spikes: np.ndarray, rows: np.ndarray, channels: np.ndarray, before: int, length: int) -> np.ndarray:
        """(n, n_local, length): what one spike each puts into a window.

        Parameters
        ----------
        spikes : (n,) index of the spike
        rows : (n,) row on which sample `before` of the window lies
        channels : (n, n_local), padded with n_channels
        """
        units, shifts, scales = (column[spikes] for column in self.spikes[1:])
        waves = self.bank.waveforms
        n_samples, n_channels = waves.shape[2:]
        at = (rows - self.spikes.times[spikes] + self.bank.peak - before)[:, None] + np.arange(length)
        inside = ((at >= 0) & (at < n_samples))[:, None, :] & (channels < n_channels)[:, :, None]
        at, near = np.clip(at, 0, n_samples - 1), np.minimum(channels, n_channels - 1)
        cut = waves[units[:, None, None], shifts[:, None, None], at[:, None, :], near[:, :, None]]
        return np.where(inside, scales[:, None, None] * cut, 0).astype(np.float32)


def plant(
    background: np.ndarray, bank: Bank, near: np.ndarray, *, sampling_rate: float, per_second: float,
    amplitudes: tuple[float, float], collided: float, seed: int,
) -> Planted:  # fmt: skip
    """Plant spikes of random units at random times.

    Parameters
    ----------
    background : (n_samples, n_channels) float32
    near : (n_channels, n_channels) bool: channels on which spikes collide
    per_second : spikes that are planted alone (they meet by chance)
    amplitudes : lowest and highest; their logarithm is uniform
    collided : share of them beside which a second one is planted, within a millisecond on channels nearby

    Raises
    ------
    ValueError
        There is no template in the bank.
    """
    if not len(bank):
        raise ValueError("no template to plant")
    draw = np.random.default_rng(seed)
    spikes = _draw(background.shape[0], bank, near, sampling_rate, per_second, amplitudes, collided, draw)
    signal = np.zeros_like(background)
    length = bank.waveforms.shape[2]
    for time, unit, shift, scale in zip(*(column.tolist() for column in spikes), strict=True):
        first = time - bank.peak
        signal[first : first + length] += np.float32(scale) * bank.waveforms[unit, shift]
    return Planted(background + signal, signal, quiet(background, near, sampling_rate), spikes, bank)


def quiet(background: np.ndarray, near: np.ndarray, sampling_rate: float) -> np.ndarray:
    """(n_samples, n_channels) bool: nothing loud nearby in time or on a channel beside it."""
    loud = np.abs(background) > LOUD_SD
    loud |= (background == 0).all(axis=1, keepdims=True)  # an excluded stretch
    return far_from(loud, near, sampling_rate)


def far_from(places: np.ndarray, near: np.ndarray, sampling_rate: float) -> np.ndarray:
    """(n_samples, n_channels) bool: none of the places, of the same shape, nearby in time or on a channel beside it."""
    reach = round(LOUD_MS * sampling_rate / 1e3)
    wide = maximum_filter1d(places.view(np.uint8), 2 * reach + 1, axis=0)
    calm: np.ndarray = wide.astype(np.float32) @ near.astype(np.float32) == 0
    return calm


def _draw(
    n_samples: int, bank: Bank, near: np.ndarray, sampling_rate: float, per_second: float,
    amplitudes: tuple[float, float], collided: float, draw: np.random.Generator,
) -> Spikes:  # fmt: skip
    length = bank.waveforms.shape[2]
    low, high = bank.peak + length, n_samples - 2 * length
    n = max(1, round(per_second * n_samples / sampling_rate)) if high > low else 0
    times = draw.integers(low, max(high, low + 1), n)
    units = draw.integers(0, len(bank), n)
    low_log, high_log = np.log(amplitudes)
    scales = np.exp(draw.uniform(low_log, high_log, n))
    hit = np.flatnonzero(draw.random(n) < collided)
    reach = round(1e-3 * sampling_rate)
    seconds = times[hit] + draw.choice([-1, 1], len(hit)) * draw.integers(max(1, reach // 10), reach + 1, len(hit))
    others = _beside(units[hit], bank, near, draw)
    sizes = scales[hit] * draw.uniform(*COLLIDER_SHARE, len(hit))
    times, units = np.concatenate([times, seconds]), np.concatenate([units, others])
    scales = np.concatenate([scales, sizes])
    order = np.argsort(times, kind="stable")
    return Spikes(times[order], units[order], draw.integers(0, bank.waveforms.shape[1], len(order)), scales[order])


def _beside(units: np.ndarray, bank: Bank, near: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """For each unit another one (itself, where it is alone) whose main channel is near its own."""
    main = bank.sizes.argmax(axis=1)
    close = near[np.ix_(main, main)]
    return np.array([draw.choice(np.flatnonzero(close[unit])) for unit in units], np.int64).reshape(len(units))
