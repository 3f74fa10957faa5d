"""The memory plan against the truth: a sort's process tree stays under the limit, a task under its budget."""

from __future__ import annotations

import subprocess
import tracemalloc
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from labs import COMMAND, edit, recorded, simulated

from yass_dask import from_config
from yass_dask.config.sizes import parse_size
from yass_dask.pipeline import SortParams, sort
from yass_dask.runtime import Executor, plan
from yass_dask.runtime.pools import Job
from yass_dask.store.keep import Keep

MB = 2**20
QUICK = ("--no-progress", "--set", "n_refinements=1")


def peak_of(*words: Any) -> tuple[int, str]:
    """Largest sum of the PSS of a command and its children, and what it logged; it has to end well."""
    command = [*COMMAND, *map(str, words)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    tree, peak = psutil.Process(running.pid), 0
    while True:
        try:
            running.wait(timeout=0.05)
            break
        except subprocess.TimeoutExpired:
            peak = max(peak, _held(tree))
    assert running.stderr is not None
    err = running.stderr.read()
    assert running.returncode == 0, err
    return peak, err


def _held(tree: psutil.Process) -> int:
    held = 0
    for process in [tree, *tree.children(recursive=True)]:
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it ended meanwhile
            continue
        held += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return held


@pytest.mark.parametrize(
    ("scheduler", "limit", "seconds", "more"),
    [
        ("threads", "400MB", 12, ()),
        ("threads", "400MB", 36, ()),
        ("threads", "400MB", 24, ("--recompute-traces",)),
        ("local", "1100MB", 12, ()),
    ],
)
def test_process_tree_stays_under_the_limit(
    tmp_path: Path, scheduler: str, limit: str, seconds: int, more: tuple[str, ...]
) -> None:
    """Whatever the length: 32 channels, two workers, chunks as long as the plan allows."""
    config = simulated(tmp_path, n_channels=32, seconds=seconds, n_units=12)
    edit(config, "resources", memory_limit=limit)
    peak, err = peak_of("sort", config, "--workers", 2, "--scheduler", scheduler, *more, *QUICK)
    assert "2 workers" in err
    assert 100 * MB < peak <= parse_size(limit)


def task_peaks(config: Path, folder: Path, chunk_blocks: int, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, int]:
    """Stage -> largest number of bytes of arrays alive in one of its tasks beyond those before it."""
    peaks: dict[str, int] = defaultdict(int)
    stage, compute = [""], Keep._compute

    def compute_named(self: Keep, name: str, *rest: Any) -> None:
        stage[0] = name
        compute(self, name, *rest)

    def measured(self: Job) -> None:
        import dask

        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        dask.get(self.graph, self.key)
        _, peak = tracemalloc.get_traced_memory()
        peaks[stage[0]] = max(peaks[stage[0]], peak - before)

    monkeypatch.setattr(Keep, "_compute", compute_named)
    monkeypatch.setattr(Job, "__call__", measured)
    recording = from_config(config).with_chunks(chunk_blocks)
    params = SortParams(n_refinements=1)
    sort(recording, folder / "warm", params, client=Executor("sync"))  # compiled kernels are not arrays
    tracemalloc.start()
    try:
        peaks.clear()
        sort(recording, folder / "out", params, client=Executor("sync"))
    finally:
        tracemalloc.stop()
    return dict(peaks)


@pytest.mark.parametrize(("dtype", "chunk_blocks"), [("int16", 1), ("int16", 5), ("float64", 3)])
def test_a_task_stays_under_its_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, chunk_blocks: int
) -> None:
    """What `max_memory` bounds is what the plan reckons with, whatever the stage, and not much less than that."""
    config = simulated(tmp_path / "like", n_channels=16, seconds=5.5, n_units=6)
    traces = np.fromfile(config.parent / "recording.bin", np.int16).reshape(-1, 16).astype(dtype)
    geometry = np.load(config.parent / "geometry.npy")
    mine = recorded(tmp_path / "mine", traces, geometry=geometry)
    from yass_dask.runtime.plan import task_bytes

    budget = task_bytes(from_config(mine), chunk_blocks)
    peaks = task_peaks(mine, tmp_path, chunk_blocks, monkeypatch)
    assert {stage: peak for stage, peak in peaks.items() if peak > budget} == {}
    assert max(peaks.values()) > budget / 3


def test_documented_configuration_runs_with_many_channels(tmp_path: Path) -> None:
    """200MB a task, 384 channels: the example of YASS's documentation."""
    n_channels = 384
    rng = np.random.default_rng(0)
    traces = rng.normal(0, 20, (45_000, n_channels)).round().astype(np.int16)
    places = np.stack([np.tile([0.0, 32.0], n_channels // 2), np.repeat(20.0 * np.arange(n_channels // 2), 2)], axis=1)
    config = recorded(tmp_path, traces, geometry=places)
    assert yaml.safe_load(config.read_text())["resources"]["max_memory"] == "200MB"
    chosen = plan(from_config(config), 200 * MB, None, 2)
    assert chosen.bytes_per_task <= 200 * MB
    edit(config, "resources", processes=2)
    peak, err = peak_of("sort", config, *QUICK)
    assert "2 workers" in err
    assert peak <= chosen.peak_bytes
