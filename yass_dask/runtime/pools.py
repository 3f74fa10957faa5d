"""Where jobs run: here, in threads, on a dask cluster. A job is a whole part of a stage."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Hashable, Iterator, Mapping
from concurrent import futures
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import dask
from dask.delayed import Delayed

from yass_dask.backends import MEMORY, Where
from yass_dask.chunked import merged, needed_for
from yass_dask.runtime.clocks import CLOCK, TOLD_FROM_S, ClockError
from yass_dask.runtime.devices import Workers
from yass_dask.runtime.threads import keep_memory

if TYPE_CHECKING:
    import distributed

_log = logging.getLogger("yass_dask")

_WAITING_PER_THREAD = 3
_WAITING_AT_LEAST = 64
"""Jobs handed to a cluster at once: enough that no worker waits for the client, nor one that joins later.
Those that wait there are graphs without data."""
_QUIET_S = 60
"""Seconds without a finished job after which the workers are counted."""
_ADVICE = "most often they run out of memory: give them more, or lower resources.max_memory"
_MANY = 8
"""From so many jobs on, their arrays are shared."""


class WorkersLostError(RuntimeError):
    """A job was given up because every worker that ran it died."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"a job was given up: every worker that ran it died, the last one at {address}; {_ADVICE}. What is "
            "finished is kept; the same command goes on"
        )


class OutOfMemoryError(MemoryError):
    """A job did not get the memory that it asked for."""

    def __init__(self, label: str, error: MemoryError) -> None:
        super().__init__(
            f"no memory is left for a task of {label} ({error or 'nothing more is told'}): lower resources.max_memory "
            "or the number of workers. What is finished is kept; the same command goes on"
        )


class SchedulerLostError(RuntimeError):
    """The scheduler does not answer any more."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"the dask scheduler {address} was lost. What is finished is kept: start a scheduler, and the same command "
            "goes on"
        )


@contextlib.contextmanager
def memory_told(label: str) -> Iterator[None]:
    """OutOfMemoryError, which says what to do, for any MemoryError."""
    try:
        yield
    except MemoryError as error:
        raise OutOfMemoryError(label, error) from error


@contextlib.contextmanager
def answered_by(client: distributed.Client | None) -> Iterator[None]:
    """SchedulerLostError for whatever fails because the client's scheduler is gone."""
    try:
        yield
    except SchedulerLostError:
        raise
    except Exception as error:
        if client is None or not _lost(client, error):
            raise
        raise SchedulerLostError(_where(client)) from error


def _lost(client: distributed.Client, error: Exception) -> bool:
    """Whether the scheduler is gone; the client may not know it yet."""
    if client.status == "running" and isinstance(error, OSError):
        try:
            client.nthreads()
        except Exception:
            return True
    return client.status != "running"


@dataclass(frozen=True)
class Job:
    """One task's graph and key; calling it computes the task and forgets the result."""

    graph: dict[Hashable, Any]
    key: Any
    gpu_memory: int | None = None
    """Bytes of its GPU that the process may take"""

    def __call__(self) -> None:
        if self.gpu_memory is not None:
            MEMORY.allow(self.gpu_memory)
        dask.get(self.graph, self.key)

    def on_cluster(self) -> None:
        from threadpoolctl import threadpool_limits

        keep_memory()
        threadpool_limits(limits=1)  # not undone: other tasks of this process rely on it too
        self()


def cut_jobs(tasks: Mapping[str, Delayed], gpu_memory: int | None = None) -> Iterator[tuple[str, Job]]:
    """Cut the common graph into one job per task."""
    graph = dict(merged(tasks.values()))
    for name, task in tasks.items():
        yield name, Job(needed_for(graph, task.key), task.key, gpu_memory)


class Pool(Protocol):
    """The one way in: hand a job over, wait for whichever ends first, call the rest off."""

    @property
    def window(self) -> int:
        """Most jobs to hand over at once."""

    def submit(self, name: str, job: Job) -> Any: ...

    def wait(self, running: list[Any]) -> tuple[list[Any], list[Any]]:
        """Wait for at least one, raise the first failure, return those that are done and those whose workers died."""

    def cancel(self, running: list[Any]) -> None: ...


