"""The sorts of a dask scheduler as a page, `/yass`, and as JSON, `/yass.json`, beside dask's own dashboard.

A plugin of the scheduler: it sees every task change its state, and hears from the clients which task is a chunk of what
(see `announce`). Nothing is computed for it, and a page asks once a second.
"""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed import SchedulerPlugin
from tornado.web import RequestHandler

TOPIC = "yass"
PAGE = Path(__file__).parent / "page.html"
MOST_CELLS = 240
"""A longer chunk map is drawn in so many cells, each in the state of its worst chunk."""
MOST_JOBS, MOST_LINES, MOST_PEAKS = 50, 12, 8000
STATES = {"processing": "running", "memory": "done", "erred": "failed"}
"""What a chunk's state is called; all other ones are waiting, or over after they were done."""
WORST = ("done", "found", "waiting", "running", "redone", "failed")


@dataclass
class StageView:
    """A stage as far as it is known."""

    name: str
    n_parts: int
    n_found: int
    began: float
    ended: float | None = None
    chunks: dict[str, str] = field(default_factory=dict)
    redone: set[str] = field(default_factory=set)
    kept: tuple[Counter[str], list[str]] | None = None
    """What is shown of a stage that is over: a scheduler lives longer than its sorts, and keeps no chunk of theirs"""

    def end(self, now: float) -> None:
        """The stage is over, well or not."""
        if self.kept is None:
            self.kept = Counter(self.chunks.values()), self.cells()
            self.ended, self.chunks = now, {}

    def change(self, chunk: str, finish: str) -> None:
        """A chunk's task goes over into another state of dask's."""
        before, now = self.chunks.get(chunk), STATES.get(finish)
        if now is not None:
            self.chunks[chunk] = now
        elif before == "running":  # its worker died
            self.chunks[chunk] = "waiting"
            self.redone.add(chunk)
        elif before is None:
            self.chunks[chunk] = "waiting"

    def facts(self, recorded_s: float, now: float) -> dict[str, Any]:
        counts = Counter(self.chunks.values()) if self.kept is None else self.kept[0]
        seconds = (self.ended or now) - self.began
        done = self.n_found + counts["done"]
        pace = recorded_s * counts["done"] / max(self.n_parts, 1) / seconds if counts["done"] and seconds > 0 else None
        left = None if self.ended or not pace else seconds * (self.n_parts - done) / counts["done"]
        return {
            "stage": self.name, "parts": self.n_parts, "found": self.n_found, "done": done,
            "running": counts["running"], "failed": counts["failed"], "redone": len(self.redone),
            "seconds": round(seconds, 1), "x_real_time": pace and round(pace, 2), "left_s": left and round(left, 1),
            "complete": done == self.n_parts and self.ended is not None, "map": self.cells(),
        }  # fmt: skip

    def cells(self) -> list[str]:
        """States in the order of the chunks; those found finished come first."""
        if self.kept is not None:
            return self.kept[1]
        seen = [self._shown(chunk) for chunk in sorted(self.chunks)]
        states = ["found"] * self.n_found + seen + ["waiting"] * (self.n_parts - self.n_found - len(seen))
        step = -(-len(states) // MOST_CELLS) or 1
        return [max(states[i : i + step], key=WORST.index) for i in range(0, len(states), step)]

    def _shown(self, chunk: str) -> str:
        state = self.chunks[chunk]
        return "redone" if chunk in self.redone and state == "running" else state


@dataclass
class JobView:
    """A sort as far as it is known."""

    id: str
    out: str
    recorded_s: float
    n_samples: int
    n_channels: int
    began: float
    ended: float | None = None
    state: str = "running"
    message: str = ""
    found: dict[str, Any] = field(default_factory=dict)
    """What the sort told of its results so far"""
    peaks: list[list[float]] = field(default_factory=list)
    """[seconds, depth in um, height in sd]; thinned out where they become too many"""
    stages: list[StageView] = field(default_factory=list)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_LINES))
    errors: list[dict[str, str]] = field(default_factory=list)

    def facts(self, now: float) -> dict[str, Any]:
        return {
            "id": self.id, "out": self.out, "state": self.state, "message": self.message,
            "recorded_s": self.recorded_s, "n_channels": self.n_channels,
            "seconds": round((self.ended or now) - self.began, 1), **self.found,
            "stages": [stage.facts(self.recorded_s, now) for stage in self.stages],
            "log": list(self.lines), "errors": self.errors,
        }  # fmt: skip


