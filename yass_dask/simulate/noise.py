"""Background of a simulated recording: coloured in time, correlated over contacts, made block by block.

Two parts: the hum of far neurons and the amplifier (falling with frequency, alike on contacts close by, plus
a part common to all), and the local field potential (1/f below some hundred Hz, alike over millimetres). Each
block is filtered white noise drawn from its own seed together with its neighbours', so that blocks join
without a seam.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from yass_dask.simulate.band import band_gain

LFP_SOURCES = 4
LFP_UV = 40.0


@dataclass(frozen=True)
class Noise:
    """Recipe of the background of one recording."""

    hum_mix: np.ndarray
    """(n_channels, n_channels): mixes white noise into correlated noise, uV."""
    lfp_mix: np.ndarray
    """(sources, n_channels), uV."""
    hum_taps: np.ndarray
    lfp_taps: np.ndarray
    band_sd: np.ndarray
    """(n_channels,): standard deviation after the 300-6000 Hz band-pass, uV."""
    block: int
    seed: int

    @property
    def halo(self) -> int:
        return len(self.hum_taps) // 2


def draw_noise(positions: np.ndarray, sampling_rate: float, seed: int) -> Noise:
    """Draw the background's covariance: band sd 5 to 10 uV by channel, decaying over 50 to 100 um."""
    from scipy import fft

    rng = np.random.default_rng([seed, 1])
    block = round(sampling_rate)
    n_taps = 2 * min(2 ** int(np.log2(0.2 * sampling_rate)) // 2, block // 2) + 1
    frequency = fft.rfftfreq(n_taps, 1 / sampling_rate)
    hum = _unit_power(np.sqrt(1 / (1 + (frequency / 1200.0) ** 2) + 0.15))
    lfp = _unit_power((frequency > 0) / np.sqrt(1 + (frequency / 8.0) ** 2.4))
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    hum_mix = _hum_mix(distance, rng)
    lfp_mix = LFP_UV * _smooth_sources(distance)
    wanted = rng.uniform(5.0, 10.0) * np.exp(0.08 * rng.standard_normal(len(positions)))
    hum_band, lfp_band = (_band_power(gain, frequency, sampling_rate) for gain in (hum, lfp))
    band_sd = np.clip(wanted, 5.0, 10.0)
    lfp_in_band = (lfp_mix**2).sum(0) * lfp_band
    hum_mix = hum_mix * np.sqrt(np.maximum(band_sd**2 - lfp_in_band, 1.0) / hum_band)
    return Noise(hum_mix, lfp_mix, _taps(hum), _taps(lfp), band_sd, block, seed)


def _hum_mix(distance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mixing matrix of unit variance per channel: local (65 %), common (10 %) and private (25 %)."""
    local = np.exp(-distance / rng.uniform(50.0, 100.0))
    covariance = 0.65 * local + 0.10 + 0.25 * np.eye(len(distance))
    values, vectors = np.linalg.eigh(covariance)
    root: np.ndarray = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    return root / np.linalg.norm(root, axis=0)


def _smooth_sources(distance: np.ndarray) -> np.ndarray:
    """A few spatial modes of a field that decays over a millimetre, unit variance per channel."""
    values, vectors = np.linalg.eigh(np.exp(-distance / 1000.0))
    modes: np.ndarray = (vectors * np.sqrt(np.maximum(values, 0)))[:, -LFP_SOURCES:].T
    return modes / np.linalg.norm(modes, axis=0)


def _unit_power(gain: np.ndarray) -> np.ndarray:
    """Scale a one-sided amplitude response so that filtered white noise keeps variance 1."""
    power = (gain[0] ** 2 + 2 * (gain[1:] ** 2).sum()) / (2 * len(gain) - 1)
    return gain / np.sqrt(power)


def _band_power(gain: np.ndarray, frequency: np.ndarray, sampling_rate: float) -> float:
    """Variance left of filtered white noise after the 300-6000 Hz band-pass."""
    kept = (gain * band_gain(frequency, sampling_rate)) ** 2
    return float((kept[0] + 2 * kept[1:].sum()) / (2 * len(gain) - 1))


def _taps(gain: np.ndarray) -> np.ndarray:
    """Zero-phase FIR filter (odd length, centred) of a one-sided amplitude response."""
    from scipy import fft

    return fft.fftshift(fft.irfft(gain, 2 * len(gain) - 1))


def _white(noise: Noise, index: int) -> tuple[np.ndarray, np.ndarray]:
    """White noise of one block; index -1 and the block after the last exist too."""
    rng = np.random.default_rng([noise.seed, 2, index + 1])
    n_channels = len(noise.band_sd)
    hum = rng.standard_normal((noise.block, n_channels), dtype=np.float32)
    lfp = rng.standard_normal((noise.block, len(noise.lfp_mix)), dtype=np.float32)
    return hum, lfp


def _filtered(whites: list[np.ndarray], taps: np.ndarray, block: int) -> np.ndarray:
    """Middle of three blocks convolved with centred taps."""
    from scipy import fft

    halo = len(taps) // 2
    rows = np.concatenate([whites[0][-halo:], whites[1], whites[2][:halo]])
    size = fft.next_fast_len(len(rows) + len(taps) - 1, real=True)
    response = fft.rfft(taps.astype(np.float32), size)[:, None]
    full = fft.irfft(fft.rfft(rows, size, axis=0) * response, size, axis=0)
    return full[2 * halo : 2 * halo + block]


def noise_blocks(noise: Noise, n_blocks: int) -> Iterator[np.ndarray]:
    """Yield the background of block 0, 1, ...: (block, n_channels) float32, uV."""
    whites = [_white(noise, -1), _white(noise, 0)]
    for index in range(n_blocks):
        whites.append(_white(noise, index + 1))
        hum, lfp = zip(*whites, strict=True)
        yield _filtered(list(hum), noise.hum_taps, noise.block) @ noise.hum_mix.astype(np.float32) + _filtered(
            list(lfp), noise.lfp_taps, noise.block
        ) @ noise.lfp_mix.astype(np.float32)
        del whites[0]
