"""The bound where the tissue moves: our pursuit with the true templates at the true displacement.

    python -m benchmarks.motion_bound --work FOLDER [--seeds 1 2 3]

What is lost here no finding of units can win back: a neuron that leaves the probe is gone, however well it is followed.
The traces are not interpolated; every unit has a pose for each displacement that the recording was made with. A line of
JSON for each recording goes to benchmarks/results/motion_bound.jsonl.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import drift, oracle
from benchmarks.accuracy.folders import read_truth
from benchmarks.accuracy.lines import ROOT
from benchmarks.accuracy.names import DRIFTS
from benchmarks.accuracy.scores import score
from benchmarks.accuracy.synthetic import FAMILIES, Family, all_displacements, contacts, draw_templates, own_seed
from yass_dask import SortParams
from yass_dask.conditioning import Conditioner
from yass_dask.motion.displacement import Motion
from yass_dask.motion.poses import POSE, Bins, Followed, StoredPoses, pose_fields
from yass_dask.noise import Noise
from yass_dask.preprocess import Clean
from yass_dask.refine import Units, levels

NAMES = ("np64drift", *(name for name in DRIFTS if FAMILIES[name].drift_um > 0))
LINES = ROOT / "benchmarks" / "results" / "motion_bound.jsonl"
STEP_S = 0.1


def true_motion(family: Family, positions: np.ndarray) -> Motion:
    """How the recording was moved: exact, as what differs with the depth is linear in it."""
    seconds, ends = np.arange(STEP_S / 2, family.seconds, STEP_S), np.array([0.0, 1.0])
    moved = np.stack(
        [drift.displacement(family.drift, family.drift_um, seconds, np.full_like(seconds, end), family.seconds)
         for end in ends], axis=1,
    )  # fmt: skip
    depths = np.array([positions[:, 1].min(), positions[:, 1].max()])
    return Motion(moved, np.zeros_like(moved), seconds, depths, np.zeros((len(seconds), 0), np.uint32), np.zeros(0))


def moving_units(
    family: Family, seed: int, truth: Any, clean: Clean, conditioner: Conditioner, noise: Noise, params: SortParams
) -> Units:
    """The true units with a pose for each displacement; as `oracle.run` wants them."""
    positions, recording = contacts(family), clean.recording
    places, variants, _ = draw_templates(family, positions, truth["noise_sd"], seed)
    waves = all_displacements(variants)
    rest = oracle.true_templates(truth, clean, conditioner, params.templates)
    moved = [
        oracle.true_templates({"templates": wave, "template_peak": truth["template_peak"]}, clean, conditioner,
                              params.templates).dense() for wave in waves
    ]  # fmt: skip
    there = np.pad(np.stack(moved, axis=1), [(0, 0), (0, 0), (0, 0), (0, 1)])
    n_bins, many = len(waves), np.full(len(waves), oracle.MANY)
    followed = {
        unit: Followed(there[unit][..., channels], many, np.arange(n_bins), many)
        for unit, channels in enumerate(rest.channels)
    }
    step = 2 * family.drift_um / (n_bins - 1)
    bins = Bins(true_motion(family, positions), -family.drift_um - step / 2, step, n_bins, recording.block_samples,
                recording.sampling_rate)  # fmt: skip
    poses, fields = pose_fields(rest, followed, places[:, 1].astype(np.float64), n_bins)
    sizes = {"peak": np.array([rest.peak]), "n_channels": np.array([rest.n_channels])}
    stored = StoredPoses(fields | sizes | {POSE + "level": levels(poses, noise)}, bins)
    return Units(rest, levels(rest, noise), len(rest), [], poses=stored)


def bound(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """A line of results."""
    family = FAMILIES[name]
    times, labels = oracle.run(folder, units_of=partial(moving_units, family, own_seed(family, seed)))
    found = score(read_truth(folder), times, labels)
    accuracy = np.array(found["units"]["accuracy"])
    return {
        "dataset": name, "seed": seed, "accuracy": round(float(accuracy.mean()), 4),
        "units": np.round(accuracy, 4).tolist(),
    }  # fmt: skip


def read_bounds(path: Path = LINES) -> dict[tuple[str, int], float]:
    """The last bound of each recording that has one."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return {(line["dataset"], line["seed"]): line["accuracy"] for line in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the recordings, NAME-SEED")
    parser.add_argument("--datasets", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--results", type=Path, default=LINES)
    asked = parser.parse_args()
    for name in asked.datasets:
        for seed in asked.seeds:
            line = bound(name, seed, asked.work / f"{name}-{seed}")
            with asked.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{name} seed {seed}: accuracy {line['accuracy']:.3f}", flush=True)


if __name__ == "__main__":
    main()
