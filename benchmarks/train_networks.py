"""Train the networks that come with the package, from simulated recordings only; the same seed, the same weights.

    python -m benchmarks.train_networks                              # into yass_dask/neuralnetwork/weights
    python -m benchmarks.train_networks --output-dir FOLDER --scenes 4

Each scene is a background (hum, field potential, small far units) on one kind of probe at one rate, preprocessed and
whitened like any recording; neurons of other draws are planted into it. Nothing measured in an animal goes in.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import yass_dask.neuralnetwork
from yass_dask import from_array, simulate
from yass_dask.augment.examples import Examples
from yass_dask.conditioning import PreprocessParams
from yass_dask.neuralnetwork.background import White, whitened
from yass_dask.neuralnetwork.fitting import fit_all
from yass_dask.neuralnetwork.plan import TrainParams, examples_of, planted_in
from yass_dask.runtime import Executor
from yass_dask.simulate.band import band_pass
from yass_dask.simulate.waveforms import JITTERS, Neuron, draw_neuron, template_peak, unit_waveform

SECONDS = 20.0
N_HASH, HASH_SNR = 60, (0.4, 2.2)
"""Units of the background, and their signal-to-noise ratios."""
PLANTINGS, N_PLANTED = 3, 120
"""Times that spikes are planted into a scene, and neurons each time."""
KEEP_CLEAN = 0.945
"""Less than of a recording's own: the planted spikes are small, and of more shapes, more often than a recording's."""
L2_TRIAGE = 3e-4
"""Less than for a recording's own triage: there are more examples."""
RATES_HZ = (10_000.0, 50_000.0)
N_SCENES, DETECTOR_SCENES = 36, 12
"""The detector has a dozen examples where the triage has one: it learns from the first scenes only."""


def square(n_channels: int, pitch: float) -> np.ndarray:
    """Contacts on a square grid, (n_channels, 2) um."""
    side = int(np.ceil(np.sqrt(n_channels)))
    return pitch * np.stack([np.arange(n_channels) % side, np.arange(n_channels) // side], axis=1).astype(float)


SCENES: list[tuple[str | np.ndarray, int, float]] = [
    ("neuropixels", 32, 30000.0), ("linear", 32, 30000.0), ("grid", 36, 20000.0), ("tetrode", 32, 30000.0),
    ("neuropixels2", 32, 30000.0), (square(36, 60.0), 36, 20000.0), ("neuropixels", 32, 25000.0),
    ("tetrode", 32, 24000.0), (square(36, 30.0), 36, 20000.0), ("neuropixels2", 32, 25000.0),
    ("linear", 32, 15000.0), (square(36, 60.0), 36, 30000.0),
]  # fmt: skip


def scene_examples(index: int, params: TrainParams) -> Examples:
    """Training sets out of one scene."""
    geometry, n_channels, rate = SCENES[index % len(SCENES)]
    scene = simulate(n_channels, SECONDS, N_HASH, 1000 + index, rate, HASH_SNR, geometry)
    recording = from_array(scene.traces, rate, scene.positions, scene.gain_to_uv)
    dead = (int(np.random.default_rng([index, 1]).integers(n_channels)),) if index % 3 == 0 else ()
    recording = replace(recording, bad_channels=dead)
    several = []
    with (
        tempfile.TemporaryDirectory() as folder,
        whitened(recording, Path(folder), PreprocessParams(), client=Executor("sync")) as (white, _),
    ):
        background = white.read(0, recording.n_samples)
        for turn in range(PLANTINGS):
            templates = draw_templates(white, index, turn)
            planted = planted_in(background, templates, template_peak(rate), recording, params, 1000 * turn + index)
            several.append(examples_of(planted, recording, params, white.backend, index))
    joined = Examples.joined(several)
    if index % 100 < DETECTOR_SCENES:
        return joined
    return replace(joined, x_detect=joined.x_detect[:0], y_detect=joined.y_detect[:0])


def draw_templates(white: White, *seed: int) -> np.ndarray:
    """Whitened templates of neurons at random places around the probe."""
    rate, positions = white.recording.sampling_rate, white.recording.probe.positions
    draw = np.random.default_rng([*seed, 2])
    places = positions[draw.integers(0, len(positions), N_PLANTED)] + draw.uniform(-25, 25, (N_PLANTED, 2))
    neurons = [varied(draw_neuron(np.append(xy, draw.uniform(8, 60)), len(positions), draw), draw) for xy in places]
    waves = np.stack([unit_waveform(neuron, positions, rate)[JITTERS // 2] for neuron in neurons])
    return white.whiten(band_pass(waves, rate) / white.clean.unit_per_sd)


def varied(neuron: Neuron, draw: np.random.Generator) -> Neuron:
    """The same place, but shapes of a wider range than a simulated recording has: axons, wide ones, inverted ones."""

    def between(low: float, high: float) -> float:
        return float(np.exp(draw.uniform(np.log(low), np.log(high))))

    width = between(0.10, 0.45)
    return replace(
        neuron,
        trough_width=width,
        trough_skew=between(0.7, 1.6),
        repolarisation_delay=width + draw.uniform(0.05, 0.5),
        repolarisation_width=between(0.15, 0.9),
        repolarisation=draw.uniform(0.0, 0.8),
        first_peak=draw.uniform(0.0, 0.7) if draw.random() < 0.4 else 0.0,
        decay=between(15.0, 150.0),
        velocity=draw.choice([-1.0, 1.0]) * between(150.0, 2000.0),
        sign=draw.choice([-1.0, 1.0], p=[0.7, 0.3]),
        gains=neuron.gains ** between(0.5, 3.0),
    )


def main() -> None:
    """Make the scenes, train, and tell how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shipped = Path(yass_dask.neuralnetwork.__file__).parent / "weights"
    parser.add_argument("--output-dir", type=Path, default=shipped)
    parser.add_argument("--scenes", type=int, default=N_SCENES)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    began, params = time.time(), TrainParams(keep_clean=KEEP_CLEAN, l2_triage=L2_TRIAGE)
    several = []
    for index in range(chosen.scenes):
        several.append(scene_examples(index + 100 * chosen.seed, params))
        one = several[-1]
        print(
            f"scene {index}: {len(one.y_detect)} candidates, {len(one.y_triage)} waveforms for the triage", flush=True
        )
    about = (
        f"{chosen.scenes} simulated scenes of {SECONDS:g} s (detector: the first {DETECTOR_SCENES}), "
        f"seed {chosen.seed}: benchmarks/train_networks.py"
    )
    sets = replace(Examples.joined(several), not_spikes=Examples.joined(several[:DETECTOR_SCENES]).not_spikes)
    metrics = fit_all(
        chosen.output_dir, sets, params, training_data=about, rates_hz=RATES_HZ, start={}, seed=chosen.seed
    )
    for kind, found in metrics.items():
        print(kind, found)
    print(f"{time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
