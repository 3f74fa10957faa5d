"""Recordings whose probes, templates and noise come from `spikeinterface.generation`, with exactly known spikes.

The firing is drawn here, because SpikeInterface has no bursts with falling amplitudes and no pairwise synchrony.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import drift
from benchmarks.accuracy.firing import Trains, draw_trains
from benchmarks.accuracy.folders import GAIN_UV, write_truth
from yass_dask.simulate.layout import contact_positions
from yass_dask.simulate.waveforms import JITTERS

BEFORE_MS, AFTER_MS = 1.5, 3.0
SNR = (3.0, 30.0)
NOISE_UV = (5.0, 10.0)
NOISE_DECAY_UM = 25.0
DRIFT_STEP_UM = 2.0


@dataclass(frozen=True)
class Family:
    """What the recordings of one name have in common."""

    code: int
    """Goes into the seed, so that families do not share draws."""
    layout: str
    n_channels: int
    sampling_rate: float
    seconds: float
    n_units: int
    min_distance_um: float = 18.0
    """Between units; smaller where the probe has little room."""
    synchronous: bool = False
    drift_um: float = 0.0
    """Largest displacement to either side."""
    drift: drift.Kind = "zigzag"
    fade: float = 0.0
    """Sizes of the units fall from 1 + fade to 1 - fade times over the recording, every second unit's rise."""


FAMILIES = {
    "tetrode": Family(1, "tetrode", 4, 30000.0, 180.0, 8, min_distance_um=15.0),
    "mea49": Family(2, "grid7x7", 49, 20000.0, 90.0, 40),
    "np32": Family(3, "neuropixels", 32, 30000.0, 120.0, 20),
    "np128": Family(4, "neuropixels", 128, 30000.0, 90.0, 80),
    "mea512": Family(5, "grid16x32", 512, 20000.0, 60.0, 300),
    "np384": Family(6, "neuropixels", 384, 30000.0, 60.0, 200),
    "collide32": Family(7, "neuropixels", 32, 30000.0, 90.0, 20, synchronous=True),
    "np64drift": Family(8, "neuropixels", 64, 30000.0, 180.0, 40, drift_um=25.0),
    # The same units, at rest and moved in other ways: the code is that of np64drift.
    "np64still": Family(8, "neuropixels", 64, 30000.0, 180.0, 40),
    "np64ramp": Family(8, "neuropixels", 64, 30000.0, 180.0, 40, drift_um=30.0, drift="ramp"),
    "np64bumps": Family(8, "neuropixels", 64, 30000.0, 180.0, 40, drift_um=10.0, drift="bumps"),
    "np64nonrigid": Family(8, "neuropixels", 64, 30000.0, 180.0, 40, drift_um=25.0, drift="nonrigid"),
    # The units of np32.
    "np32fade": Family(3, "neuropixels", 32, 30000.0, 120.0, 20, fade=0.5),
}


