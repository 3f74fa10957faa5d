"""Run one sorter on one recording's folder, in a process of its own and the environment that has it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.accuracy.lines import ROOT
from benchmarks.accuracy.measure import Measured, limited, measure
from benchmarks.accuracy.names import OURS, is_ours

PEER_PACKAGES = {
    "kilosort4": ("kilosort", "torch"),
    "mountainsort5": ("mountainsort5",),
}
COMMON = ("spikeinterface", "numpy", "scipy", "numba")
OUR_PACKAGES = ("yass-dask", "numpy", "scipy", "numba", "dask", "zarr")


@dataclass(frozen=True)
class Conditions:
    """Under which sorters are compared."""

    peers_python: Path
    """The interpreter of the environment with the peers."""
    jobs: int
    timeout_s: float


def run(
    sorter: str, folder: Path, work: Path, conditions: Conditions
) -> tuple[Measured, tuple[np.ndarray, np.ndarray]]:
    """Sort a folder; returns how it ran, and sample and unit of every spike (empty unless it ran to its end)."""
    work.mkdir(parents=True, exist_ok=True)
    out = work / "spikes.npz"
    out.unlink(missing_ok=True)
    command = our_command(sorter, folder, work, conditions.jobs)
    if sorter.partition(":")[0] != OURS:
        python = sys.executable if is_ours(sorter) else str(conditions.peers_python)
        module = [python, "-m", "benchmarks.accuracy.worker"]
        command = [*module, sorter, str(folder.resolve()), str(out), "--jobs", str(conditions.jobs)]
    ran = measure(command, work / "log.txt", conditions.timeout_s, limited(conditions.jobs), ROOT)
    if ran.status != "ok":
        return ran, (np.empty(0, np.int64), np.empty(0, np.int64))
    if sorter.partition(":")[0] == OURS:
        train = np.load(work / "sorted" / "spike_train.npy")
        np.savez_compressed(out, spike_times=train[:, 0], spike_labels=train[:, 1])
        shutil.rmtree(work / "sorted")
    with np.load(out) as found:
        return ran, (found["spike_times"], found["spike_labels"])


def our_command(sorter: str, folder: Path, work: Path, jobs: int) -> list[str]:
    """`yass sort` with results in a new folder: stages kept from an earlier sort would spare time."""
    output = (work / "sorted").resolve()
    shutil.rmtree(output, ignore_errors=True)
    changes = [change for change in sorter.partition(":")[2].split(",") if change]
    sets = [word for change in changes for word in ("--set", change)]
    config = str(folder.resolve() / "config.yaml")
    where = ["--output-dir", str(output), "--workers", str(jobs), "--no-progress"]
    return [sys.executable, "-m", "yass_dask", "sort", config, *where, *sets]


def versions(sorter: str, conditions: Conditions) -> dict[str, str]:
    """Versions of the packages that this sorter is made of."""
    if is_ours(sorter):
        return versions_in(Path(sys.executable), OUR_PACKAGES)
    return versions_in(conditions.peers_python, (*COMMON, *PEER_PACKAGES.get(sorter, ())))


@cache
def versions_in(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Versions of packages in another environment."""
    code = "import json, sys; from importlib.metadata import version; "
    code += "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    told = subprocess.run([str(python), "-c", code, *packages], check=True, capture_output=True, text=True).stdout
    found: dict[str, str] = json.loads(told)
    return found
