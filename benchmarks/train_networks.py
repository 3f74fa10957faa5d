"""Train the networks that come with the package, from simulated recordings only; the same seed, the same weights.

    NPROC=2 python -m benchmarks.train_networks --kinds detect           # into yass_dask/neuralnetwork/weights
    NPROC=1 python -m benchmarks.train_networks --kinds triage denoise
    python -m benchmarks.train_networks --output-dir FOLDER --quick      # a minute, to see that it runs

The second takes a quarter of an hour on one core, and 15 GB of memory.
NPROC: threads of XLA. Their number, that of the cores unless told, shows in the last bits; told, the weights are the
same on any number of cores.

Each scene is a background (hum, field potential, small far units) on one kind of probe at one rate, preprocessed and
whitened like any recording; neurons of other draws are planted into it. Nothing measured in an animal goes in.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import yass_dask.neuralnetwork
from yass_dask import from_array, simulate
from yass_dask.augment.examples import Examples
from yass_dask.conditioning import PreprocessParams
from yass_dask.neuralnetwork.background import White, whitened
from yass_dask.neuralnetwork.files import KINDS
from yass_dask.neuralnetwork.fitting import fit_all
from yass_dask.neuralnetwork.plan import TrainParams, examples_of, planted_in
from yass_dask.runtime import Executor
from yass_dask.simulate.band import band_pass
from yass_dask.simulate.waveforms import JITTERS, Neuron, draw_neuron, template_peak, unit_waveform

SECONDS = 20.0
QUICK_SECONDS, QUICK = 4.0, {"n_iter": 100, "n_report": 50}
N_HASH, HASH_SNR = 60, (0.4, 2.2)
"""Units of the background, and their signal-to-noise ratios."""
N_PLANTED = 120
"""Neurons that are planted at a time."""
PLANTINGS, MORE_PLANTINGS = 3, 6
"""Times that spikes are planted into a scene: for the detector, and for triage and denoiser."""
PARTS = (0.65, 0.25, 0.10)
"""Shares of the neurons of one, two and three parts: triage and denoiser must know waveforms that no cell body has by
itself, such as those with an axon or a dendrite along the probe."""
PART_UM, PART_MS, PART_SIZE = 25.0, 0.5, (0.15, 0.7)
"""Where, how much earlier or later, and how large a part is beside the first."""
L2_TRIAGE = 1e-5
"""Less than for a recording's own triage: there are more examples."""
TEST_SIZE = {"triage": 0.05, "denoise": 0.05}
RATES_HZ = (10_000.0, 50_000.0)
N_SCENES, DETECTOR_SCENES = 48, 12
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


def scene_examples(index: int, params: TrainParams, seconds: float = SECONDS) -> Examples:
    """Training sets out of one scene."""
    geometry, n_channels, rate = SCENES[index % len(SCENES)]
    scene = simulate(n_channels, seconds, N_HASH, 1000 + index, rate, HASH_SNR, geometry)
    recording = from_array(scene.traces, rate, scene.positions, scene.gain_to_uv)
    dead = (int(np.random.default_rng([index, 1]).integers(n_channels)),) if index % 3 == 0 else ()
    recording = replace(recording, bad_channels=dead)
    with (
        tempfile.TemporaryDirectory() as folder,
        whitened(recording, Path(folder), PreprocessParams(), client=Executor("sync")) as (white, _),
    ):
        background = white.read(0, recording.n_samples)

        def planted(templates: np.ndarray, turn: int) -> Examples:
            spikes = planted_in(background, templates, template_peak(rate), recording, params, 1000 * turn + index)
            return examples_of(spikes, recording, params, white.backend, index)

        simple = index % 100 < DETECTOR_SCENES
        detect = [planted(draw_templates(white, index, turn), turn) for turn in range(PLANTINGS if simple else 0)]
        others = [planted(draw_templates(white, index, turn, PARTS), turn) for turn in range(MORE_PLANTINGS)]
    return mixed(detect, others)


