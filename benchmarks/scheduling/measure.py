"""What every task of a sort takes, what its client does between them, and what a task costs that does nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dask.delayed import Delayed, delayed

from benchmarks.scaling import simulated
from yass_dask import Store, from_config, sort
from yass_dask.runtime import Executor, plan
from yass_dask.runtime.pools import cut_jobs

N_TRIVIAL = 2000


@dataclass(frozen=True)
class Timed(Executor):
    """Runs every task in this thread and notes its seconds of CPU: other load on the machine does not count."""

    tasks: dict[str, list[float]] = field(default_factory=dict)

    def run(self, tasks: Mapping[str, Delayed], on_done: Callable[[str], None], *, label: str = "task") -> None:
        seconds = self.tasks.setdefault(label, [])
        for name, job in cut_jobs(tasks):
            began = time.process_time()
            job()
            seconds.append(round(time.process_time() - began, 5))
            on_done(name)


def sort_line(work: Path, channels: int, minutes: float) -> dict[str, Any]:
    """Sort a simulated recording; for every stage its tasks' seconds and the client's."""
    recording = from_config(simulated(work, channels, minutes) / "config.yaml")
    chunks = plan(recording, None, None, 1)
    store, executor = Store(work / "timed"), Timed("sync")
    store.clean()
    began = time.process_time()
    recording = recording.with_chunks(chunks.chunk_blocks, chunks.part_blocks)
    sorting = sort(recording, store, backend="numba", client=executor)
    total = time.process_time() - began
    spent = {name: timing["cpu_seconds"] for name, timing in store.timings().items()}
    stages = {
        name: {"tasks_s": tasks, "client_s": round(max(spent[name] - sum(tasks), 0.0), 5)}
        for name, tasks in executor.tasks.items()
    }
    return {
        "kind": "sort", "channels": channels, "seconds": recording.duration_s, "units": sorting.n_units,
        "stages": stages, "end_s": round(max(total - sum(spent.values()), 0.0), 5),
    }  # fmt: skip


def scheduler_line() -> dict[str, Any]:
    """Seconds of CPU that client and scheduler, here one process, take for a task that does nothing, and for a stage of
    one task.
    """
    with Executor("local", 2).open() as executor:
        seconds = {}
        for count in (1, 1, N_TRIVIAL):  # the first one warms up
            tasks = {f"t{k:05d}": delayed(os.getpid, pure=False)() for k in range(count)}
            began = time.process_time()
            executor.run(tasks, str)
            seconds[count] = time.process_time() - began
    task_s = seconds[N_TRIVIAL] / N_TRIVIAL
    return {"kind": "scheduler", "task_s": round(task_s, 6), "stage_s": round(seconds[1], 4)}
