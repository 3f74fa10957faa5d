"""Memory stays flat over 200 chunks of every stage, in the sorting process and in a worker."""

from __future__ import annotations

import gc
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from yass_dask import Recording, from_array, simulate, sort
from yass_dask.monitor.progress import SilentProgress
from yass_dask.pipeline import SortParams
from yass_dask.runtime import Executor
from yass_dask.runtime.threads import give_memory_back

N_CHUNKS = 200
RATE = 5000.0
WARM = 80
"""Chunks after which a stage has whatever it keeps: compiled kernels, pools, caches of handles."""
CHUNK_BYTES = 2 * 4 * RATE
"""int16 of a chunk of four channels"""
MOST_GROWTH = {"sync": N_CHUNKS * CHUNK_BYTES / 10, "local": N_CHUNKS * CHUNK_BYTES / 4}
"""In the sorting process a quarter of each chunk, if kept, would be more. A dask worker keeps 5 to 11 kB of each
task (measured), whatever the chunk holds."""


@pytest.fixture(scope="module")
def recording() -> Recording:
    made = simulate(n_channels=4, seconds=N_CHUNKS, n_units=2, seed=1, sampling_rate=RATE, snr=(10, 15))
    chunks = from_array(made.traces, RATE, geometry=made.positions).with_chunks(1)
    assert len(chunks.chunks) == N_CHUNKS
    return chunks


class Watched(SilentProgress):
    """Memory of this process, or of the only worker it started, after each chunk."""

    def __init__(self, leak_bytes: int = 0) -> None:
        self.rss: dict[str, list[int]] = defaultdict(list)
        self._leak_bytes = leak_bytes
        self._kept: list[np.ndarray] = []
        self._stage = ""

    def stage(self, name: str, n_parts: int, n_found: int, recorded_s: float) -> None:
        self._stage = name
        me = psutil.Process()
        workers = [child for child in me.children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]
        self._watched = (workers or [me])[-1]
        if self._watched == me:  # or what grows fills what other tests left
            give_memory_back()

    def advance(self, name: str, part: Any = None) -> None:
        self._kept.append(np.ones(self._leak_bytes, np.uint8))
        self.rss[name].append(self._watched.memory_info().rss)


def growth(rss: list[int]) -> float:
    """Bytes by which a stage grew after it was warm: between the means of the first and the last chunks of the rest."""
    warm = np.array(rss[WARM:], float)
    quarter = len(warm) // 4
    return float(warm[-quarter:].mean() - warm[:quarter].mean())


def watch(recording: Recording, folder: Path, executor: Executor, watched: Watched) -> dict[str, float]:
    """Sort; gives the growth of every stage of so many chunks."""
    gc.collect()
    sort(recording, folder, SortParams(n_refinements=0), client=executor, progress=watched)
    return {stage: growth(rss) for stage, rss in watched.rss.items() if len(rss) == N_CHUNKS}


@pytest.mark.parametrize("scheduler", ["sync", "local"])
def test_no_stage_grows_with_its_chunks(recording: Recording, tmp_path: Path, scheduler: str) -> None:
    grown = watch(recording, tmp_path / "out", Executor(scheduler), Watched())
    assert {"preprocess", "detect", "features", "deconvolve"} <= set(grown)
    assert {stage: size for stage, size in grown.items() if size > MOST_GROWTH[scheduler]} == {}


def test_a_leak_would_be_seen(recording: Recording, tmp_path: Path) -> None:
    """Something that keeps a third of every chunk."""
    grown = watch(recording, tmp_path / "out", Executor("sync"), Watched(int(CHUNK_BYTES / 3)))
    assert grown["preprocess"] > MOST_GROWTH["sync"]
