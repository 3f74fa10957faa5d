"""A recording that is made when it is read: hours of it, or thousands of channels, without a file.

Every sample depends on the seed and its place alone, so it is the same however the recording is cut. What a process
needs to make samples is drawn once in it, and does not grow with the recording's length.
"""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from dask.base import tokenize

from yass_dask.geometry import Probe
from yass_dask.recording import Recording
from yass_dask.simulate.band import band_pass
from yass_dask.simulate.layout import contact_positions
from yass_dask.simulate.loops import add_loops, draw_loops
from yass_dask.simulate.noise import Noise, draw_noise
from yass_dask.simulate.scene import check_scene, draw_spikes, place_units, spread_snr
from yass_dask.simulate.waveforms import JITTERS, contact_amplitudes, draw_neuron, template_peak, unit_waveform

VERSION = 1
"""Of the recipe: another one, other samples."""
COUNT_UV = 0.05
"""Fine enough that loops and spikes can be rounded each for itself."""
LEAST_UV = 0.5
"""A waveform is left out on contacts, and before and after, where it is smaller: a tenth of the noise."""
EPOCH_S = 10.0
"""Trains are drawn in pieces of so many seconds; between two of them no unit fires for some ms."""


class Spikes(NamedTuple):
    """Spikes in order of time."""

    times: np.ndarray
    """(n,) int64: nearest sample of the extremum on the unit's main channel."""
    labels: np.ndarray
    jitters: np.ndarray
    scales: np.ndarray


class Unit(NamedTuple):
    """What is added for a spike."""

    waveforms: np.ndarray
    """(JITTERS, n_local, n_samples) float32 counts."""
    channels: np.ndarray
    first: int
    """Sample of the waveforms' start, after the spike's."""


class _Made(NamedTuple):
    """What samples are made of."""

    loops: list[np.ndarray]
    units: list[Unit]