def make(name: str, seed: int, folder: str | Path, seconds: float | None = None) -> None:
    """Write one recording with its truth; the seed decides everything.

    Parameters
    ----------
    name : one of FAMILIES.
    seconds : length, the family's unless told.
    """
    family = FAMILIES[name]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mine = own_seed(family, seed)
    n_samples = round((seconds or family.seconds) * family.sampling_rate)
    positions = contacts(family)
    noise = draw_noise(family, positions, n_samples, mine)
    noise_sd = noise.segments[0].noise_levels[0]
    places, variants, snr = draw_templates(family, positions, noise_sd, mine)
    trains = draw_trains(family.n_units, n_samples, family.sampling_rate, mine, synchronous=family.synchronous)
    trains = drift.faded(trains, family.fade, n_samples)
    seconds, depth = trains.times / family.sampling_rate, _depth(places[trains.labels, 1], positions)
    moved = drift.displacement(family.drift, family.drift_um, seconds, depth, n_samples / family.sampling_rate)
    _write_traces(folder / "recording.bin", noise, trains, variants, _variant_of(trains, moved, family), family)
    at_rest = variants[..., _n_drifts(family) // 2 * JITTERS + JITTERS // 2]
    write_truth(
        folder,
        positions,
        family.sampling_rate,
        spike_times=trains.times,
        spike_labels=trains.labels,
        templates=at_rest,
        template_peak=_peak(family),
        snr=snr,
        unit_positions=places,
        bursting=trains.bursting,
        main_channels=at_rest.min(axis=1).argmin(axis=1),
        noise_sd=noise_sd,
        displacement_um=moved.astype(np.float32),
    )


def own_seed(family: Family, seed: int) -> int:
    """What all draws of a recording begin with."""
    return int(np.random.SeedSequence([seed, family.code]).generate_state(1)[0])


def all_displacements(variants: np.ndarray) -> np.ndarray:
    """(n_displacements, n_units, n_samples, n_channels): of `draw_templates`, those at no shift in time."""
    waves: np.ndarray = np.moveaxis(variants[..., JITTERS // 2 :: JITTERS], 3, 0)
    return waves


def contacts(family: Family) -> np.ndarray:
    """Positions of the contacts, (n_channels, 2) um; a grid is square with 60 um between contacts."""
    if not family.layout.startswith("grid"):
        return contact_positions(family.layout, family.n_channels)
    rows, columns = map(int, family.layout.removeprefix("grid").split("x"))
    index = np.arange(rows * columns)
    return 60.0 * np.stack([index % columns, index // columns], axis=1)


def draw_noise(family: Family, positions: np.ndarray, n_samples: int, seed: int) -> Any:
    """Lazy noise of 5 to 10 uV, alike on contacts nearby."""
    from probeinterface import Probe
    from spikeinterface.generation import generate_noise

    probe = Probe(ndim=2, si_units="um")
    probe.set_contacts(positions=positions, shapes="circle", shape_params={"radius": 6})
    probe.set_device_channel_indices(np.arange(len(positions)))
    return generate_noise(
        probe,
        family.sampling_rate,
        # SpikeInterface rounds the number of samples down: half a sample more keeps floating point from taking one.
        [(n_samples + 0.5) / family.sampling_rate],
        noise_levels=NOISE_UV,
        spatial_decay=NOISE_DECAY_UM,
        seed=seed,
    )


def draw_templates(
    family: Family, positions: np.ndarray, noise_sd: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Units at random places around the probe, scaled to the wanted SNR.

    Returns
    -------
    places : (n_units, 3) um.
    variants : (n_units, n_samples, n_channels, n_drifts * JITTERS) float32 uV; jitter j of a displacement is later
        by (j - JITTERS // 2) / JITTERS of a sample.
    snr : (n_units,) trough over the noise sd of the channel where the trough is deepest.
    """
    from spikeinterface.core.generate import generate_unit_locations

    # A seed for each draw: SpikeInterface takes it for places and waveforms alike and would couple the two.
    rng = np.random.default_rng([seed, 1])
    place_seed, shape_seed = (int(value) for value in rng.integers(0, 2**31, 2))
    places = generate_unit_locations(
        family.n_units, positions, minimum_distance=family.min_distance_um, seed=place_seed, max_iteration=1000
    )
    steps = np.linspace(-family.drift_um, family.drift_um, _n_drifts(family))
    variants = np.concatenate([_waveforms(family, positions, places, step, shape_seed) for step in steps], axis=3)
    at_rest = variants[..., len(steps) // 2 * JITTERS + JITTERS // 2]
    troughs = -at_rest.min(axis=1)
    main = troughs.argmax(axis=1)
    snr = spread_snr(family.n_units, rng)
    variants *= (snr * noise_sd[main] / troughs.max(axis=1))[:, None, None, None].astype(np.float32)
    return places, variants, snr


def _waveforms(family: Family, positions: np.ndarray, places: np.ndarray, step: float, seed: int) -> np.ndarray:
    from spikeinterface.core.generate import generate_templates

    upsampled = generate_templates(
        positions,
        places + np.array([0.0, step, 0.0], dtype=places.dtype),
        family.sampling_rate,
        BEFORE_MS,
        AFTER_MS,
        seed=seed,
        upsample_factor=JITTERS,
        # The size comes from the SNR; the same for all here.
        unit_params={"alpha": 100.0},
    )
    # SpikeInterface's variant f is earlier by f / 5 of a sample. Those earlier by more than half a sample are moved
    # one sample later, so that a spike's time is the sample nearest to its trough.
    late = np.roll(upsampled, 1, axis=1)
    return np.stack([upsampled[..., 2], upsampled[..., 1], upsampled[..., 0], late[..., 4], late[..., 3]], axis=3)


def spread_snr(n_units: int, rng: np.random.Generator) -> np.ndarray:
    """One ratio from each of n_units equal steps of the logarithm, in random order."""
    steps = (rng.permutation(n_units) + rng.random(n_units)) / n_units
    return SNR[0] * (SNR[1] / SNR[0]) ** steps


def _depth(heights_um: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Places along the probe, 0 at its lowest contact and 1 at its highest."""
    low, high = positions[:, 1].min(), positions[:, 1].max()
    depth: np.ndarray = np.clip((heights_um - low) / max(high - low, 1e-9), 0, 1)
    return depth


def _n_drifts(family: Family) -> int:
    return 2 * round(family.drift_um / DRIFT_STEP_UM) + 1


def _variant_of(trains: Trains, moved: np.ndarray, family: Family) -> np.ndarray:
    """Which waveform of its unit each spike has: that of the nearest displacement, at its sub-sample shift."""
    middle = _n_drifts(family) // 2
    step = family.drift_um / middle if middle else 1.0
    return (middle + np.rint(moved / step).astype(np.int64)) * JITTERS + trains.jitters


def _peak(family: Family) -> int:
    return round(BEFORE_MS * family.sampling_rate / 1e3)


def _write_traces(
    path: Path, noise: Any, trains: Trains, variants: np.ndarray, variant: np.ndarray, family: Family
) -> None:
    from spikeinterface.core import NumpySorting
    from spikeinterface.core.generate import inject_templates

    sorting = NumpySorting.from_samples_and_labels(
        [trains.times], [trains.labels], family.sampling_rate, unit_ids=np.arange(family.n_units)
    )
    recording = inject_templates(
        sorting,
        variants,
        nbefore=_peak(family),
        amplitude_factor=trains.scales,
        parent_recording=noise,
        upsample_vector=variant,
    )
    n_samples, block = recording.get_num_samples(), noise.segments[0].noise_block_size
    with open(path, "wb") as file:
        for start in range(0, n_samples, block):
            traces = recording.get_traces(start_frame=start, end_frame=min(start + block, n_samples))
            bits = np.clip(np.rint(traces / GAIN_UV), -32768, 32767)
            file.write(bits.astype("<i2").tobytes())
