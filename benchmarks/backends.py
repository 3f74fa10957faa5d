"""Whole sorts by every backend: `python -m benchmarks.backends`.

A simulated recording is sorted by numba and by the others that are asked for; printed are recorded seconds a second,
start-up left out, the second of two sorts (the first one compiles), and how many spikes lie at the same sample of the
same unit as numba's. Units are matched by the spikes that they share, since their numbers may differ.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import yass_dask
from yass_dask.backends import BACKENDS, GPU, installed, on_gpu
from yass_dask.recording import Recording
from yass_dask.runtime import Executor
from yass_dask.runtime.threads import available_cores


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--units", type=int, help="half the channels unless given")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backends", nargs="*", default=[name for name in GPU if on_gpu(name)], choices=BACKENDS)
    asked = parser.parse_args(arguments)
    n_units = asked.units or max(1, asked.channels // 2)
    made = yass_dask.simulate(n_channels=asked.channels, seconds=asked.seconds, n_units=n_units, seed=asked.seed)
    recording = yass_dask.from_array(made.traces, made.sampling_rate, made.positions, made.gain_to_uv).with_chunks(8)
    print(report(recording, ["numba", *asked.backends]))


def report(recording: Recording, backends: list[str]) -> str:
    """The table."""
    lines = ["| backend | device | x real time | units | spikes | as numba's |", "|---|---|---|---|---|---|"]
    expected = np.zeros((0, 2), np.int64)
    for backend in backends:
        if not installed(backend):
            lines.append(f"| {backend} | not installed, or no GPU | | | | |")
            continue
        seconds, sorting, found = timed_sort(recording, backend)
        expected = found if backend == "numba" else expected
        lines.append(
            f"| {backend} | {'GPU' if on_gpu(backend) else 'CPU'} | {recording.duration_s / seconds:.1f} | "
            f"{sorting.n_units} | {sorting.n_spikes} | {agreement(found, expected):.2%} |"
        )
    return "\n".join(lines)


def timed_sort(recording: Recording, backend: str) -> tuple[float, yass_dask.Sorting, np.ndarray]:
    """Seconds of the second of two sorts, the sorting, its spike train."""
    with tempfile.TemporaryDirectory() as spare:
        for turn in ("first", "second"):
            began = time.perf_counter()
            folder = Path(spare) / turn
            sorting = yass_dask.sort(
                recording,
                folder,
                backend=backend,
                client=Executor("threads", 1 if on_gpu(backend) else available_cores()),
            )
        return time.perf_counter() - began, sorting, np.load(folder / "spike_train.npy")


def agreement(found: np.ndarray, expected: np.ndarray) -> float:
    """Share of spikes (sample, unit) that both have, each unit named after the one it shares most spikes with."""
    same = {}
    for unit in np.unique(found[:, 1]):
        at = np.isin(expected[:, 0], found[found[:, 1] == unit, 0])
        names, counts = np.unique(expected[at, 1], return_counts=True)
        same[unit] = names[counts.argmax()] if len(names) else -1
    renamed = {(sample, same[unit]) for sample, unit in found.tolist()}
    both = renamed & {tuple(row) for row in expected.tolist()}
    return len(both) / max(len(found), len(expected), 1)


if __name__ == "__main__":
    main()
