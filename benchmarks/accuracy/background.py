"""Background of a hybrid recording: what makes real recordings hard, drawn from one seed, made second by second.

Hum of the amplifier and far cells (coloured, alike over 50-100 um) and a local field potential come from
`yass_dask.simulate.noise`. Added here: hash (hundreds of far units too small to be sorted), artifacts common to all
channels, one dead and one noisy channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from yass_dask.simulate.band import band_pass
from yass_dask.simulate.noise import Noise, draw_noise, noise_blocks
from yass_dask.simulate.trains import draw_firing, draw_train
from yass_dask.simulate.waveforms import JITTERS, draw_neuron, template_peak, template_samples, unit_waveform

HASH_PER_CHANNEL = 4
HASH_SNR = (0.5, 2.2)
DEAD_UV = 0.3


@dataclass(frozen=True)
class Spikes:
    """Spikes of many units and how each looks."""

    times: np.ndarray
    """(spikes,) int64, ascending: sample on which sample `peak` of the waveform falls."""
    labels: np.ndarray
    jitters: np.ndarray
    scales: np.ndarray
    waveforms: np.ndarray
    """(units, jitters, samples, channels) float32, uV."""
    peak: int

    def add(self, traces: np.ndarray, start: int) -> None:
        """Add in place whatever part of a spike falls into traces (n, channels) that begin at sample `start`."""
        length = self.waveforms.shape[2]
        begins = self.times - self.peak - start
        first, last = np.searchsorted(begins, [-length + 1, len(traces)])
        for spike in range(first, last):
            begin = int(begins[spike])
            low, high = max(begin, 0), min(begin + length, len(traces))
            waveform = self.waveforms[self.labels[spike], self.jitters[spike]]
            traces[low:high] += self.scales[spike] * waveform[low - begin : high - begin]


@dataclass(frozen=True)
class Background:
    """Everything in the traces but the units to be sorted."""

    noise: Noise
    hash: Spikes
    artifacts: Spikes
    dead: int
    """Channel near zero, or -1."""
    noisy: int
    """Channel with much more noise, or -1."""
    noisy_uv: float
    seed: int

    def blocks(self, n_blocks: int, artifacts: bool = True) -> Iterator[np.ndarray]:
        """Yield block 0, 1, ...: (block, channels) float32, uV; the dead channel still waits for `silence`."""
        for index, traces in enumerate(noise_blocks(self.noise, n_blocks)):
            self.hash.add(traces, index * self.noise.block)
            if artifacts:
                self.artifacts.add(traces, index * self.noise.block)
            if self.noisy >= 0:
                traces[:, self.noisy] += self.noisy_uv * self._draws(index, 0)
            yield traces

    def silence(self, traces: np.ndarray, index: int) -> None:
        """Overwrite the dead channel of block `index`, whatever spikes are on it."""
        if self.dead >= 0:
            traces[:, self.dead] = DEAD_UV * self._draws(index, 1)

    def _draws(self, index: int, which: int) -> np.ndarray:
        return np.random.default_rng([self.seed, 20 + which, index]).standard_normal(self.noise.block)

    def good_channels(self) -> np.ndarray:
        """(channels,) bool: neither dead nor noisy."""
        good = np.ones(len(self.noise.band_sd), dtype=bool)
        good[[channel for channel in (self.dead, self.noisy) if channel >= 0]] = False
        return good

    def band_sd(self, sampling_rate: float, n_blocks: int = 6) -> np.ndarray:
        """(channels,) uV: measured standard deviation in 300-6000 Hz, artifacts left out."""
        edge = round(0.05 * sampling_rate)
        power = [
            band_pass(traces[None], sampling_rate)[0, edge:-edge].var(axis=0)
            for traces in self.blocks(n_blocks, artifacts=False)
        ]
        return np.sqrt(np.mean(power, axis=0))


def draw_background(positions: np.ndarray, sampling_rate: float, n_samples: int, seed: int) -> Background:
    """Draw the background for contacts at `positions` (channels, 2) um; `seed` decides everything."""
    rng = np.random.default_rng([seed, 10])
    noise = draw_noise(positions, sampling_rate, seed)
    # The simulator's field is mild, real ones reach 100 uV; without a window its spectrum has ripples.
    taps = noise.lfp_taps * np.hanning(len(noise.lfp_taps))
    noise = replace(noise, lfp_mix=noise.lfp_mix * rng.uniform(0.6, 2.2), lfp_taps=taps / np.linalg.norm(taps))
    dead = noisy = -1
    if len(positions) > 30:
        dead, noisy = (int(channel) for channel in rng.choice(len(positions), 2, replace=False))
    noisy_uv = float(rng.uniform(5.0, 10.0) * noise.band_sd.mean())
    hash_ = draw_hash(positions, noise.band_sd, sampling_rate, n_samples, seed)
    artifacts = draw_artifacts(len(positions), sampling_rate, n_samples, seed)
    return Background(noise, hash_, artifacts, dead, noisy, noisy_uv, seed)


def draw_hash(positions: np.ndarray, band_sd: np.ndarray, sampling_rate: float, n_samples: int, seed: int) -> Spikes:
    """Far units: wide over the contacts, below SNR 2.2, without sub-sample shifts (nobody can see them)."""
    rng = np.random.default_rng([seed, 11])
    n_units = HASH_PER_CHANNEL * len(positions)
    shape = (n_units, 1, template_samples(sampling_rate), len(positions))
    waveforms = np.empty(shape, dtype=np.float32)
    for unit in range(n_units):
        place = positions[rng.integers(len(positions))] + rng.uniform(-40, 40, 2)
        neuron = draw_neuron(np.append(place, rng.uniform(50, 120)), len(positions), rng)
        neuron = replace(neuron, decay=rng.uniform(30.0, 90.0))
        wave = unit_waveform(neuron, positions, sampling_rate)[JITTERS // 2]
        size = (np.abs(band_pass(wave[None], sampling_rate)[0]) / band_sd).max()
        waveforms[unit, 0] = rng.uniform(*HASH_SNR) / size * wave
    margin = template_samples(sampling_rate)
    trains = []
    for unit in range(n_units):
        own = np.random.default_rng([seed, 12, unit])
        trains.append(draw_train(draw_firing(False, own), n_samples, sampling_rate, margin, own))
    return join_trains(trains, waveforms, template_peak(sampling_rate), n_jitters=1)


def join_trains(trains: list, waveforms: np.ndarray, peak: int, n_jitters: int = JITTERS) -> Spikes:
    """Spikes of all trains in order of time, then of unit."""
    times, jitters, scales = (np.concatenate(parts) for parts in zip(*trains, strict=True))
    labels = np.repeat(np.arange(len(trains)), [len(train.times) for train in trains]).astype(np.int64)
    order = np.lexsort((labels, times))
    jitters = np.minimum(jitters, n_jitters - 1)
    return Spikes(times[order], labels[order], jitters[order], scales[order], waveforms, peak)


def draw_artifacts(n_channels: int, sampling_rate: float, n_samples: int, seed: int) -> Spikes:
    """Transients of 1-5 ms and 0.3-2 mV on all channels, one every 10 to 20 s."""
    rng = np.random.default_rng([seed, 13])
    gaps = rng.uniform(10.0, 20.0, int(n_samples / sampling_rate / 10) + 2)
    times = np.rint(np.cumsum(gaps) * sampling_rate).astype(np.int64)
    times = times[times < n_samples - sampling_rate]
    length = round(0.02 * sampling_rate)
    milliseconds = np.arange(length) / sampling_rate * 1e3
    waveforms = np.empty((len(times), 1, length, n_channels), dtype=np.float32)
    for index in range(len(times)):
        size = rng.choice([-1.0, 1.0]) * np.exp(rng.uniform(np.log(300.0), np.log(2000.0)))
        gains = rng.normal(1.0, 0.12, n_channels)
        shape = _transient(milliseconds, rng.uniform(1.0, 5.0), rng)
        waveforms[index, 0] = size * shape[:, None] * gains
    n = len(times)
    return Spikes(times, np.arange(n), np.zeros(n, np.int64), np.ones(n, np.float32), waveforms, 0)


def _transient(milliseconds: np.ndarray, duration: float, rng: np.random.Generator) -> np.ndarray:
    """Half of them a hump, half a jump that rings down; both of height about 1 and gone after 4 durations."""
    if rng.random() < 0.5:
        return np.where(milliseconds < duration, np.sin(np.pi * milliseconds / duration) ** 2, 0.0)
    ringing = np.cos(2 * np.pi * rng.uniform(0.5, 2.0) * milliseconds / duration)
    rise = 1 - np.exp(-milliseconds / 0.05)
    return rise * ringing * np.exp(-3 * milliseconds / duration) * (milliseconds < 4 * duration)
