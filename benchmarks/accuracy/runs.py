"""The benchmark itself: every recording, every sorter, one line of JSON each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import datasets, lines, sorters
from benchmarks.accuracy.folders import read_truth
from benchmarks.accuracy.measure import Measured
from benchmarks.accuracy.names import is_ours
from benchmarks.accuracy.scores import score
from benchmarks.accuracy.sorters import Conditions

WARM = ("tetrode", 0, 10.0)
"""Name, seed and seconds of the recording that fills the compile caches."""


@dataclass(frozen=True)
class Plan:
    """What to run, where, and under which conditions."""

    datasets: tuple[str, ...]
    seeds: tuple[int, ...]
    sorters: tuple[str, ...]
    data: Path | None
    """Folder of the real templates."""
    seconds: float | None
    """Length of every recording; None: the usual one."""
    work: Path
    results: Path
    conditions: Conditions
    resume: bool
    timing_disturbed: bool


def run_all(plan: Plan, *, warm: bool) -> None:
    """Make what recordings are missing, sort them, compare, and append a line for each."""
    if warm:
        name, seed, seconds = WARM
        folder = made(dataclasses.replace(plan, seconds=seconds), name, seed)
        for sorter in plan.sorters:
            sorters.run(sorter, folder, plan.work / "warm" / _plain(sorter), plan.conditions)
    for name in plan.datasets:
        for seed in plan.seeds:
            _run_recording(plan, name, seed)


def _run_recording(plan: Plan, name: str, seed: int) -> None:
    folder = made(plan, name, seed)
    truth = read_truth(folder)
    known = {_key(line) for line in lines.read(plan.results)} if plan.resume else set()
    for sorter in plan.sorters:
        line = about(plan, name, seed, sorter, truth)
        if _key(line) in known and not (is_ours(sorter) and line["code"].endswith("+")):
            continue
        outputs = plan.work / "sorted" / name / str(seed) / _plain(sorter)
        ran, found = sorters.run(sorter, folder, outputs, plan.conditions)
        line |= measured(ran, line["seconds"]) | (score(truth, *found) if ran.status == "ok" else {})
        lines.append(plan.results, line)
        print(shown(line), flush=True)


def made(plan: Plan, name: str, seed: int) -> Path:
    """The folder of a recording, made if it is not there yet."""
    short = "" if plan.seconds is None else f"-{plan.seconds:g}s"
    folder = plan.work / f"{name}-{seed}{short}"
    if not datasets.is_made(name, seed, folder, plan.seconds):
        datasets.make(name, seed, folder, plan.data, plan.seconds)
    return folder


def about(plan: Plan, name: str, seed: int, sorter: str, truth: Mapping[str, np.ndarray]) -> lines.Line:
    """All of a line that is known before the run."""
    rate, n_channels = float(truth["sampling_rate"]), truth["templates"].shape[2]
    n_bytes = (made(plan, name, seed) / "recording.bin").stat().st_size
    return {
        "dataset": name,
        "seed": seed,
        "sorter": sorter,
        "seconds_asked": plan.seconds,
        "seconds": n_bytes / 2 / n_channels / rate,
        "n_channels": n_channels,
        "truth": lines.fingerprint(truth),
        "jobs": plan.conditions.jobs,
        "timeout_s": plan.conditions.timeout_s,
        "timing_disturbed": plan.timing_disturbed,
        "versions": sorters.versions(sorter, plan.conditions),
        "command": lines.command(name, sorter, seed, plan.seconds),
        **lines.surroundings(),
    }


def measured(ran: Measured, seconds: float) -> dict[str, Any]:
    """How the sort ran, as fields of a line."""
    return {
        "status": ran.status,
        "error": ran.error,
        "wall_s": round(ran.wall_s, 2),
        "cpu_s": round(ran.cpu_s, 2),
        "peak_mb": round(ran.peak_mb),
        "x_real_time": round(seconds / ran.wall_s, 3),
    }


def shown(line: lines.Line) -> str:
    """One line for the terminal."""
    head = f"{line['dataset']} seed {line['seed']} {line['sorter']}: {line['status']} in {line['wall_s']:.0f} s"
    if "scores" not in line:
        return f"{head} {line['error']}".rstrip()
    scores = line["scores"]
    return (
        f"{head}, accuracy {scores['accuracy']:.3f}, {scores['n_good']}/{scores['n_units']} good, "
        f"{scores['n_false']} false, {scores['n_redundant']} redundant, {scores['n_overmerged']} overmerged"
    )


def _plain(sorter: str) -> str:
    return sorter.replace(":", "-").replace(",", "-")


def _key(line: lines.Line) -> tuple[Any, ...]:
    """Two runs of one key would repeat each other: a peer changes with its versions, our sorter with its code."""
    code = line.get("code") if is_ours(line["sorter"]) else tuple(sorted(line["versions"].items()))
    return (line["dataset"], line["seed"], line["sorter"], line["seconds_asked"], line["truth"], code)
