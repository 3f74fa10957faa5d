"""Tasks on workers: how long a stage takes, and what keeps it from going faster."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """What is spent beside the tasks themselves."""

    task_s: float
    """Client and scheduler hand out one task after another, each in so many seconds"""
    stage_s: float
    """A stage takes so long even if it has nothing to do"""
    bandwidth: float
    """Bytes a second that all workers together read and write"""


@dataclass(frozen=True)
class Stage:
    """One stage: no task of it begins before the last stage has ended."""

    name: str
    tasks: Sequence[float]
    """Seconds of each, in the order in which they are handed out"""
    client_s: float = 0.0
    """Seconds in which the client plans and joins, and no worker has anything to do"""
    n_bytes: float = 0.0
    """Read and written by all tasks"""

    @property
    def work_s(self) -> float:
        return sum(self.tasks)


def makespan(tasks: Sequence[float], n_workers: int, task_s: float = 0.0) -> float:
    """Seconds until all tasks are done: each goes, in order, to whoever is free first, `task_s` after the last one."""
    free = [0.0] * max(1, min(n_workers, len(tasks)))
    for handed_out, seconds in zip(itertools.count(1), tasks):
        begin = max(heapq.heappop(free), handed_out * task_s)
        heapq.heappush(free, begin + seconds)
    return max(free)


def stage_seconds(stage: Stage, n_workers: int, costs: Costs) -> tuple[float, str]:
    """Seconds of a stage, and what keeps more workers from making it shorter."""
    limits = {
        "its tasks": makespan(stage.tasks, n_workers, costs.task_s),
        "the disks": stage.n_bytes / costs.bandwidth,
    }
    longest = max(limits, key=lambda name: limits[name])
    seconds = limits[longest]
    why = longest
    if longest == "its tasks" and len(stage.tasks) < n_workers:
        why = "a single task" if len(stage.tasks) == 1 else f"{len(stage.tasks)} tasks"
    elif longest == "its tasks" and len(stage.tasks) * costs.task_s > 0.9 * seconds:
        why = "the scheduler"
    if stage.client_s + costs.stage_s > seconds:
        why = "the client"
    return seconds + stage.client_s + costs.stage_s, why
