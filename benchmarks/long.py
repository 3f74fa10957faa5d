"""Long and large recordings sorted end to end, without a file of their traces: `python -m benchmarks.long`.

The input is made from a seed while it is read, and no preprocessed traces are stored. Before a sort it is printed what
it needs; interrupted, the same command goes on where it was. A sort is a process of its own, of which the proportional
set size (all its processes, shared pages once) is sampled all the time. A line of JSON for each finished sort goes to
benchmarks/results/long.jsonl, and the table of all of them to long.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.accuracy.lines import ROOT, append, surroundings
from benchmarks.accuracy.measure import limited, tree_pss
from yass_dask import Sorting, SortParams, Store, sort
from yass_dask.config.sizes import format_size, parse_size
from yass_dask.evaluate import Spikes, compare
from yass_dask.logs import logging_to
from yass_dask.needs import disk_bytes, needs_of, said
from yass_dask.needs import table as table_of_needs
from yass_dask.recording import Recording
from yass_dask.runtime import Executor, Plan, plan
from yass_dask.simulate import stream

RESULTS = ROOT / "benchmarks" / "results"
SAMPLE_S = 2.0
GOOD_SNR = 5.0


@dataclass(frozen=True)
class Case:
    """A simulated recording, and what its sort may take."""

    channels: int
    seconds: float
    geometry: str
    memory: str
    seed: int = 1
    store_traces: bool = False

    def recording(self) -> Recording:
        return stream(self.channels, self.seconds, max(1, self.channels // 2), self.seed, geometry=self.geometry)


CASES = {
    "12h-32": Case(32, 12 * 3600.0, "neuropixels", "800MB"),
    "10min-2048": Case(2048, 600.0, "grid", "4GB"),
    "60min-64": Case(64, 3600.0, "neuropixels", "500MB"),
}
WEEK = Case(384, 7 * 86_400.0, "neuropixels", "4GB")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=CASES, help="all, if none is given")
    parser.add_argument("--seconds", type=float, help="in place of the whole length")
    parser.add_argument("--memory", help="in place of the case's limit")
    parser.add_argument("--plan", action="store_true", help="tell what these take, and a week; sort nothing")
    parser.add_argument("--store-traces", action="store_true", help="store the preprocessed traces")
    parser.add_argument("--work", type=Path, default=Path("long"), help="folder for the sorts")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS / "long.jsonl")
    parser.add_argument("--sort", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.plan:
        print("\n\n".join(plan_of(case, asked.workers)[1] for case in (*CASES.values(), WEEK)))
        return
    for name in asked.case or CASES:
        case = changed(CASES[name], asked)
        if asked.sort is not None:  # in the process of its own
            run_sort(case, asked.sort, asked.workers)
            continue
        folder = asked.work / f"{case.channels}ch-{case.seconds:g}s{'-stored' if case.store_traces else ''}"
        append(asked.results, measured(name, case, folder, asked) | surroundings())
        asked.results.with_suffix(".md").write_text(table(asked.results), encoding="utf-8")
    if asked.sort is None:
        print(table(asked.results))


def changed(case: Case, asked: argparse.Namespace) -> Case:
    """The case as it was asked for."""
    seconds, memory = asked.seconds or case.seconds, asked.memory or case.memory
    return Case(case.channels, seconds, case.geometry, memory, case.seed, asked.store_traces)


# --- one sort ---


def run_sort(case: Case, folder: Path, workers: int) -> None:
    """Print what the sort needs, and sort, or go on with it."""
    store, (chunks, words, needed) = Store(folder, store_traces=case.store_traces), plan_of(case, workers)
    print(words, flush=True)
    with store.lock(), logging_to(store.path, "INFO"):
        free = store.check_space(needed)
        print(f"{format_size(free)} free in {folder}", flush=True)
        recording = case.recording().with_chunks(chunks.chunk_blocks, chunks.part_blocks)
        sort(recording, store, client=Executor("threads", chunks.n_workers, parse_size(case.memory)))


def plan_of(case: Case, workers: int) -> tuple[Plan, str, int]:
    """How a sort is cut, what it takes in words, and the bytes of disk."""
    recording = case.recording()
    chunks = plan(recording, None, parse_size(case.memory), workers, store_traces=case.store_traces)
    recording = recording.with_chunks(chunks.chunk_blocks, chunks.part_blocks)
    steps = needs_of(recording, SortParams(), store_traces=case.store_traces)
    stored = "stored" if case.store_traces else "not stored"
    title = f"{case.channels} channels x {said(case.seconds)}, preprocessed traces {stored}:"
    return chunks, f"{title}\n{table_of_needs(steps, chunks)}", disk_bytes(steps)


def measured(name: str, case: Case, folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Sort in a process of its own, from wherever an earlier one was stopped, and compare with the truth."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["--case", name, "--sort", folder / "out", "--seconds", case.seconds, "--memory", case.memory]
    command = [sys.executable, "-m", "benchmarks.long", *map(str, words), "--workers", str(asked.workers)]
    command += ["--store-traces"] if case.store_traces else []
    samples = folder / "samples.jsonl"
    with subprocess.Popen(command, env=limited(1), cwd=ROOT) as process:
        watch(process, folder / "out", samples)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    found = facts(case, Sorting.open(folder / "out"), samples)
    return {"kind": "long", "case": name, **found, "workers": asked.workers}


def watch(process: subprocess.Popen[bytes], out: Path, samples: Path) -> None:
    """Note what a process takes while it runs: a line of JSON every SAMPLE_S."""
    began, tree = time.time(), psutil.Process(process.pid)
    with open(samples, "a") as file:
        while process.poll() is None:
            used = tree_pss(tree)
            line = {"run": round(began), "s": round(time.time() - began, 1), "pss_mb": round(used / 1e6, 1)}
            if used:
                file.write(json.dumps(line | {"cpu_s": _cpu_s(tree), "disk_mb": _disk_mb(out)}) + "\n")
                file.flush()
            time.sleep(SAMPLE_S)


def _cpu_s(tree: psutil.Process) -> float:
    try:
        spent = [process.cpu_times() for process in (tree, *tree.children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0.0
    return round(sum(times.user + times.system for times in spent), 1)


def _disk_mb(folder: Path) -> float:
    total = 0
    for where, _, names in os.walk(folder):  # which passes over folders that go meanwhile
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(where, name)).st_blocks * 512
    return round(total / 1e6, 1)


def facts(case: Case, sorting: Sorting, samples: Path) -> dict[str, Any]:
    """What it took and what came out."""
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    runs = [[line for line in lines if line["run"] == run] for run in sorted({line["run"] for line in lines})]
    wall, cpu = (sum(run[-1][what] for run in runs) for what in ("s", "cpu_s"))
    pss = np.array([line["pss_mb"] for line in lines])
    limit = parse_size(case.memory) / 1e6
    source = case.recording().source
    truth = source.spikes()  # type: ignore[attr-defined]  # a simulated source has them
    train = sorting.spike_train
    agreement = compare(
        Spikes(truth.times, truth.labels), Spikes(train[:, 0], train[:, 1]), sorting.sampling_rate,
        snr=source.unit_snr,  # type: ignore[attr-defined]
    )  # fmt: skip
    return {
        "channels": case.channels, "seconds": case.seconds, "store_traces": case.store_traces, "runs": len(runs),
        "wall_s": round(wall), "cpu_s": round(cpu), "x_real_time": round(case.seconds / wall, 3),
        "limit_mb": round(limit), "peak_mb": round(pss.max()), "quarters_mb": _quarters(pss),
        "disk_mb": round(max(line["disk_mb"] for line in lines)), "true_spikes": len(truth.times),
        "spikes": sorting.n_spikes, "units": sorting.n_units, "true_units": len(agreement.units),
        "mean_accuracy": round(agreement.mean_accuracy, 4),
        "mean_accuracy_snr5": round(agreement.mean_accuracy_above(GOOD_SNR), 4),
        "false_units": len(agreement.false_units),
    }  # fmt: skip


def _quarters(pss: np.ndarray) -> list[int]:
    """Largest of each quarter of the samples, in order of time: flat, or growing."""
    return [round(float(part.max())) for part in np.array_split(pss, 4) if len(part)]


def table(results: Path) -> str:
    """All lines as Markdown."""
    rows = [
        "# Long and large recordings",
        "",
        "Made by `make bench-long` from long.jsonl. The input is made from a seed while it is read (which is in the "
        "times). Memory is the PSS of the process tree, sampled all the time: its peak, and that of each quarter of "
        "the samples. Other work on the machine makes the wall time longer, CPU hardly.",
        "",
        "| channels | length | traces stored | workers | wall | CPU | x real time | limit MB | peak MB | by quarter "
        "| disk MB | true units | units | accuracy | SNR >= 5 | false units | runs |",
        "|---" * 17 + "|",
    ]
    for line in map(json.loads, results.read_text().splitlines()):
        rows.append(
            f"| {line['channels']} | {line['seconds']:g} s | {'yes' if line['store_traces'] else 'no'} "
            f"| {line['workers']} | {line['wall_s'] / 60:.1f} min | {line['cpu_s'] / 60:.1f} min "
            f"| {line['x_real_time']:.2f} | {line['limit_mb']} | {line['peak_mb']} "
            f"| {' '.join(map(str, line['quarters_mb']))} | {line['disk_mb']} | {line['true_units']} "
            f"| {line['units']} | {line['mean_accuracy']:.3f} | {line['mean_accuracy_snr5']:.3f} "
            f"| {line['false_units']} | {line['runs']} |"
        )
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
