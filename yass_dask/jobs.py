"""Sorts that run on without the one who started them: a process of its own, and a folder that tells how it goes.

The folder lies under YASS_JOBS, by default `~/.local/state/yass/jobs`. Whoever comes back, also from another shell or
notebook, finds the job by its id.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from yass_dask.errors import InputError
from yass_dask.monitor.progress import FileProgress, Progress
from yass_dask.store.disk import read_json, write_json

if TYPE_CHECKING:
    import distributed

    from yass_dask.pipeline import SortParams
    from yass_dask.recording import Recording
    from yass_dask.runtime import Executor
    from yass_dask.sorting import Sorting
    from yass_dask.store import Store

ABOUT, CALL, PROGRESS, OUTPUT, END = "job.json", "call.pkl", "progress.json", "output.log", "end.json"
POLL_S = 0.5
LAST_LINES = 5

Call = Callable[[Progress], str]
"""Sorts, and gives the text to print at the end."""


def jobs_folder() -> Path:
    """Where the jobs of this user are kept."""
    return Path(os.environ.get("YASS_JOBS") or Path.home() / ".local" / "state" / "yass" / "jobs").expanduser()


@dataclass(frozen=True)
class Job:
    """A sort that runs by itself, or did."""

    id: str

    @property
    def folder(self) -> Path:
        return jobs_folder() / self.id

    @property
    def out(self) -> Path:
        """The output folder."""
        return Path(read_json(self.folder / ABOUT)["out"])

    def status(self) -> dict[str, Any]:
        """How it goes: id, out, host, pid, started, state, message; of one that runs stage, done, parts and pace.

        The state is running, done, failed, cancelled, killed (the process is gone and did not say why), or unknown (it
        runs on another host and has not said that it ended).
        """
        about = read_json(self.folder / ABOUT)
        state = _state_of(about)  # before its end is read: it may end in between
        told = read_json(self.folder / PROGRESS) | read_json(self.folder / END)
        return {"id": self.id, **about, "state": state, **told}

    def wait(self, timeout_s: float | None = None) -> Sorting:
        """Wait until it has ended, and give its result.

        Raises
        ------
        TimeoutError
            It runs still.
        RuntimeError
            It did not end well; the message is its own.
        """
        from yass_dask.sorting import Sorting

        began = time.monotonic()
        while (found := self.status())["state"] in ("running", "unknown"):
            if timeout_s is not None and time.monotonic() - began > timeout_s:
                raise TimeoutError(f"job {self.id} still runs: {describe(found)}")
            time.sleep(POLL_S)
        if found["state"] != "done":
            raise RuntimeError(f"job {self.id}: {describe(found)}")
        return Sorting.open(self.out)

    def cancel(self) -> None:
        """Interrupt it; what is finished is kept, and the same sort goes on from there.

        Raises
        ------
        InputError
            It does not run, or not on this host.
        """
        found = self.status()
        if found["state"] == "unknown":
            raise InputError(f"job {self.id} runs on host {found['host']}: cancel it there")
        if found["state"] != "running":
            raise InputError(f"job {self.id} does not run: {describe(found)}")
        os.kill(found["pid"], signal.SIGINT)

    def last_lines(self) -> list[str]:
        """The last lines of the sort's log."""
        try:
            return (self.out / "yass.log").read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        except OSError:
            return []


def start(call: Call, out: Path) -> Job:
    """Run a call in a process of its own, which outlives this one."""
    import cloudpickle

    job = Job(uuid.uuid4().hex[:8])
    try:
        job.folder.mkdir(mode=0o700, parents=True)  # it holds a program, and paths
        (job.folder / CALL).write_bytes(cloudpickle.dumps(call))
        with open(job.folder / OUTPUT, "wb") as output:
            command = [sys.executable, "-m", "yass_dask.jobs", job.id]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        born = psutil.Process(process.pid).create_time()
    except OSError as error:
        raise InputError(f"{job.folder}: the job cannot be kept there ({error}); set YASS_JOBS") from error
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    about = {"out": str(out), "host": socket.gethostname(), "pid": process.pid, "born": born, "started": started}
    write_json(job.folder / ABOUT, about)
    return job


def start_sort(
    recording: Recording, store: str | Path | Store, params: SortParams, *, backend: str,
    client: distributed.Client | Executor | None, seed: int, templates: Sorting | str | Path | None = None,
) -> Job:  # fmt: skip
    """Start `sort` as a job; a client stands for its scheduler, which must outlive this process by itself."""
    from yass_dask.monitor.announce import submitted
    from yass_dask.runtime import Executor, choose
    from yass_dask.store import Store

    executor = client if isinstance(client, Executor) else choose(client)
    watched = executor.client
    if watched is not None:
        executor = Executor(str(watched.scheduler.address), executor.n_workers)
    opened = store if isinstance(store, Store) else Store(store)
    job = start(partial(_sort, recording, opened, params, backend, executor, seed, templates), opened.path)
    if watched is not None:
        submitted(watched, job.id, recording, str(opened.path))
    return job


def _sort(
    recording: Recording, store: Store, params: SortParams, backend: str, executor: Executor, seed: int,
    templates: Sorting | str | Path | None, progress: Progress,
) -> str:  # fmt: skip
    from yass_dask.logs import logging_to
    from yass_dask.pipeline import sort

    with store.lock(), logging_to(store.path, "INFO"):
        sorting = sort(
            recording, store, params, backend=backend, client=executor, seed=seed, progress=progress,
            templates=templates,
        )  # fmt: skip
    return f"{sorting.n_units} units, {sorting.n_spikes} spikes"


def find(job_id: str) -> Job:
    """The job of an id, or of its beginning; InputError where there is none, or several."""
    found = [job for job in all_jobs() if job.id.startswith(job_id)]
    if len(found) != 1:
        raise InputError(f"{len(found) or 'no'} jobs have an id like {job_id!r}; `yass jobs` lists them")
    return found[0]


def all_jobs() -> list[Job]:
    """Jobs in the order in which they were started."""
    about = sorted(jobs_folder().glob(f"*/{ABOUT}"), key=lambda path: path.stat().st_mtime)
    return [Job(path.parent.name) for path in about]


def describe(status: dict[str, Any]) -> str:
    """One line."""
    line = f"{status['state']}"
    if status["state"] == "running" and "stage" in status:
        line += f", {status['stage']}: {status['done']} of {status['parts']} chunks {status['pace']}".rstrip()
    if status.get("message"):
        line += f": {status['message']}"
    return line


def _state_of(about: dict[str, Any]) -> str:
    """State of a job that has not said how it ended."""
    if about.get("host") != socket.gethostname():
        return "unknown"
    with contextlib.suppress(psutil.NoSuchProcess, KeyError):
        process = psutil.Process(about["pid"])
        # Another process may have got the number since.
        if process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - about["born"]) < 1:
            return "running"
    return "killed"


def _run(job: Job) -> None:
    """In the job's own process: do it, and say how it ended."""
    import cloudpickle

    from yass_dask.monitor.announce import JOB

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell gives background processes none
    JOB.set(job.id)
    progress = FileProgress(job.folder / PROGRESS)
    try:
        call: Call = cloudpickle.loads((job.folder / CALL).read_bytes())
        end = {"state": "done", "message": call(progress)}
    except KeyboardInterrupt:
        end = {"state": "cancelled", "message": "the same sort goes on from what is finished"}
    except Exception as error:
        traceback.print_exc()
        end = {"state": "failed", "message": f"{type(error).__name__}: {error}"}
    end["ended"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    write_json(job.folder / END, end)


if __name__ == "__main__":
    _run(Job(sys.argv[1]))