def mixed(detect: list[Examples], others: list[Examples]) -> Examples:
    """The detector's examples of some, those of triage and denoiser of others."""
    whole, found = Examples.joined(others), Examples.joined(detect or others)
    keep = slice(None if detect else 0)
    return replace(
        whole, x_detect=found.x_detect[keep], y_detect=found.y_detect[keep], not_spikes=found.not_spikes,
    )  # fmt: skip


def draw_templates(white: White, index: int, turn: int, parts: tuple[float, ...] = (1.0,)) -> np.ndarray:
    """Whitened templates of neurons at random places around the probe.

    Parameters
    ----------
    parts : shares of those of one, two ... parts
    """
    rate, positions = white.recording.sampling_rate, white.recording.probe.positions
    draw = np.random.default_rng([index, turn, 2])
    places = positions[draw.integers(0, len(positions), N_PLANTED)] + draw.uniform(-25, 25, (N_PLANTED, 2))
    waves = []
    for place in places:
        wave = part_of(place, positions, rate, draw)
        for _ in range(draw.choice(len(parts), p=parts) if len(parts) > 1 else 0):
            other = draw.uniform(*PART_SIZE) * part_of(place + draw.normal(0, PART_UM, 2), positions, rate, draw)
            wave = wave + moved(other, round(draw.uniform(-PART_MS, PART_MS) * rate / 1e3))
        waves.append(wave)
    return white.whiten(band_pass(np.stack(waves), rate) / white.clean.unit_per_sd)


def part_of(place: np.ndarray, positions: np.ndarray, rate: float, draw: np.random.Generator) -> np.ndarray:
    """(n_samples, n_channels) of a neuron, or of a part of one."""
    neuron = varied(draw_neuron(np.append(place, draw.uniform(8, 60)), len(positions), draw), draw)
    return unit_waveform(neuron, positions, rate)[JITTERS // 2]


def moved(wave: np.ndarray, by: int) -> np.ndarray:
    """The waveform later by so many samples; zeros come in."""
    wide = np.pad(wave, ((abs(by), abs(by)), (0, 0)))
    return wide[abs(by) - by : abs(by) - by + len(wave)]


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


def main(words: Sequence[str] | None = None) -> None:
    """Make the scenes, train, and tell how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shipped = Path(yass_dask.neuralnetwork.__file__).parent / "weights"
    parser.add_argument("--output-dir", type=Path, default=shipped)
    parser.add_argument("--scenes", type=int, default=N_SCENES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--quick", action="store_true", help="one short scene, few iterations: to see that it runs")
    chosen = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    began, params = time.time(), TrainParams(l2_triage=L2_TRIAGE)
    scenes, seconds = (1, QUICK_SECONDS) if chosen.quick else (chosen.scenes, SECONDS)
    if chosen.kinds == ["detect"]:
        scenes = min(scenes, DETECTOR_SCENES)
    if chosen.quick:
        params = params.model_copy(update={"settings": params.settings.model_copy(update=QUICK)})
    several = []
    for index in range(scenes):
        several.append(scene_examples(index + 100 * chosen.seed, params, seconds))
        one = several[-1]
        told = f"{len(one.y_detect)} candidates, {len(one.y_triage)} waveforms for the triage"
        print(f"scene {index}: {told}", flush=True)
    about = (
        f"{scenes} simulated scenes of {seconds:g} s (detector: the first {DETECTOR_SCENES}), "
        f"seed {chosen.seed}: benchmarks/train_networks.py"
    )
    not_spikes = float(np.mean([one.not_spikes for one in several[:DETECTOR_SCENES]]))
    sets = replace(Examples.joined(several), not_spikes=not_spikes)
    del several
    metrics = fit_all(
        chosen.output_dir, sets, params, training_data=about, rates_hz=RATES_HZ, start={}, seed=chosen.seed,
        test_size=TEST_SIZE, kinds=chosen.kinds,
    )  # fmt: skip
    for kind, found in metrics.items():
        print(kind, found)
    print(f"{time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