@dataclass(frozen=True)
class SimulatedSource:
    """Samples of a simulated recording; the parameters are those of `simulate.plan`."""

    n_channels: int
    n_samples: int
    n_units: int
    seed: int
    sampling_rate: float
    snr: tuple[float, float]
    geometry: str

    @property
    def shape(self) -> tuple[int, int]:
        return (self.n_samples, self.n_channels)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.int16)

    def read(self, start: int, stop: int) -> np.ndarray:
        with _MAKING:  # or two threads would draw the same at once
            made = _make(self.anywhere())
        traces = np.zeros((self.n_channels, max(stop - start, 0)), np.int16)
        add_loops(traces, made.loops, start)
        add_spikes(traces, made.units, self.spikes(start - _room(self), stop + _room(self)), start)
        return np.ascontiguousarray(traces.T)

    def spikes(self, start: int = 0, stop: int | None = None) -> Spikes:
        """True spikes in samples [start, stop); None: to the end."""
        stop = self.n_samples if stop is None else min(stop, self.n_samples)
        length = round(EPOCH_S * self.sampling_rate)
        epochs = range(max(start, 0) // length, -(-stop // length))
        found = [_epoch(self, epoch) for epoch in epochs] or [_epoch(self, 0)]
        times, labels, jitters, scales = (np.concatenate(parts) for parts in zip(*found, strict=True))
        first, last = np.searchsorted(times, [start, stop])
        return Spikes(times[first:last], labels[first:last], jitters[first:last], scales[first:last])

    def anywhere(self) -> SimulatedSource:
        """The source less its length, on which nothing depends but where it ends."""
        return replace(self, n_samples=0)

    @property
    def unit_snr(self) -> np.ndarray:
        """(n_units,) signal-to-noise ratio in 300-6000 Hz."""
        return spread_snr(self.snr, self.n_units, np.random.default_rng([self.seed, 6]))

    def identity(self) -> dict[str, Any]:
        return {"kind": "simulated", "version": VERSION, **asdict(self), "shape": list(self.shape)}

    def __dask_tokenize__(self) -> Any:
        return tokenize("SimulatedSource", VERSION, *asdict(self).values())


def stream(
    n_channels: int = 32,
    seconds: float = 60.0,
    n_units: int = 20,
    seed: int = 0,
    sampling_rate: float = 30000.0,
    snr: tuple[float, float] = (3.0, 30.0),
    geometry: str = "neuropixels",
) -> Recording:
    """Give a simulated recording that lies nowhere; see `plan` for the parameters.

    Its source has the truth: `recording.source.spikes()` and `recording.source.unit_snr`. The same arguments as for
    `simulate` give another recording of the same kind.

    Raises
    ------
    InputError
        A number that no recording can have.
    """
    n_samples = check_scene(seconds, n_units, sampling_rate, snr)
    positions = contact_positions(geometry, n_channels)
    ratios = (float(snr[0]), float(snr[1]))
    source = SimulatedSource(n_channels, n_samples, n_units, seed, float(sampling_rate), ratios, geometry)
    return Recording(source, float(sampling_rate), Probe(positions), np.full(n_channels, COUNT_UV))


def add_spikes(traces: np.ndarray, units: list[Unit], spikes: Spikes, start: int) -> None:
    """Add spikes to (n_channels, n) int16 that begin at sample `start`, each rounded for itself."""
    for time, label, jitter, scale in zip(*spikes, strict=True):
        unit = units[label]
        begin = int(time) + unit.first - start
        low, high = max(begin, 0), min(begin + unit.waveforms.shape[2], traces.shape[1])
        if low < high:
            part = np.rint(scale * unit.waveforms[jitter, :, low - begin : high - begin])
            traces[unit.channels, low:high] += part.astype(np.int16)


_MAKING = threading.Lock()


@lru_cache(maxsize=1)
def _make(source: SimulatedSource) -> _Made:
    positions = contact_positions(source.geometry, source.n_channels)
    noise = draw_noise(positions, source.sampling_rate, source.seed)
    places = place_units(positions, source.n_units, np.random.default_rng([source.seed, 0]))
    units = [
        _draw_unit(place, positions, ratio, noise, source.sampling_rate, np.random.default_rng([source.seed, 7, unit]))
        for unit, (place, ratio) in enumerate(zip(places, source.unit_snr, strict=True))
    ]
    return _Made(draw_loops(noise, COUNT_UV), units)


def _draw_unit(
    place: np.ndarray, positions: np.ndarray, ratio: float, noise: Noise, rate: float, rng: np.random.Generator
) -> Unit:
    """A unit's waveforms on the contacts that they reach."""
    neuron = draw_neuron(place, len(positions), rng)
    sizes = contact_amplitudes(neuron, positions)
    wanted_uv = ratio * noise.band_sd[sizes.argmax()]
    channels = np.flatnonzero(sizes > LEAST_UV / wanted_uv * sizes.max())
    waves = unit_waveform(replace(neuron, gains=neuron.gains[channels]), positions[channels], rate)
    sizes = np.abs(band_pass(waves[JITTERS // 2 : JITTERS // 2 + 1], rate))[0].max(axis=0)
    waves *= ratio * noise.band_sd[channels[sizes.argmax()]] / sizes.max()
    rows = np.flatnonzero(np.abs(waves).max(axis=(0, 2)) > LEAST_UV)
    kept = waves[:, rows[0] : rows[-1] + 1].transpose(0, 2, 1) / COUNT_UV
    return Unit(np.ascontiguousarray(kept, np.float32), channels, int(rows[0]) - template_peak(rate))


def _room(source: SimulatedSource) -> int:
    """Samples from a spike that its waveform may reach."""
    return round(0.01 * source.sampling_rate)


@lru_cache(maxsize=8)
def _epoch(source: SimulatedSource, epoch: int) -> Spikes:
    """Spikes of one piece of the trains, as far as they lie within the recording by a waveform."""
    length = round(EPOCH_S * source.sampling_rate)
    times, *others = draw_spikes(source.n_units, length, source.sampling_rate, source.seed, epoch)
    times = times + epoch * length
    inside = times < source.n_samples - _room(source)
    return Spikes(times[inside], *(values[inside] for values in others))
