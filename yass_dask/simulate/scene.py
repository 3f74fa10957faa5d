"""What a simulated recording is made of, before any trace is rendered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yass_dask.errors import InputError
from yass_dask.simulate.band import band_pass
from yass_dask.simulate.layout import contact_positions
from yass_dask.simulate.noise import Noise, draw_noise
from yass_dask.simulate.trains import Train, draw_firing, draw_train
from yass_dask.simulate.waveforms import JITTERS, draw_neuron, template_peak, template_samples, unit_waveform

SOMA_UM = 12.0
"""Two cell bodies do not share a place."""
LONGEST_S = 2e7


@dataclass(frozen=True)
class Scene:
    """Contacts, units, their spikes and the background: everything but the traces.

    Times are in samples: that of a spike is the nearest sample of its extremum on the unit's main channel.
    """

    n_samples: int
    sampling_rate: float
    positions: np.ndarray
    """(n_channels, 2) um."""
    unit_positions: np.ndarray
    """(n_units, 3) um; the third is the distance from the plane of the contacts."""
    waveforms: np.ndarray
    """(n_units, JITTERS, n_template_samples, n_channels) float32 uV."""
    template_peak: int
    snr: np.ndarray
    """(n_units,): size of the template's extremum over the noise sd of that channel, both in 300-6000 Hz."""
    spike_times: np.ndarray
    spike_labels: np.ndarray
    spike_jitters: np.ndarray
    spike_scales: np.ndarray
    noise: Noise

    @property
    def templates(self) -> np.ndarray:
        """Waveforms of spikes exactly on a sample: (n_units, n_template_samples, n_channels) uV."""
        return self.waveforms[:, JITTERS // 2]


def plan(
    n_channels: int = 32,
    seconds: float = 60.0,
    n_units: int = 20,
    seed: int = 0,
    sampling_rate: float = 30000.0,
    snr: tuple[float, float] = (3.0, 30.0),
    geometry: str | np.ndarray = "neuropixels",
) -> Scene:
    """Draw a scene; the same arguments always give the same one.

    Parameters
    ----------
    seconds : length of the recording.
    snr : lowest and highest signal-to-noise ratio of a unit; units are spread evenly over its logarithm.
    geometry : "neuropixels", "neuropixels2", "grid", "linear", "tetrode", or (n_channels, 2) positions in um.

    Raises
    ------
    InputError
        A number that no recording can have.
    """
    n_samples = check_scene(seconds, n_units, sampling_rate, snr)
    positions = contact_positions(geometry, n_channels)
    noise = draw_noise(positions, sampling_rate, seed)
    rng = np.random.default_rng([seed, 0])
    unit_positions = place_units(positions, n_units, rng)
    wanted = spread_snr(snr, n_units, rng)
    waveforms = _draw_waveforms(unit_positions, positions, sampling_rate, rng)
    waveforms *= _gains(waveforms[:, JITTERS // 2], noise.band_sd, wanted, sampling_rate)[:, None, None, None]
    times, labels, jitters, scales = draw_spikes(n_units, n_samples, sampling_rate, seed)
    return Scene(
        n_samples=n_samples,
        sampling_rate=float(sampling_rate),
        positions=positions,
        unit_positions=unit_positions,
        waveforms=waveforms.astype(np.float32),
        template_peak=template_peak(sampling_rate),
        snr=wanted,
        spike_times=times,
        spike_labels=labels,
        spike_jitters=jitters,
        spike_scales=scales,
        noise=noise,
    )


def check_scene(seconds: float, n_units: int, sampling_rate: float, snr: tuple[float, float]) -> int:
    """Number of samples; InputError for what no recording can have."""
    if not 1000.0 <= sampling_rate <= 1e6:
        raise InputError(f"sampling_rate is {sampling_rate}: give it in Hz, from 1000 to 1000000")
    if not seconds <= LONGEST_S:
        raise InputError(f"seconds is {seconds}: give at most {LONGEST_S:.0f} (half a year)")
    n_samples = round(max(seconds, 0) * sampling_rate)
    if n_samples < template_samples(sampling_rate):
        raise InputError(f"seconds is {seconds}: shorter than one spike; give at least 0.01")
    if n_units < 0:
        raise InputError(f"n_units is {n_units}: give 0 or more")
    if not 0 < snr[0] <= snr[1] < np.inf:
        raise InputError(f"snr is {tuple(snr)}: give the lowest and the highest, both above 0")
    return n_samples


def place_units(positions: np.ndarray, n_units: int, rng: np.random.Generator) -> np.ndarray:
    """Somata around the contacts, apart from each other where there is room: (n_units, 3) um."""
    placed = np.empty((0, 3))
    for _ in range(n_units):
        near = positions[rng.integers(0, len(positions), 50)] + rng.uniform(-20, 20, (50, 2))
        candidates = np.column_stack([near, rng.uniform(8, 35, 50)])
        gaps = np.linalg.norm(candidates[:, None] - placed[None], axis=-1).min(axis=1, initial=np.inf)
        best = int(np.argmax(gaps >= SOMA_UM)) if (gaps >= SOMA_UM).any() else int(np.argmax(gaps))
        placed = np.vstack([placed, candidates[best]])
    return placed


def spread_snr(snr: tuple[float, float], n_units: int, rng: np.random.Generator) -> np.ndarray:
    """One ratio from each of n_units equal steps of the logarithm, in random order."""
    steps = (rng.permutation(n_units) + rng.random(n_units)) / max(n_units, 1)
    spread: np.ndarray = np.exp(np.log(snr[0]) + steps * np.log(snr[1] / snr[0]))
    return spread


def _draw_waveforms(
    unit_positions: np.ndarray, positions: np.ndarray, sampling_rate: float, rng: np.random.Generator
) -> np.ndarray:
    shape = (len(unit_positions), JITTERS, template_samples(sampling_rate), len(positions))
    waveforms = np.empty(shape)
    for unit, position in enumerate(unit_positions):
        waveforms[unit] = unit_waveform(draw_neuron(position, len(positions), rng), positions, sampling_rate)
    return waveforms


def _gains(templates: np.ndarray, band_sd: np.ndarray, wanted: np.ndarray, sampling_rate: float) -> np.ndarray:
    """uV that give every unit its ratio on the channel where its band-passed template is largest."""
    if not len(templates):
        return np.empty(0)
    sizes = np.abs(band_pass(templates, sampling_rate)).max(axis=1)
    main = sizes.argmax(axis=1)
    gains: np.ndarray = wanted * band_sd[main] / sizes[np.arange(len(sizes)), main]
    return gains


def draw_spikes(
    n_units: int, n_samples: int, sampling_rate: float, seed: int, *epoch: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Trains of all units joined, sorted by time, then by unit; other ones of the same units for each epoch."""
    margin = template_samples(sampling_rate)
    bursting = set(np.random.default_rng([seed, 3]).permutation(n_units)[: n_units // 3].tolist())
    trains: list[Train] = []
    for unit in range(n_units):
        rng = np.random.default_rng([seed, 4, unit])
        firing = draw_firing(unit in bursting, rng)
        rng = np.random.default_rng([seed, 4, unit, 1 + epoch[0]]) if epoch else rng
        trains.append(draw_train(firing, n_samples, sampling_rate, margin, rng))
    empty = Train(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    times, jitters, scales = (np.concatenate(parts) for parts in zip(empty, *trains, strict=True))
    labels = np.repeat(np.arange(n_units), [len(train.times) for train in trains]).astype(np.int64)
    order = np.lexsort((labels, times))
    return times[order], labels[order], jitters[order], scales[order]