class SortPages(SchedulerPlugin):
    """Follows the sorts of a scheduler and shows them."""

    name = TOPIC
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.jobs: dict[str, JobView] = {}
        self.owner: dict[str, tuple[JobView, StageView]] = {}
        """Job and stage by the beginning of a task's key"""
        self.cpu_s = 0.0
        routes = [
            (r"/yass", _Page),
            (r"/yass\.json", _Json, {"give": lambda _: self.facts()}),
            (r"/yass/peaks/(\w+)\.json", _Json, {"give": self.peaks}),
        ]
        scheduler.http_application.add_handlers(r".*", routes)

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        began = time.thread_time()
        label, _, chunk = _parts(key)
        if label in self.owner and finish != "forgotten":
            job, stage = self.owner[label]
            stage.change(chunk, finish)
            if finish == "erred":
                task = self.scheduler.tasks.get(key)
                job.errors.append({"stage": stage.name, "chunk": chunk, "error": _text_of(task)})
        self.cpu_s += time.thread_time() - began

    def log_event(self, topic: str, msg: Any) -> None:
        if topic == TOPIC:
            began = time.thread_time()
            self._hear(dict(msg))
            self.cpu_s += time.thread_time() - began

    def _hear(self, told: dict[str, Any]) -> None:
        what, job_id, now = told.pop("what"), told.pop("job"), time.time()
        if what == "begin":
            self.jobs[job_id] = JobView(job_id, began=now, **told)
            for old in list(self.jobs)[:-MOST_JOBS]:
                del self.jobs[old]
        job = self.jobs.get(job_id)
        if job is None:
            return
        if what == "stage":
            job.stages.append(StageView(**told, began=now))
        elif what == "tasks":
            self.owner[told["label"]] = (job, job.stages[-1])
        elif what == "complete":
            self._end_stage(job, now)
        elif what == "line":
            job.lines.append(told["line"])
        elif what == "peaks":
            job.peaks += told["points"]
            if len(job.peaks) > MOST_PEAKS:
                del job.peaks[::2]
        elif what == "found":
            job.found |= told
        elif what == "end":
            job.state, job.message, job.ended = told["state"], told["message"], now
            self._end_stage(job, now)

    def _end_stage(self, job: JobView, now: float) -> None:
        """The job's last stage is over."""
        if job.stages:
            job.stages[-1].end(now)
            self.owner = {label: pair for label, pair in self.owner.items() if pair[1] is not job.stages[-1]}

    def facts(self) -> dict[str, Any]:
        """What the page shows."""
        began = time.thread_time()
        now = time.time()
        facts = {
            "jobs": [job.facts(now) for job in reversed(self.jobs.values())],
            "workers": [_worker(worker) for worker in self.scheduler.workers.values()],
            "cpu_s": round(self.cpu_s, 3),
        }
        self.cpu_s += time.thread_time() - began
        return facts

    def peaks(self, job_id: str) -> list[list[float]]:
        """Of the drift raster of a job."""
        return self.jobs[job_id].peaks if job_id in self.jobs else []


def _parts(key: Any) -> tuple[str, str, str]:
    """(label of the stage's tasks, "-", chunk) of a task's key: stage-number-chunk."""
    if not isinstance(key, str) or key.count("-") < 2:
        return "", "", ""
    stage, number, chunk = key.split("-", 2)
    return f"{stage}-{number}", "-", chunk


def _text_of(task: Any) -> str:
    return str(getattr(task, "exception_text", "") or "")


def _worker(worker: Any) -> dict[str, Any]:
    metrics = worker.metrics
    return {
        "address": worker.address, "host": worker.host, "memory_mb": round(metrics.get("memory", 0) / 1e6),
        "limit_mb": round(worker.memory_limit / 1e6), "cpu_percent": metrics.get("cpu", 0),
        "running": len(worker.processing), "resources": dict(worker.resources),
    }  # fmt: skip


class _Page(RequestHandler):
    def get(self) -> None:
        self.write(PAGE.read_text(encoding="utf-8"))


class _Json(RequestHandler):
    def initialize(self, give: Callable[[str], Any]) -> None:
        self.give = give

    def get(self, job_id: str = "") -> None:
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps(self.give(job_id)))
