"""The scheduler or the client of a sort dies: the same command goes on, and nothing finished is done again."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import distributed
import pytest
from dask.delayed import delayed
from hosts import Cluster, Host, cluster, end, two_addresses, wait_for
from labs import COMMAND, edit, files_below, found_chunks, simulated, yass

from yass_dask.runtime import Executor
from yass_dask.runtime.pools import SchedulerLostError

N_CHUNKS, N_WORKERS = 24, 2
QUICK = ("--backend", "numba", "--set", "n_refinements=1")
EXPORTS = ("spike_train.npy", "templates.npy", "units.csv")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of chunks of one block, enough that a stage is not over before it is looked at."""
    path = simulated(tmp_path_factory.mktemp("ends") / "recording", seconds=N_CHUNKS)
    return edit(path, "resources", max_memory="6MB")


@pytest.fixture(scope="module")
def whole(config: Path) -> Path:
    """Output folder of a sort that nothing interrupted."""
    ran = yass("sort", config, *QUICK, "--output-dir", "whole")
    assert ran.code == 0, ran.err
    return config.parent / "whole"


@dataclass(frozen=True)
class Begun:
    """A sort on a cluster that has written the first parts of a stage, and not all."""

    process: subprocess.Popen[bytes]
    out: Path
    log: Path
    """What it says"""
    words: tuple[Any, ...]

    def finished(self, stage: str) -> set[str]:
        """Parts, or marks of chunks of traces, on the disk."""
        scratch = self.out / "yass.zarr" / stage / ".unfinished"
        return {path.name for path in [*scratch.glob("[0-9c]*.npz"), *scratch.glob("[0-9]*.json")]}


@contextmanager
def begun(config: Path, folder: Path, running: Cluster, stage: str) -> Iterator[Begun]:
    """Start a sort and wait until that stage has begun to write; it ends with the context."""
    out, log = folder / "out", folder / "sort.log"
    words = ("sort", config, *QUICK, "--output-dir", out)
    process = two_addresses()[0].start(*COMMAND, *words, "--scheduler", running.address, log=log)
    sort = Begun(process, out, log, words)
    try:
        wait_for(lambda: len(sort.finished(stage)) >= 2, process)
        yield sort
    finally:
        end(process)


def check_goes_on(sort: Begun, address: str, stage: str, finished: set[str], whole: Path) -> dict[str, tuple[int, int]]:
    """Run the same command again; gives the chunks that it found, by stage."""
    written = chunks_written(sort.out, finished)
    (sort.out / "yass.log").unlink()
    ran = yass(*sort.words, "--scheduler", address)
    assert ran.code == 0, ran.err
    found = found_chunks((sort.out / "yass.log").read_text())
    before, after = (list(found)[: list(found).index(stage)], list(found)[list(found).index(stage) + 1 :])
    assert len(finished) <= found[stage][0] <= found[stage][1], found
    assert all(n == m for n, m in (found[name] for name in before)), found
    assert all(n == 0 for n, _ in (found[name] for name in after)), found
    assert chunks_written(sort.out, finished) == written
    assert [name for name in EXPORTS if (sort.out / name).read_bytes() != (whole / name).read_bytes()] == []
    return found


def chunks_written(out: Path, finished: set[str]) -> dict[str, tuple[int, int]]:
    """Files of the finished chunks of traces, with the time at which they were written."""
    names = {f"{int(name[:8])}.0" for name in finished if name.endswith(".json")}
    traces = files_below(out / "yass.zarr" / "preprocess" / "traces")
    return {name: traces[name] for name in names}


@pytest.mark.kill
@pytest.mark.parametrize("stage", ["preprocess", "deconvolve"])
def test_killed_client(config, whole, tmp_path, stage):
    """Its tasks are released, and the scheduler serves the next one."""
    with cluster(tmp_path / "cluster", *hosts_of(N_WORKERS)) as running:
        with begun(config, tmp_path, running, stage) as sort:
            sort.process.kill()
            assert sort.process.wait() == -signal.SIGKILL
        finished = sort.finished(stage)
        found = check_goes_on(sort, running.address, stage, finished, whole)
        left, executed = facts_of(running.address)
    n_parts = sum(n for _, n in found.values())
    assert left == []
    # Each worker may have had one task in its hands that the next client did not find finished.
    assert n_parts <= executed <= n_parts + N_WORKERS


def facts_of(address: str) -> tuple[list[str], int]:
    """What a scheduler still holds of sorts that are over; how many tasks its workers did."""
    with distributed.Client(address, set_as_default=False) as client:
        executed = client.run(lambda dask_worker: dask_worker.state.executed_count)
        left = client.run_on_scheduler(lambda dask_scheduler: [*dask_scheduler.tasks, *dask_scheduler.worker_plugins])
    return [name for name in left if name != "shuffle"], sum(executed.values())  # one plugin is dask's own


@pytest.mark.kill
@pytest.mark.parametrize("stage", ["preprocess", "deconvolve"])
def test_killed_scheduler(config, whole, tmp_path, stage, monkeypatch):
    """The client says so and ends; with another scheduler, the same command goes on."""
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "3s")  # so long it hopes that the scheduler is back
    with (
        cluster(tmp_path / "cluster", *hosts_of(N_WORKERS)) as running,
        begun(config, tmp_path, running, stage) as sort,
    ):
        running.scheduler.kill()
        assert sort.process.wait(60) == 1
        for worker in running.workers:
            worker.wait(60)  # none writes any more
    said = sort.log.read_text()
    assert f"the dask scheduler {running.address} was lost" in said, said
    assert "start a scheduler, and the same command goes on" in said
    with cluster(tmp_path / "another", *hosts_of(N_WORKERS)) as another:
        check_goes_on(sort, another.address, stage, sort.finished(stage), whole)


@pytest.mark.kill
def test_scheduler_that_dies_between_stages(tmp_path):
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        cluster(tmp_path / "cluster", *hosts_of(1)) as running,
        Executor(running.address).open() as executor,
    ):
        executor.run({"a": delayed(int)()}, str)
        end(running.scheduler)
        for _ in range(2):  # before the client knows, and after
            with pytest.raises(SchedulerLostError, match="start a scheduler, and the same command goes on"):
                executor.run({"a": delayed(int)()}, pytest.fail)
            assert executor.client is not None
            wait_for(lambda: executor.client.status != "running")


def hosts_of(n: int) -> tuple[Host, list[Host]]:
    """Of the scheduler, and of so many workers."""
    first, second = two_addresses()
    return first, [first, second][:n]
