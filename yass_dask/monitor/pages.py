"""The sorts of a dask scheduler as a page, `/yass`, and as JSON, `/yass.json`, beside dask's own dashboard.

A plugin of the scheduler: it sees every task change its state, and hears from the clients which task is a chunk of what
(see `announce`). Nothing is computed for it, and a page asks once a second. What it costs is counted.
"""

from __future__ import annotations

import json
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

from distributed import SchedulerPlugin
from tornado.web import HTTPError, RequestHandler

from yass_dask.monitor.views import Curve, JobView, StageView

TOPIC = "yass"
FILES = Path(__file__).parent / "page"
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
MOST_JOBS = 50
SUBMITTED_S = 120.0
"""A sort that was submitted, and whose process has not come after this time, will not come."""


class SortPages(SchedulerPlugin):
    """Follows the sorts of a scheduler and shows them."""

    name = TOPIC
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.jobs: dict[str, JobView] = {}
        self.owner: dict[str, tuple[JobView, StageView]] = {}
        """Job and stage by the beginning of a task's key"""
        self.cpu_s = self.busy_s = 0.0
        """Of this plugin and its pages; and seconds in which workers computed"""
        routes = [
            (r"/yass", _File, {"pages": self, "name": "page.html"}),
            (r"/yass/(page\.css|page\.js)", _File, {"pages": self}),
            (r"/yass\.json", _Json, {"pages": self, "give": self.facts}),
            (r"/yass/(\w+)\.json", _Json, {"pages": self, "give": self.all_of}),
        ]
        scheduler.http_application.add_handlers(r".*", routes)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the CPU time of what it holds."""
        began = time.thread_time()
        try:
            yield
        finally:
            self.cpu_s += time.thread_time() - began

    # --- what happens ---

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        began = time.thread_time()
        label, chunk = _parts(key)
        if label in self.owner and finish != "forgotten":
            self._change(*self.owner[label], key, chunk, finish)
            took = (s["stop"] - s["start"] for s in kwargs.get("startstops") or () if s["action"] == "compute")
            self.busy_s += sum(took)
        self.cpu_s += time.thread_time() - began

    def _change(self, job: JobView, stage: StageView, key: Any, chunk: str, finish: str) -> None:
        stage.change(chunk, finish)
        if finish in ("memory", "erred"):
            job.begin_work()
        if finish == "erred":
            error = str(getattr(self.scheduler.tasks.get(key), "exception_text", "") or "")
            job.errors.append({"stage": stage.name, "chunk": chunk, "error": error})

    def remove_client(self, scheduler: Any, client: str) -> None:
        with self.counted():
            for job in self.jobs.values():
                if job.client == client and job.ended is None:
                    job.ended, job.state = time.time(), "killed"
                    job.message = "the process that ran it is gone; the same command goes on from what is finished"

    def log_event(self, topic: str, msg: Any) -> None:
        if topic == TOPIC:
            with self.counted():
                told = dict(msg)
                self._hear(told.pop("what"), told.pop("job"), told)

    def _hear(self, what: str, job_id: str, told: dict[str, Any]) -> None:
        now = time.time()
        if what == "begin":
            if told["state"] == "submitted" and job_id in self.jobs:
                return  # its process was faster
            self.jobs.pop(job_id, None)
            self.jobs[job_id] = JobView(job_id, began=now, **told)
            for old in list(self.jobs)[:-MOST_JOBS]:
                del self.jobs[old]
            return
        job = self.jobs.get(job_id)
        if job is None:
            return
        if job.state == "killed":  # its client had lost us for a while only
            job.ended, job.state, job.message = None, "running", ""
        if what in HEARD:
            HEARD[what](job, told)
        elif what == "stage":
            job.stages.append(StageView(**told, began=now))
            if told["n_found"]:
                job.begin_work()
        elif what == "tasks":
            self.owner[told["label"]] = (job, job.stages[-1])
        elif what in ("complete", "end"):
            self._end(job, now, **told)

    def _end(self, job: JobView, now: float, cpu_s: float, state: str = "", message: str = "") -> None:
        """The job's last stage is over, and with it the job if a state is given."""
        job.announcing_s = round(cpu_s, 3)
        if state:
            job.end(state, message, now)
        elif job.stages:
            job.stages[-1].end(job.recorded_s, now, complete=True)
        self.owner = {label: pair for label, pair in self.owner.items() if pair[1].kept is None}

    # --- what is shown ---

    def facts(self, job: str = "") -> dict[str, Any]:
        """What the page shows; of one job only, the others in short, where one is asked for."""
        now, at_work = time.time(), self._at_work()
        self._drop_submitted(now)
        jobs = [
            view.facts(now, at_work) if job in ("", view.id) else view.line(now)
            for view in reversed(self.jobs.values())
        ]
        told = self.cpu_s + sum(view.announcing_s for view in self.jobs.values())
        watching = {
            "cpu_s": round(told, 3), "of_s": round(self.busy_s, 1),
            "share": round(told / self.busy_s, 5) if self.busy_s else None,
        }  # fmt: skip
        workers = [_worker(worker) for worker in self.scheduler.workers.values()]
        return {"scheduler": self.scheduler.address, "jobs": jobs, "workers": workers, "watching": watching}

    def all_of(self, job: str) -> dict[str, Any]:
        """One job with everything, also what is long."""
        if job not in self.jobs:
            raise HTTPError(404, "no such job")
        return self.jobs[job].facts(time.time(), self._at_work()) | self.jobs[job].drawn()

    def _at_work(self) -> Mapping[int, set[str]]:
        """Chunks that workers have come to, by the id() of their stage: a worker takes its tasks by priority."""
        found: dict[int, set[str]] = defaultdict(set)
        for worker in self.scheduler.workers.values():
            for task in sorted(worker.processing, key=attrgetter("priority"))[: worker.nthreads]:
                label, chunk = _parts(task.key)
                if label in self.owner:
                    job, stage = self.owner[label]
                    job.begin_work()
                    found[id(stage)].add(chunk)
        return found

    def _drop_submitted(self, now: float) -> None:
        for job in self.jobs.values():
            if job.state == "submitted" and now - job.began > SUBMITTED_S:
                job.end("killed", f"its process never came; `yass status {job.id}` tells more", now)


