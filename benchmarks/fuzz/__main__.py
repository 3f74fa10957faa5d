"""`python -m benchmarks.fuzz --cases 100000 --seed 0`: hand bad input to the package, and tell what came of it."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck

from benchmarks.fuzz.binaries import Binaries
from benchmarks.fuzz.commands import Commands
from benchmarks.fuzz.configs import Configs
from benchmarks.fuzz.geometries import Geometries
from benchmarks.fuzz.ground import Kind
from benchmarks.fuzz.models import Models
from benchmarks.fuzz.sorts import Sorts
from benchmarks.fuzz.stores import Stores
from benchmarks.fuzz.trains import Trains

KINDS: dict[str, tuple[type[Kind], float]] = {
    "config": (Configs, 0.28), "binary": (Binaries, 0.2), "geometry": (Geometries, 0.2), "store": (Stores, 0.08),
    "model": (Models, 0.1), "train": (Trains, 0.1), "cli": (Commands, 0.037), "sort": (Sorts, 0.003),
}  # fmt: skip
"""Each kind, and its share of the cases: whole sorts take a second each"""
AT_ONCE = 1000
"""Cases that Hypothesis makes in one go; it slows down with their number."""
SHOWN = 700


@dataclass
class Told:
    """What came of a kind's cases."""

    taken: Counter[bool] = field(default_factory=Counter)
    findings: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    """Where it failed -> times, the shortest case, the traceback"""
    seconds: float = 0.0

    def fail(self, case: Any, error: Exception) -> None:
        """Note a finding by the place it came from; the shortest case is kept."""
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "yass_dask" in Path(frame.filename).parts] or frames
        place = f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}"
        times, shortest, story = self.findings.get(place, (0, "", ""))
        shown = repr(case)
        if not shortest or len(shown) < len(shortest):
            shortest, story = shown, "".join(traceback.format_list(ours[-3:])) + f"{type(error).__name__}: {error}"
        self.findings[place] = (times + 1, shortest, story)


def run(name: str, n_cases: int, seed: int, folder: Path) -> Told:
    """Hand in so many cases of a kind."""
    kind, told = KINDS[name][0](folder / name), Told()
    began = time.monotonic()
    for first in range(0, n_cases, AT_ONCE):
        _some(kind, min(AT_ONCE, n_cases - first), seed + first, told)
        sys.stderr.write(f"{name}: {min(first + AT_ONCE, n_cases)} of {n_cases}\n")
    told.seconds = time.monotonic() - began
    kind.close()
    return told


def _some(kind: Kind, n_cases: int, seed: int, told: Told) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=n_cases, database=None, deadline=None, suppress_health_check=list(HealthCheck),
        phases=[hypothesis.Phase.generate],
    )  # fmt: skip
    @hypothesis.given(kind.cases())
    def one(case: Any) -> None:
        try:
            told.taken[kind.check(case)] += 1
        except Exception as error:
            told.fail(case, error)

    one()


def table(told: dict[str, Told], seed: int) -> str:
    """What came of it, as results/fuzz.md has it."""
    lines = ["| kind | cases | taken | refused in words | findings | seconds |", "|---|---|---|---|---|---|"]
    for name, of in told.items():
        failed = sum(times for times, _, _ in of.findings.values())
        n = of.taken.total() + failed
        lines.append(f"| {name} | {n} | {of.taken[True]} | {of.taken[False]} | {failed} | {of.seconds:.0f} |")
    total = sum(of.taken.total() + sum(times for times, _, _ in of.findings.values()) for of in told.values())
    lines.append(f"\n{total} cases, seed {seed}.")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Exit status: 1 where anything was found."""
    asked = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    asked.add_argument("--cases", type=int, default=100_000, help="in all [default: 100000]")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--kind", choices=sorted(KINDS), help="only this kind")
    given = asked.parse_args()
    warnings.simplefilter("ignore")
    told = {}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for name, (_, share) in KINDS.items():
            if given.kind in (None, name):
                n_cases = given.cases if given.kind else round(share * given.cases)
                told[name] = run(name, n_cases, given.seed, Path(folder))
                for place, (times, case, story) in told[name].findings.items():
                    sys.stdout.write(f"\n== {name}: {place}, {times} times\n{case[:SHOWN]}\n{story[:SHOWN]}\n")
                sys.stdout.flush()
    sys.stdout.write(table(told, given.seed))
    return int(any(of.findings for of in told.values()))


if __name__ == "__main__":
    sys.exit(main())
