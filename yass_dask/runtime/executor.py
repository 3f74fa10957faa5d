"""The one way in to wherever the work runs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask.delayed import Delayed

from yass_dask.backends import Where
from yass_dask.errors import InputError
from yass_dask.monitor.profile import StageProfile
from yass_dask.runtime.batch import Batch, batch_client, is_scheduler_file
from yass_dask.runtime.clients import current_client, local_client, remote_client
from yass_dask.runtime.pools import (
    Cluster,
    Here,
    Job,
    Pool,
    Threads,
    WorkersLostError,
    answered_by,
    cut_jobs,
    memory_told,
)
from yass_dask.runtime.threads import available_cores, give_memory_back, keep_memory, memory_used, one_thread
from yass_dask.runtime.visible import check_workers_see

if TYPE_CHECKING:
    import distributed

    from yass_dask.monitor.announce import Announcer

_log = logging.getLogger("yass_dask")

_HERE = ("threads", "sync")
_LOST_SINGLY = 2
"""Jobs that were run one at a time and lost their workers one after the other: no other job is to blame."""
_KEPT_SHARE = 0.6
"""Of the memory limit: above it, this process gives back what it freed whenever a job ends."""


@dataclass(frozen=True)
class Executor:
    """Runs tasks and keeps none of their results; the results are the same wherever they run.

    Parameters
    ----------
    name : str
        "threads", "sync", "local" (processes of this machine), "slurm" (batch jobs), or a scheduler's address
        ("tcp://host:port") or file ("scheduler.json").
    n_workers : int
        Tasks at the same time; a scheduler elsewhere decides for itself.
    memory_limit : int, optional
        Bytes that local processes may take together.
    client : distributed.Client, optional
        Where to run, whatever the name.
    batch : Batch, optional
        What "slurm" asks for.
    gpu_memory : int, optional
        Bytes that a process may take of its GPU.
    gpus : tuple of str
        GPUs of this machine, as CUDA_VISIBLE_DEVICES names them: "local" starts a process for each beside the others.
    profile : Path, optional
        A folder for a performance report of every stage: where the time of this process went, or dask's own report
        of a cluster.
    announcer : Announcer, optional
        Tells the scheduler of the client what its tasks are.
    opened : bool
        Whether it is inside its `open`.

    Raises
    ------
    InputError
        An unknown name, fewer than one worker, or a report of a cluster without bokeh.
    """

    name: str = "threads"
    n_workers: int = 1
    memory_limit: int | None = None
    client: distributed.Client | None = None
    batch: Batch | None = None
    gpu_memory: int | None = None
    gpus: tuple[str, ...] = ()
    profile: Path | None = None
    announcer: Announcer | None = None
    opened: bool = False

    def __post_init__(self) -> None:
        if self.n_workers < 1:
            raise InputError(f"The number of workers is {self.n_workers}; it must be at least 1.")
        named = self.name in (*_HERE, "local") or (self.name == "slurm" and self.batch is not None)
        if self.client is None and not named and "://" not in self.name and not is_scheduler_file(self.name):
            raise InputError(
                f"The scheduler is {self.name!r}; allowed are threads, sync, local, slurm, tcp://host:port or a "
                "scheduler's file (.json)."
            )
        elsewhere = self.client is not None or self.name not in _HERE
        if self.profile is not None and elsewhere and find_spec("bokeh") is None:
            raise InputError("A profile of a cluster is a page of dask's, which needs bokeh: pip install bokeh")

    @contextlib.contextmanager
    def open(self) -> Iterator[Executor]:
        """Start what this executor needs, once for all stages, and close it with the context.

        Raises
        ------
        InputError
            The scheduler does not answer.
        """
        if self.opened:
            yield self
            return
        with one_thread(), self._started() as started:  # what is computed here between the tasks, too
            yield replace(started, opened=True)

    @contextlib.contextmanager
    def _started(self) -> Iterator[Executor]:
        if self.client is not None:
            yield self
        elif self.name in _HERE:
            keep_memory()
            try:
                yield self
            finally:
                give_memory_back()
        elif self.name == "local":
            profiled = self.profile is not None
            with local_client(self.n_workers, self.memory_limit, self.gpus, profiled=profiled) as client:
                yield replace(self, client=client)
        elif self.name == "slurm" and self.batch is not None:
            with batch_client(self.batch) as client:
                yield replace(self, client=client)
        else:
            with remote_client(self.name) as client:
                yield replace(self, client=client)

    def check_sees(self, inputs: Sequence[str], folder: Path) -> None:
        """InputError where workers elsewhere cannot see the input or write into the folder; call it when open."""
        if self.client is not None:
            with answered_by(self.client):
                check_workers_see(self.client, inputs, folder)

    def run(
        self, tasks: Mapping[str, Delayed], on_done: Callable[[str], None], *, label: str = "task", where: Where = "any"
    ) -> None:
        """Compute all tasks; call `on_done(name)` in the calling thread as each ends.

        The first exception calls the rest off and is raised as it is; but tasks that dask gives up because their
        workers died begin anew when the others have ended, as long as any ends. `label` names the tasks on a
        dashboard; `where` says which workers of a cluster they are for, if it has GPU workers and others.
        An executor that is not open opens for this run only.
        """
        if not tasks:
            return
        left, limit = dict(tasks), self.memory_limit if self.client is None else None

        def done(name: str) -> None:
            del left[name]
            on_done(name)
            if limit is not None and memory_used() > _KEPT_SHARE * limit:
                give_memory_back()  # arrays of other sizes would lie beside what was freed

        with self.open() as opened, answered_by(opened.client), memory_told(label), opened._profiled(tasks, label):
            singly = False
            while left:
                before = len(left)
                with opened._pool(label, before, where) as pool:
                    window, patience = (1, _LOST_SINGLY) if singly else (pool.window, pool.window)
                    _run(pool, cut_jobs(dict(left), self.gpu_memory), done, window, patience)
                stuck = len(left) == before
                if stuck and (singly or before == 1):
                    raise WorkersLostError(getattr(pool, "last_lost", ""))
                singly = stuck  # a task may only have waited where another one took the worker along
                if left:
                    _log.warning("%s: %d of %d tasks lost their workers and begin anew", label, len(left), len(tasks))

    @contextlib.contextmanager
    def _profiled(self, tasks: Mapping[str, Delayed], label: str) -> Iterator[None]:
        if self.profile is None:
            yield
        elif self.client is None:
            with StageProfile(self.profile, label, _graph_facts(tasks)):
                yield
        else:
            import distributed

            self.profile.mkdir(parents=True, exist_ok=True)
            with self.client.as_current(), distributed.performance_report(str(self.profile / f"{label}.html")):
                yield

    @contextlib.contextmanager
    def _pool(self, label: str, n_jobs: int, where: Where) -> Iterator[Pool]:
        if self.client is not None:
            with contextlib.closing(Cluster(self.client, label, n_jobs, where)) as cluster:
                if self.announcer is not None:
                    self.announcer.tell("tasks", label=cluster.label)
                yield cluster
        elif self.name == "sync" or self.n_workers == 1:
            yield Here()
        else:
            with futures.ThreadPoolExecutor(self.n_workers, "yass") as pool:
                yield Threads(pool, self.n_workers)


def choose(client: distributed.Client | None = None, n_workers: int | None = None) -> Executor:
    """The given client, else the current dask client, else threads, one per core that we may use."""
    workers = available_cores() if n_workers is None else n_workers
    found = current_client() if client is None else client
    return Executor("threads", workers) if found is None else Executor("client", workers, client=found)


def _graph_facts(tasks: Mapping[str, Delayed]) -> dict[str, int]:
    """Number of jobs, and their bytes, each array that they share counted once."""
    import cloudpickle

    jobs = [job for _, job in cut_jobs(tasks)]
    return {"tasks": len(jobs), "graph_bytes": len(cloudpickle.dumps(jobs))}


def _run(
    pool: Pool, jobs: Iterator[tuple[str, Job]], on_done: Callable[[str], None], window: int, patience: int
) -> None:
    """Keep `window` jobs going until all are done or were given up, or `patience` of them in a row were."""
    running: dict[Any, str] = {}
    lost_in_a_row = 0

    def collect() -> None:
        nonlocal lost_in_a_row
        done, lost = pool.wait(list(running))
        for future in done:
            on_done(running.pop(future))
        for future in lost:
            del running[future]
        lost_in_a_row = 0 if done else lost_in_a_row + len(lost)

    try:
        for name, job in jobs:
            running[pool.submit(name, job)] = name
            if len(running) >= window:
                collect()
            if lost_in_a_row >= patience:
                pool.cancel(list(running))
                return
        while running:
            collect()
    except BaseException:
        pool.cancel(list(running))
        raise