def _hear_peaks(job: JobView, told: Mapping[str, Any]) -> None:
    anew = told.get("anew") or not job.peaks
    for name, column in told["columns"].items():
        values = array("i", column)
        job.peaks[name] = values if anew else job.peaks[name] + values
    job.versions["peaks"] += 1


def _hear_spikes(job: JobView, told: Mapping[str, Any]) -> None:
    """Of a part of a stage: the stage before stays to be seen until this one has been everywhere."""
    stage, n_bins = told["stage"], told["n_bins"]
    if told.get("anew") or not job.curves or job.curves[-1].stage != stage:
        kept = [curve for curve in job.curves if curve.stage != stage][-1:]
        job.curves = [*kept, Curve(stage, told["bin_s"], [0] * n_bins, [0.0] * n_bins)]
    job.curves[-1].add(told["first"], told["spikes"], told["seconds"])


def _hear_units(job: JobView, told: Mapping[str, Any]) -> None:
    job.units = list(told["units"])
    job.found["units"] = len(job.units)
    job.versions["units"] += 1


def _hear_channels(job: JobView, told: Mapping[str, Any]) -> None:
    job.channels = list(told["channels"])
    job.versions["channels"] += 1


def _hear_motion(job: JobView, told: Mapping[str, Any]) -> None:
    job.motion = dict(told["motion"])
    job.versions["motion"] += 1


HEARD: Mapping[str, Callable[[JobView, Mapping[str, Any]], None]] = {
    "line": lambda job, told: job.lines.append(told["line"]),
    "found": lambda job, told: job.found.update(told),
    "peaks": _hear_peaks,
    "spikes": _hear_spikes,
    "units": _hear_units,
    "channels": _hear_channels,
    "motion": _hear_motion,
}
"""What a client tells of its sort, and what is done with it"""


def _parts(key: Any) -> tuple[str, str]:
    """(label of the stage's tasks, chunk) of a task's key: stage-number-chunk."""
    if not isinstance(key, str) or key.count("-") < 2:
        return "", ""
    stage, number, chunk = key.split("-", 2)
    return f"{stage}-{number}", chunk


def _worker(worker: Any) -> dict[str, Any]:
    metrics = worker.metrics
    return {
        "address": worker.address, "name": str(worker.name), "host": worker.host, "threads": worker.nthreads,
        "memory_mb": round(metrics.get("memory", 0) / 1e6), "limit_mb": round((worker.memory_limit or 0) / 1e6),
        "cpu_percent": round(metrics.get("cpu", 0)), "running": min(len(worker.processing), worker.nthreads),
        "waiting": max(len(worker.processing) - worker.nthreads, 0), "resources": dict(worker.resources),
        "gpu": _gpu(worker),
    }  # fmt: skip


def _gpu(worker: Any) -> dict[str, Any] | None:
    """Of a worker that has a GPU and pynvml, by which dask asks; None of any other."""
    now, fixed = worker.metrics.get("gpu"), worker.extra.get("gpu")
    if not now or not fixed:
        return None
    used, total = now.get("memory-used"), fixed.get("memory-total")
    return {
        "name": fixed.get("name"), "percent": now.get("utilization"),
        "memory_mb": used and round(used / 1e6), "limit_mb": total and round(total / 1e6),
    }  # fmt: skip


class _Counted(RequestHandler):
    """An answer whose CPU time is counted, sending included."""

    def initialize(self, pages: SortPages, **about: Any) -> None:
        self.pages, self.about = pages, about

    def prepare(self) -> None:
        self.began = time.thread_time()

    def on_finish(self) -> None:
        self.pages.cpu_s += time.thread_time() - self.began


class _File(_Counted):
    def get(self, name: str = "") -> None:
        path = FILES / (name or self.about["name"])
        self.set_header("Content-Type", TYPES[path.suffix[1:]])
        self.write(path.read_text(encoding="utf-8"))


class _Json(_Counted):
    def get(self, job: str = "") -> None:
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps(self.about["give"](job or self.get_query_argument("job", ""))))