class Here:
    """Runs each job at once in the calling thread."""

    window = 1

    def submit(self, name: str, job: Job) -> str:
        job()
        return name

    def wait(self, running: list[Any]) -> tuple[list[Any], list[Any]]:
        return running, []

    def cancel(self, running: list[Any]) -> None: ...


@dataclass(frozen=True)
class Threads:
    """Runs jobs in threads of this process."""

    pool: futures.ThreadPoolExecutor
    window: int

    def submit(self, name: str, job: Job) -> futures.Future[None]:
        return self.pool.submit(job)

    def wait(self, running: list[Any]) -> tuple[list[Any], list[Any]]:
        done, _ = futures.wait(running, return_when=futures.FIRST_COMPLETED)
        for future in done:
            future.result()
        return list(done), []

    def cancel(self, running: list[Any]) -> None:
        for future in running:
            future.cancel()


class Cluster:
    """Runs jobs on the workers of a dask cluster; many jobs share their arrays."""

    def __init__(self, client: distributed.Client, label: str, n_jobs: int, where: Where) -> None:
        from yass_dask.runtime.shared import SharedArrays

        self.client = client
        self.last_lost = ""
        self.submission = Workers.of(client).submission(where) if where != "any" else {}
        self.label = f"{label}-{uuid.uuid4().hex[:8]}"  # two sorts on one cluster must not share keys
        self.shared = SharedArrays(client, self.label) if n_jobs >= _MANY else None
        self.window = max(_WAITING_AT_LEAST, _WAITING_PER_THREAD * sum(client.nthreads().values()))

    def submit(self, name: str, job: Job) -> Any:
        if _needs_futures(job.graph):  # only the scheduler can bring them to the task
            return self.client.get(job.graph, job.key, sync=False, **self.submission)
        run = job.on_cluster if self.shared is None else self.shared.pack(job)
        return self.client.submit(run, key=f"{self.label}-{name}", pure=False, **self.submission)

    def wait(self, running: list[Any]) -> tuple[list[Any], list[Any]]:
        import distributed

        lost: list[Any] = []
        try:
            done = self._first_done(running)
            failures = [future.exception() for future in done]
        except (OSError, futures.CancelledError) as error:  # what distributed raises where nobody answers
            raise SchedulerLostError(_where(self.client)) from error
        for future, failure in zip(done, failures, strict=True):
            if isinstance(failure, distributed.scheduler.KilledWorker):
                self.last_lost = str(failure.last_worker.address)
                lost.append(future)
            elif failure is not None:
                raise failure.with_traceback(future.traceback())
            future.release()
        return [future for future in done if future not in lost], lost

    def _first_done(self, running: list[Any]) -> list[Any]:
        """Those that are done when one is; the log says so where there is no worker to do any."""
        import distributed

        workers = set(self.client.nthreads())
        CLOCK.put_back_s()
        while True:
            try:
                with self.client.as_current():
                    return list(distributed.wait(running, timeout=_QUIET_S, return_when="FIRST_COMPLETED").done)
            except TimeoutError:
                if (seconds := CLOCK.put_back_s()) > TOLD_FROM_S:
                    raise ClockError(seconds) from None
                before, workers = workers, set(self.client.nthreads())
                if not workers:
                    _log.warning("%s: the cluster has no worker left; waiting for one", self.label)
                elif not workers & before:
                    _log.warning("%s: all workers died within a minute and were started anew; %s", self.label, _ADVICE)

    def cancel(self, running: list[Any]) -> None:
        with contextlib.suppress(Exception):  # the cluster itself may be what failed
            self.client.cancel(running)

    def close(self) -> None:
        """The stage is over."""
        if self.shared is not None:
            with contextlib.suppress(Exception):
                self.shared.close()


def _where(client: distributed.Client) -> str:
    scheduler = getattr(client, "scheduler", None)
    return str(getattr(scheduler, "address", "of this client"))


def _needs_futures(graph: Mapping[Hashable, Any]) -> bool:
    """Whether a part of the input lies on the cluster (the user persisted it there).

    dask leaves such a part out of an optimised graph, so that a task depends on a key which the graph lacks.
    """
    from distributed import Future

    return any(
        isinstance(task, Future) or any(key not in graph for key in getattr(task, "dependencies", ()))
        for task in graph.values()
    )
