"""Hybrid recordings: real or realistic units in a background like that of real recordings.

    python -m benchmarks.accuracy.hybrid hybrid49 --seed 1 --folder FOLDER --data DATA

Peers fall apart here: coloured noise, hash, field potential, artifacts, a dead and a noisy channel; units that are
positive-going or axons; bursts. The real templates are read from the folder `data`, never copied.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.accuracy.background import Background, Spikes, draw_background, join_trains
from benchmarks.accuracy.hybrid_units import (
    Shape,
    axon_shape,
    positive_shape,
    read_templates,
    real_shape,
    sampled,
    somatic_shape,
)
from yass_dask.simulate.band import band_pass
from yass_dask.simulate.layout import contact_positions
from yass_dask.simulate.trains import draw_firing, draw_train
from yass_dask.simulate.waveforms import JITTERS, template_peak, template_samples

GAIN_UV = 0.195
NAMES = ("hybrid", "hybrid49", "hybrid96", "hybrid32")


@dataclass(frozen=True)
class Recipe:
    """What one family of hybrids is made of."""

    code: int
    """Goes into the seed, so that families do not share draws."""
    sampling_rate: float
    n_somatic: int
    n_axons: int
    n_positive: int
    snr: tuple[float, float]
    weight: float
    """1: evenly spread over the logarithm of the SNR; above 1: more small ones."""
    templates: str = ""
    """Path within `data`; empty: generated."""

    @property
    def n_units(self) -> int:
        return self.n_somatic + self.n_axons + self.n_positive


RECIPES = {
    "hybrid49": Recipe(49, 20000.0, 36, 16, 8, (3.0, 25.0), 2.0),
    "hybrid96": Recipe(96, 30000.0, 43, 6, 5, (3.0, 30.0), 1.0, "templates_np3a/templates.npz"),
    "hybrid32": Recipe(32, 25000.0, 28, 4, 4, (3.0, 30.0), 1.0, "templates_emouse32/templates.npz"),
}


def family(name: str, seed: int) -> str:
    """The recipe behind a name: "hybrid" is hybrid96 for odd seeds and hybrid32 for even ones."""
    if name == "hybrid":
        return "hybrid96" if seed % 2 else "hybrid32"
    return name


def make(name: str, seed: int, folder: str | Path, data: str | Path, seconds: float | None = None) -> Path:
    """Write one recording with its truth; the seed decides everything.

    Parameters
    ----------
    name : "hybrid49" (generated units, 7 x 7 contacts 60 um apart, 20 kHz), "hybrid96" (54 units from real
        Neuropixels templates, 96 channels, 30 kHz), "hybrid32" (36 units from real templates of a dense 32-channel
        probe, 25 kHz) or "hybrid": hybrid96 for odd seeds, hybrid32 for even ones, so that three seeds show both.
    data : folder with templates_np3a/ and templates_emouse32/ (not needed for hybrid49).
    seconds : length, 120 unless told.

    Returns
    -------
    The path of config.yaml. Beside it: recording.bin (int16, samples order, 0.195 uV a bit), geometry.npy,
    ground_truth.npz (spike_times, spike_labels, templates (units, samples, channels) uV, template_peak, snr,
    unit_positions, main_channels, kind, bursting, sampling_rate, noise_sd) and truth.json.
    """
    recipe = RECIPES[family(name, seed)]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    n_samples = round((seconds or 120.0) * recipe.sampling_rate)
    positions = _contacts(recipe, Path(data))
    own_seed = int(np.random.SeedSequence([seed, recipe.code]).generate_state(1)[0])
    background = draw_background(positions, recipe.sampling_rate, n_samples, own_seed)
    truth = _draw_units(recipe, positions, background, Path(data), own_seed)
    spikes = _draw_spikes(truth["waveforms"], truth["bursting"], recipe.sampling_rate, n_samples, own_seed)
    _write_traces(folder / "recording.bin", background, spikes, n_samples)
    _write_truth(folder, positions, recipe, truth, spikes)
    (folder / "truth.json").write_text(json.dumps({"name": name, "family": family(name, seed), "seed": seed}) + "\n")
    return folder / "config.yaml"


def _contacts(recipe: Recipe, data: Path) -> np.ndarray:
    if recipe.code == 49:
        return 60.0 * np.stack([np.arange(49) % 7, np.arange(49) // 7], axis=1).astype(float)
    if recipe.code == 96:
        return contact_positions("neuropixels", 96)
    return read_templates(str(data / recipe.templates)).positions


def _draw_units(
    recipe: Recipe, positions: np.ndarray, background: Background, data: Path, seed: int
) -> dict[str, np.ndarray]:
    """Waveforms of wanted SNR, and what is told of each unit."""
    rng = np.random.default_rng([seed, 30])
    kinds = np.array(["somatic"] * recipe.n_somatic + ["axon"] * recipe.n_axons + ["positive"] * recipe.n_positive)
    wanted = _spread_snr(recipe, kinds, rng)
    good, noise_sd = background.good_channels(), background.band_sd(recipe.sampling_rate)
    waveforms, mains, places = [], [], []
    for shape, place in _shapes(recipe, kinds, positions, data, rng):
        waves, main = sampled(shape, good, recipe.sampling_rate)
        size = np.abs(band_pass(waves[JITTERS // 2][None], recipe.sampling_rate)[0, :, main]).max()
        gain = wanted[len(waveforms)] * noise_sd[main] / size
        waveforms.append((gain * waves).astype(np.float32))
        mains.append(main)
        places.append(place)
    bursting = np.zeros(recipe.n_units, dtype=bool)
    bursting[rng.permutation(recipe.n_units)[: recipe.n_units // 3]] = True
    stacked = np.stack(waveforms)
    if background.dead >= 0:
        stacked[..., background.dead] = 0.0
    return {
        "waveforms": stacked, "snr": wanted, "kind": kinds, "bursting": bursting, "noise_sd": noise_sd,
        "main_channels": np.array(mains), "unit_positions": np.array(places),
    }  # fmt: skip


def _spread_snr(recipe: Recipe, kinds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One SNR from each of equal steps; axons take theirs from the lower two thirds."""
    n_units = len(kinds)
    steps = (np.arange(n_units) + rng.random(n_units)) / n_units
    low, high = recipe.snr
    values = low * (high / low) ** (steps**recipe.weight)
    axons = rng.permutation(2 * n_units // 3)[: recipe.n_axons]
    wanted = np.empty(n_units)
    wanted[kinds == "axon"] = values[axons]
    wanted[kinds != "axon"] = rng.permutation(np.delete(values, axons))
    return wanted


def _shapes(
    recipe: Recipe, kinds: np.ndarray, positions: np.ndarray, data: Path, rng: np.random.Generator
) -> list[tuple[Shape, np.ndarray]]:
    """Shape and place (2,) um of every unit."""
    anchors = _anchors(positions, len(kinds), rng)
    if not recipe.templates:
        return [_generated(kind, positions, anchor, rng) for kind, anchor in zip(kinds, anchors, strict=True)]
    real = read_templates(str(data / recipe.templates))
    n_real = len(real.waveforms)
    order = np.concatenate([rng.permutation(n_real) for _ in range(-(-len(kinds) // n_real))])
    shapes = []
    for kind, unit, anchor in zip(kinds, order, anchors, strict=False):
        if kind == "axon":
            shapes.append(_generated(kind, positions, anchor, rng))
            continue
        shape, place = real_shape(real, int(unit), positions, anchor, rng)
        shapes.append((positive_shape(shape, rng) if kind == "positive" else shape, place))
    return shapes


def _generated(
    kind: str, positions: np.ndarray, anchor: np.ndarray, rng: np.random.Generator
) -> tuple[Shape, np.ndarray]:
    place = anchor + rng.uniform(-25, 25, 2)
    if kind == "axon":
        return axon_shape(positions, place, rng), place
    return somatic_shape(positions, place, kind == "positive", rng), place


def _anchors(positions: np.ndarray, n_units: int, rng: np.random.Generator) -> np.ndarray:
    """Contacts spread over the probe in random order, each used once before any is used again: (n_units, 2) um."""
    order = np.concatenate([rng.permutation(len(positions)) for _ in range(-(-n_units // len(positions)))])
    return positions[order[:n_units]]


def _draw_spikes(
    waveforms: np.ndarray, bursting: np.ndarray, sampling_rate: float, n_samples: int, seed: int
) -> Spikes:
    """Trains with bursts, 6 % amplitude jitter and a slow drift of the amplitude by up to 5 %."""
    trains = []
    for unit, bursts in enumerate(bursting):
        rng = np.random.default_rng([seed, 31, unit])
        train = draw_train(
            draw_firing(bool(bursts), rng), n_samples, sampling_rate, template_samples(sampling_rate), rng
        )
        turns = train.times / sampling_rate / rng.uniform(60.0, 300.0) + rng.random()
        drift = 1 + rng.uniform(0.0, 0.05) * np.sin(2 * np.pi * turns)
        trains.append(train._replace(scales=(train.scales * drift).astype(np.float32)))
    return join_trains(trains, waveforms, template_peak(sampling_rate))


def _write_traces(path: Path, background: Background, spikes: Spikes, n_samples: int) -> None:
    block = background.noise.block
    with open(path, "wb") as file:
        for index, traces in enumerate(background.blocks(-(-n_samples // block))):
            spikes.add(traces, index * block)
            background.silence(traces, index)
            bits = np.rint(traces[: n_samples - index * block] / GAIN_UV)
            file.write(np.clip(bits, -32768, 32767).astype("<i2").tobytes())


def _write_truth(
    folder: Path, positions: np.ndarray, recipe: Recipe, truth: dict[str, np.ndarray], spikes: Spikes
) -> None:
    import yaml

    told = {key: value for key, value in truth.items() if key != "waveforms"}
    np.savez_compressed(
        folder / "ground_truth.npz",
        spike_times=spikes.times,
        spike_labels=spikes.labels,
        spike_jitters=spikes.jitters,
        spike_scales=spikes.scales,
        templates=truth["waveforms"][:, JITTERS // 2],
        template_peak=spikes.peak,
        sampling_rate=recipe.sampling_rate,
        **told,
    )
    np.save(folder / "geometry.npy", positions)
    sections = {
        "data": {"root_folder": "./", "recordings": "recording.bin", "geometry": "geometry.npy"},
        "resources": {"max_memory": "200MB", "max_memory_gpu": "1GB", "processes": "max"},
        "recordings": {
            "dtype": "int16",
            "sampling_rate": int(recipe.sampling_rate),
            "n_channels": len(positions),
            "spatial_radius": 70,
            "spike_size_ms": 1.5,
            "order": "samples",
            "gain_to_uv": GAIN_UV,
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(sections, sort_keys=False), encoding="utf-8")


def main() -> None:
    """Make one recording."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seconds", type=float)
    chosen = parser.parse_args()
    print(make(chosen.name, chosen.seed, chosen.folder, chosen.data, chosen.seconds))


if __name__ == "__main__":
    main()
