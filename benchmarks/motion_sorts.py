"""Accuracy where the tissue moves, beside the same units at rest: `python -m benchmarks.motion_sorts --work FOLDER`.

The table is made of the lines of `benchmarks.accuracy` (the last one of each sorter, recording and seed) and of the
recordings in FOLDER, which tell where each unit is. A unit leaves the probe where its furthest displacement takes it
past the last contact: of its spikes there, no sorter can see all that was seen at rest.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.folders import read_truth
from benchmarks.accuracy.lines import ROOT, Line, read
from benchmarks.motion_bound import NAMES, read_bounds

STILL, OURS = "np64still", "yass_dask"
LINES = ROOT / "benchmarks" / "results" / "accuracy.jsonl"
PAGE = ROOT / "benchmarks" / "results" / "motion_sorts.md"

Key = tuple[str, int, str]


def last_lines(lines: list[Line]) -> dict[Key, Line]:
    """The last line that ended well of each dataset, seed and sorter."""
    return {(line["dataset"], line["seed"], line["sorter"]): line for line in lines if line["status"] == "ok"}


def stays(folder: Path) -> np.ndarray:
    """(n_units,) bool: units that lie between the first and the last contact at all displacements."""
    truth, depth = read_truth(folder), np.load(folder / "geometry.npy")[:, 1]
    labels, moved = truth["spike_labels"], truth["displacement_um"]
    middle = truth["unit_positions"][:, 1]
    far = np.array([np.abs(moved[labels == unit]).max(initial=0) for unit in range(len(middle))])
    between: np.ndarray = (middle - far >= depth.min()) & (middle + far <= depth.max())
    return between


def rows(lines: Mapping[Key, Line], work: Path, bounds: Mapping[tuple[str, int], float]) -> list[str]:
    """Rows of the table; recordings that were not sorted by us, moved and at rest, are left out."""
    found = []
    for name, seed in sorted({key[:2] for key in lines if key[0] in NAMES and key[2] == OURS}):
        still = lines.get((STILL, seed, OURS))
        if still is None:
            continue
        moved, rest = (np.array(line["units"]["accuracy"]) for line in (lines[name, seed, OURS], still))
        mine = stays(work / f"{name}-{seed}")
        peers = {key[2]: line for key, line in lines.items() if key[:2] == (name, seed) and ":" not in key[2] != OURS}
        told = ", ".join(f"{sorter} {_accuracy(line):.3f}" for sorter, line in sorted(peers.items(), key=_best)) or "-"
        bound = f"{bounds[name, seed]:.3f}" if (name, seed) in bounds else "-"
        found.append(
            f"| {name} | {seed} | {moved.mean():.3f} | {rest.mean():.3f} | {rest.mean() - moved.mean():.3f} | {bound} "
            f"| {mine.sum()} | {moved[mine].mean():.3f} | {rest[mine].mean():.3f} "
            f"| {rest[mine].mean() - moved[mine].mean():.3f} | {told} |"
        )
    return found


def _accuracy(line: Line) -> float:
    return float(line["scores"]["accuracy"])


def _best(peer: tuple[str, Any]) -> float:
    return -_accuracy(peer[1])


def page(found: list[str]) -> str:
    """The whole page."""
    head = (
        "# Sorting while the tissue moves\n\n"
        "Made by `benchmarks/motion_sorts.py` from accuracy.jsonl: 180 s of 64 channels. Mean accuracy over all units, "
        "that of the same units at rest (np64still), and what is lost; the accuracy of our pursuit with the true "
        "templates at the true displacement (`benchmarks/motion_bound.py`), so what this lacks no finding of units can "
        "win back; then the same for the units that lie between the first and the last contact at all displacements. "
        "np64drift: zigzag of 25 um to both sides; np64ramp: 60 um in all; np64bumps: jumps of 20 um; np64nonrigid: "
        "the zigzag, smaller the higher up.\n\n"
        "| recording | seed | accuracy | at rest | lost | true templates "
        "| units that stay | accuracy | at rest | lost | peers |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|\n"
    )
    return head + "\n".join(found) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--lines", type=Path, default=LINES)
    parser.add_argument("--page", type=Path, default=PAGE)
    asked = parser.parse_args()
    text = page(rows(last_lines(read(asked.lines)), asked.work, read_bounds()))
    asked.page.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
