"""Accuracy and speed on simulated recordings with true spikes: a table in Markdown, one row a recording.

    python benchmarks/simulated.py                      # all cases, seeds 1 2 3
    python benchmarks/simulated.py --case np32 --seed 7

Each sort runs in a process of its own, after one that warms the compile cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

CASES = {
    "tetrode": ["--channels", "4", "--seconds", "120", "--units", "8", "--geometry", "tetrode"],
    "np32": ["--channels", "32", "--seconds", "60", "--units", "20"],
    "dense32": ["--channels", "32", "--seconds", "60", "--units", "35"],
    "mea49": ["--channels", "49", "--seconds", "60", "--units", "40", "--geometry", "grid", "--rate", "20000"],
}
HEADER = (
    "| recording | seed | units | mean accuracy | SNR >= 5 | collided spikes found | false units "
    "| x real time | peak MB |"
)


def run(case: str, seed: int, folder: Path) -> dict[str, object]:
    """Simulate, sort and compare one recording."""
    import yaml

    yass = [sys.executable, "-m", "yass_dask"]
    subprocess.run([*yass, "simulate", str(folder), *CASES[case], "--seed", str(seed)], check=True, capture_output=True)
    subprocess.run([*yass, "sort", str(folder / "config.yaml"), "--no-progress"], check=True, capture_output=True)
    compare = [*yass, "compare", str(folder / "tmp"), str(folder / "ground_truth.npz"), "--json"]
    agreement = json.loads(subprocess.run(compare, check=True, capture_output=True, text=True).stdout)
    ran = yaml.safe_load((folder / "tmp" / "metadata.yaml").read_text())
    peak = max(stage["peak_bytes"] for stage in ran["stages"].values())
    return {"agreement": agreement, "x": ran["recorded_s"] / ran["total_s"], "peak": peak}


def row(case: str, seed: int, result: dict) -> str:
    """One line of the table."""
    found = result["agreement"]
    cells = (
        case, seed, found["n_units"], f"{found['mean_accuracy']:.3f}", f"{found['mean_accuracy_snr5']:.3f}",
        f"{found['collision_recall']:.3f}", len(found["false_units"]), f"{result['x']:.1f}",
        round(result["peak"] / 1e6),
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Run what was asked for and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--seed", action="append", type=int)
    chosen = parser.parse_args()
    print(HEADER + "\n" + "|---" * 9 + "|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        run("tetrode", 0, Path(folder) / "warm")
        for case in chosen.case or CASES:
            for seed in chosen.seed or (1, 2, 3):
                print(row(case, seed, run(case, seed, Path(folder) / f"{case}-{seed}")), flush=True)


if __name__ == "__main__":
    main()
