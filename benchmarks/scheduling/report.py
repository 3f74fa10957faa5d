"""Tables of simulated sorts, and what they rest on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.scheduling.growth import planned, stages_of
from benchmarks.scheduling.schedule import Costs, Stage, stage_seconds
from yass_dask import Recording, SortParams
from yass_dask.geometry import Probe

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TARGETS = ((384, 24.0), (10_000, 1.0))
"""Channels and hours."""
BANDWIDTHS = (2e9, 20e9)
"""Bytes a second: what a good file server gives, and a parallel file system."""
SAMPLING_RATE = 30_000.0
N_SORTS = 3
MOST_STAGES = 8

HEAD = """\
# Where a sort stops scaling

Made by `make bench-scheduling` from scheduling.jsonl: a simulation, no run on so many workers. It rests on this:

- Tasks: seconds of CPU of every task of sorts of {sorted},
  each in one thread ({machine}, {date}, commit {commit}).
- Growth: what all tasks of a stage take together grows as the power of the channels that lies between the first two
  sorts (at most 2), and as the power of the seconds looked at that lies between the first and the third (at most 1; 1
  where a stage goes through all blocks or so many). What the client does between the tasks, and at the end, is so much
  whatever the length and so much a channel and second. {ratio:.0f} times the channels of the largest sort is far: take
  it for the shape, not for the minute.
- Pieces: as the sort itself cuts them for so many workers; as uneven as those measured. A unit a two channels.
- Order: stage by stage, each task to whoever is free first; no stage begins before the last one has ended.
- Client and scheduler: {task_ms:.2f} ms of CPU a task and {stage_ms:.0f} ms a stage, measured as one process; tasks are
  handed out one after another. While the client plans, joins and ends the sort ("end": last drops, files), no worker
  has anything to do.
- Disks: so many GB/s for all workers together, for int16 as it is, each block read once a stage: an assumption.
- Workers: as fast as that one core, whatever their number on a host; none is lost; kernels are compiled. Memory is
  taken to be there: the noise's sums and the templates of 10,000 channels are held by neighbourhoods, which grows with
  the channels (tests/test_needs.py); no sort of so many was run. Of 5000 units templates.npy has 22 GB of disk.
"""


def report(lines: Sequence[dict[str, Any]], bandwidths: Sequence[float]) -> str:
    """Markdown, from the last lines of the scheduler and of the sorts."""
    sorts = [line for line in lines if line["kind"] == "sort"][-N_SORTS:]
    scheduler = [line for line in lines if line["kind"] == "scheduler"][-1]
    costs = [Costs(scheduler["task_s"], scheduler["stage_s"], bandwidth) for bandwidth in bandwidths]
    runs = [(line, planned(silent(line["channels"], line["seconds"] / 3600), 1)) for line in sorts]
    head = HEAD.format(
        sorted=", ".join(f"{line['channels']} channels x {line['seconds']:.0f} s" for line in sorts),
        machine=sorts[0]["machine"]["cpu"], date=sorts[0]["date"][:10], commit=sorts[0]["commit"],
        ratio=max(channels for channels, _ in TARGETS) / max(line["channels"] for line in sorts),
        task_ms=1e3 * scheduler["task_s"], stage_ms=1e3 * scheduler["stage_s"],
    )  # fmt: skip
    return "\n".join([head, *(target(*size, runs, cost) for size in TARGETS for cost in costs)])


def silent(channels: int, hours: float) -> Recording:
    """A recording that is only planned."""
    positions = np.stack([np.zeros(channels), 20.0 * np.arange(channels)], axis=1)
    source = Silence((round(hours * 3600 * SAMPLING_RATE), channels))
    return Recording(source, SAMPLING_RATE, Probe(positions))


class Silence:
    """A recording's source that holds nothing."""

    dtype = np.dtype(np.int16)

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape

    def read(self, start: int, stop: int) -> np.ndarray:
        raise RuntimeError("a plan reads nothing")

    def identity(self) -> dict[str, Any]:
        return {"kind": "silence"}


def target(channels: int, hours: float, runs: Sequence[tuple[dict[str, Any], Recording]], costs: Costs) -> str:
    """Section of one recording."""
    recording, rows, alone, cut = silent(channels, hours), [], 0.0, {}
    for n_workers in WORKERS:
        chunks = planned(recording, n_workers)
        key = chunks.chunk_blocks, chunks.part_blocks
        stages = cut[key] = cut.get(key) or stages_of(chunks, SortParams(), runs)
        ended = [(stage, *stage_seconds(stage, n_workers, costs)) for stage in stages]
        seconds = sum(spent for _, spent, _ in ended)
        alone = alone or seconds
        # What a stage takes beyond its share of the work is what more workers do not help.
        worst, spent, why = max(ended, key=lambda one: one[1] - one[0].work_s / n_workers)
        n_tasks = sum(len(stage.tasks) for stage in stages)
        rows.append(
            f"| {n_workers} | {duration(seconds)} | {hours * 3600 / seconds:.3g} | {alone / seconds:.1f} "
            f"| {alone / seconds / n_workers:.0%} | {n_tasks} | {worst.name}, {duration(spent)}: {why} |"
        )
    title = f"## {hours:g} h x {channels} channels, disks of {costs.bandwidth / 1e9:g} GB/s"
    table = "| workers | time | x real time | speed-up | efficiency | tasks | loses most by |\n" + "|---" * 7 + "|"
    return "\n".join([title, "", table, *rows, "", *slowest(ended, n_workers, seconds)])


def slowest(ended: Sequence[tuple[Stage, float, str]], n_workers: int, seconds: float) -> list[str]:
    """Where the time of the largest cluster goes."""
    lines = [f"On {n_workers} workers:", "", "| stage | tasks | time | share | ends with |", "|---|---|---|---|---|"]
    for stage, spent, why in sorted(ended, key=lambda one: -one[1])[:MOST_STAGES]:
        lines.append(f"| {stage.name} | {len(stage.tasks)} | {duration(spent)} | {spent / seconds:.0%} | {why} |")
    return [*lines, ""]


def duration(seconds: float) -> str:
    """In words."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
