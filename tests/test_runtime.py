"""Executors give the same results wherever they run, and the memory plan adds up."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
from dask.delayed import delayed
from distributed.comm import CommClosedError
from threadpoolctl import threadpool_info

from yass_dask.chunked import LazyParts, LazyTraces
from yass_dask.errors import InputError
from yass_dask.geometry import Probe
from yass_dask.runtime import Executor, available_cores, choose, one_thread, plan, visible
from yass_dask.runtime.plan import MOST_BLOCKS, PROCESS_BYTES, task_bytes, tree_bytes
from yass_dask.runtime.threads import WORKER_SETTINGS
from yass_dask.store import Store

MB = 2**20


@dataclass(frozen=True)
class FakeRecording:
    n_samples: int = 2050
    n_channels: int = 4
    block_samples: int = 100
    duration_s: float = 20.5

    @property
    def probe(self) -> Probe:
        return Probe(np.stack([np.zeros(self.n_channels), 20.0 * np.arange(self.n_channels)], axis=1))

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.int16)

    def identity(self) -> dict[str, Any]:
        return {"source": "fake"}


@pytest.fixture(scope="module")
def local() -> Iterator[Executor]:
    with Executor("local", 2).open() as executor:
        yield executor


@pytest.fixture(params=["sync", "threads", "local"])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "local":
        return request.getfixturevalue("local")  # type: ignore[no-any-return]
    return Executor(request.param, 2)


def _touch(path: Path) -> None:
    path.touch()


def _fail(path: Path, error: Exception) -> None:
    path.touch()
    raise error


def _touch_tasks(folder: Path, n: int) -> dict[str, Any]:
    return {str(i): delayed(_touch, pure=False)(folder / str(i)) for i in range(n)}


class TestRun:
    def test_a_cluster_without_workers_is_told_and_waited_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("yass_dask.runtime.pools._QUIET_S", 0.1)
        with (
            distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            executor = Executor("client", client=client)
            thread = threading.Thread(target=executor.run, args=(_touch_tasks(tmp_path, 3), lambda name: None))
            thread.start()
            while "the cluster has no worker left; waiting for one" not in caplog.text:
                thread.join(0.05)
                assert thread.is_alive()
            cluster.scale(1)
            thread.join(60)
        assert len(list(tmp_path.iterdir())) == 3

    def test_every_task_runs_once_and_is_announced_here(self, tmp_path: Path, executor: Executor) -> None:
        done: list[str] = []
        threads: set[int] = set()

        def on_done(name: str) -> None:
            done.append(name)
            threads.add(threading.get_ident())

        executor.run(_touch_tasks(tmp_path, 20), on_done, label="touch")
        assert sorted(done, key=int) == [str(i) for i in range(20)]
        assert threads == {threading.get_ident()}
        assert len(list(tmp_path.iterdir())) == 20

    def test_no_tasks(self) -> None:
        Executor("tcp://nowhere.invalid:1").run({}, pytest.fail)

    @pytest.mark.parametrize("error", [InputError("the 'file' is\nbad: 3 < 4"), KeyError("x"), OSError(28, "full")])
    def test_first_exception_comes_back_as_it_was(self, tmp_path: Path, executor: Executor, error: Exception) -> None:
        tasks = {"bad": delayed(_fail, pure=False)(tmp_path / "bad", error), **_touch_tasks(tmp_path, 300)}
        with pytest.raises(type(error)) as caught:
            executor.run(tasks, lambda name: None)
        assert caught.value.args == error.args
        assert (tmp_path / "bad").exists()
        assert len(list(tmp_path.iterdir())) < 300

    def test_it_runs_again_after_an_exception(self, tmp_path: Path, executor: Executor) -> None:
        bad = {"bad": delayed(_fail, pure=False)(tmp_path / "bad", ValueError())}
        with pytest.raises(ValueError):
            executor.run(bad, lambda name: None)
        executor.run(_touch_tasks(tmp_path, 3), lambda name: None)
        assert len(list(tmp_path.iterdir())) == 4

    def test_no_more_tasks_at_once_than_workers(self) -> None:
        meet = threading.Barrier(3)
        lock, running, most = threading.Lock(), [0], [0]

        def work() -> None:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            meet.wait(timeout=60)  # three run together, or this breaks
            with lock:
                running[0] -= 1
            meet.wait(timeout=60)

        tasks = {str(i): delayed(work, pure=False, traverse=False)() for i in range(9)}
        Executor("threads", 3).run(tasks, lambda name: None)
        assert most == [3]

    def test_cluster_keeps_no_results(self, tmp_path: Path, local: Executor) -> None:
        assert local.client is not None
        tasks = {str(i): delayed(np.ones, pure=False)(10) for i in range(5)}
        local.run(tasks, lambda name: None)
        local.client.nthreads()  # futures are released in the client's own thread: let it come by
        assert not local.client.futures

    def test_workers_and_this_process_compute_with_one_thread(self, executor: Executor, tmp_path: Path) -> None:
        task = delayed(_write_threads, pure=False)(tmp_path / "threads")
        executor.run({"a": task}, lambda name: None)
        assert set((tmp_path / "threads").read_text().split()) == {"1"}

    def test_environment_is_as_before(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
        monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
        with one_thread():
            assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
        assert os.environ["OMP_NUM_THREADS"] == "7"
        assert "MKL_NUM_THREADS" not in os.environ


def _write_threads(path: Path) -> None:
    np.ones((4, 4)) @ np.ones((4, 4))
    libraries = [entry["num_threads"] for entry in threadpool_info()]
    assert libraries
    path.write_text(" ".join(map(str, [*libraries, os.environ.get("OMP_NUM_THREADS")])))


def _die(path: Path) -> None:
    """End the worker, the first time."""
    if not path.exists():
        path.touch()
        os._exit(1)


def _die_again(folder: Path) -> None:
    """Take the worker along, whenever it is run."""
    (folder / uuid.uuid4().hex).touch()
    os._exit(1)


def _ask_too_much() -> None:
    raise MemoryError("Unable to allocate 3 TiB")


def test_what_to_do_without_memory_is_told() -> None:
    with pytest.raises(MemoryError, match=r"task of detect \(Unable to allocate 3 TiB\): lower resources.max_memory"):
        Executor("sync").run({"a": delayed(_ask_too_much)()}, pytest.fail, label="detect")


@pytest.fixture(scope="class")
def strict() -> Iterator[Executor]:
    """A cluster that gives a task up with the first worker that it takes along."""
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), Executor("local", 2).open() as executor:
        yield executor


class TestLostWorkers:
    def test_tasks_that_dask_gives_up_are_begun_anew(self, tmp_path: Path, strict: Executor) -> None:
        (tmp_path / "out").mkdir()
        deadly = {f"bad{i}": delayed(_die, pure=False)(tmp_path / f"died{i}") for i in range(2)}
        done: list[str] = []
        tasks = _touch_tasks(tmp_path / "out", 30) | deadly
        strict.run(tasks, done.append)
        assert sorted(done) == sorted(tasks)
        assert len(list((tmp_path / "out").iterdir())) == 30

    def test_a_task_that_always_kills_is_named_as_such(self, tmp_path: Path, strict: Executor) -> None:
        tasks = {"bad": delayed(os._exit, pure=False)(1), **_touch_tasks(tmp_path, 5)}
        done: list[str] = []
        with pytest.raises(RuntimeError, match="every worker that ran it died") as caught:
            strict.run(tasks, done.append)
        assert "max_memory" in str(caught.value)
        assert set(done) == {str(i) for i in range(5)}

    def test_a_cluster_where_every_task_kills_is_given_up_soon(self, tmp_path: Path, strict: Executor) -> None:
        """As where no worker has memory enough: not each of the tasks has to be tried by itself."""
        tasks = {str(i): delayed(_die_again, pure=False)(tmp_path) for i in range(5)}
        with pytest.raises(RuntimeError, match="every worker that ran it died"):
            strict.run(tasks, str)
        assert len(list(tmp_path.iterdir())) <= len(tasks) + 2

    def test_a_worker_that_dies_while_arrays_are_handed_out(
        self, tmp_path: Path, local: Executor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """dask fails the call for all workers; those that live get them."""
        calls: list[str] = []
        register = distributed.Client.register_plugin

        def dying(client: distributed.Client, plugin: Any, name: str | None = None) -> Any:
            calls.append(str(name))
            if len(calls) == 1:
                raise CommClosedError("the worker died")
            return register(client, plugin, name=name)

        monkeypatch.setattr(distributed.Client, "register_plugin", dying)
        done: list[str] = []
        local.run(_touch_tasks(tmp_path, 20), done.append)
        assert len(done) == 20
        assert calls[0] == calls[1]


class TestWhatWorkersSee:
    def test_nothing_is_said_where_all_is_well(self, tmp_path: Path, local: Executor) -> None:
        path = tmp_path / "recording.bin"
        path.write_bytes(b"1234")
        local.check_sees([str(path)], tmp_path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["recording.bin"]

    def test_host_and_path_of_what_is_missing_are_named(
        self, tmp_path: Path, local: Executor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As the client sees it, the file is there and has 5 bytes."""
        path = tmp_path / "recording.bin"
        path.write_bytes(b"1234")
        monkeypatch.setattr(visible, "_size", lambda path: 5)
        with pytest.raises(InputError) as caught:
            local.check_sees([str(path), str(tmp_path / "gone.bin")], tmp_path)
        host = socket.gethostname()
        assert f"host {host}: {path} is another file (4 bytes, not 5)" in str(caught.value)
        assert f"host {host}: {tmp_path / 'gone.bin'} is not there" in str(caught.value)

    def test_threads_are_not_asked(self, tmp_path: Path) -> None:
        Executor("threads").check_sees([str(tmp_path / "gone")], tmp_path)


class TestSameResults:
    def test_store_is_the_same_bytes(self, tmp_path: Path, executor: Executor) -> None:
        _keep(tmp_path / "sync", Executor("sync"))
        _keep(tmp_path / "other", executor)
        assert _bytes(tmp_path / "other") == _bytes(tmp_path / "sync")

    def test_input_that_lies_on_the_cluster(self, tmp_path: Path, local: Executor) -> None:
        assert local.client is not None
        _keep(tmp_path / "sync", Executor("sync"))
        _keep(tmp_path / "other", local, local.client.persist(_input()))
        assert _bytes(tmp_path / "other") == _bytes(tmp_path / "sync")

    def test_store_resumes_on_a_cluster(self, tmp_path: Path, local: Executor) -> None:
        _keep(tmp_path / "out", Executor("sync"))
        computed = _keep(tmp_path / "out", local)
        assert computed == {"preprocess": 0, "detect": 0}

    def test_a_worker_that_dies_costs_nothing_but_time(self, tmp_path: Path) -> None:
        with Executor("local", 2).open() as executor:
            _keep(tmp_path / "other", executor, die_once=tmp_path / "died")
        assert (tmp_path / "died").exists()
        _keep(tmp_path / "sync", Executor("sync"))
        assert _bytes(tmp_path / "other") == _bytes(tmp_path / "sync")


def _input() -> da.Array:
    values = np.random.default_rng(0).normal(size=(2050, 4)).astype(np.float32)
    return da.from_array(values, chunks=(300, 4))


def _project(traces: np.ndarray, index: int, die_once: Path | None) -> dict[str, np.ndarray]:
    if die_once is not None and index == 3 and not die_once.exists():
        die_once.touch()
        os.kill(os.getpid(), 9)
    rows = np.nonzero(traces[:, 0] > 1)[0]
    return {"sample_index": rows + 300 * index, "feature": traces[rows] @ traces[:4]}


def _keep(folder: Path, executor: Executor, source: Any = None, die_once: Path | None = None) -> dict[str, int]:
    store = Store(folder)
    scaled = (_input() if source is None else source) * np.float32(3)
    chunks = scaled.to_delayed()[:, 0]
    project = delayed(_project, pure=False)
    parts = {f"{i:03d}": project(chunk, i, die_once) for i, chunk in enumerate(chunks)}
    with store.lock():
        keep = store.run(FakeRecording(), backend="numpy", seed=0, executor=executor)  # type: ignore[arg-type]
        keep("preprocess", LazyTraces(scaled, None, 1, lambda handle: handle))
        keep("detect", LazyParts(parts, None, 1, lambda handle: handle))
    return keep.computed


def _bytes(folder: Path) -> dict[str, bytes]:
    root = folder / "yass.zarr"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


class TestChoice:
    def test_bad_names_and_numbers(self) -> None:
        with pytest.raises(InputError, match="'processes'; allowed are threads, sync, local"):
            Executor("processes")
        with pytest.raises(InputError, match="workers is 0"):
            Executor("threads", 0)

    def test_scheduler_that_does_not_answer(self) -> None:
        import dask

        with (
            dask.config.set({"distributed.comm.timeouts.connect": "200ms"}),
            pytest.raises(InputError, match=r"tcp://127\.0\.0\.1:9 cannot be reached"),
            Executor("tcp://127.0.0.1:9").open(),
        ):
            pytest.fail("port 9 answered")

    def test_scheduler_by_address(self, tmp_path: Path, local: Executor) -> None:
        assert local.client is not None
        address = local.client.scheduler_info()["address"]
        Executor(address).run(_touch_tasks(tmp_path, 3), lambda name: None)
        assert len(list(tmp_path.iterdir())) == 3

    def test_client_then_current_client_then_threads(self, local: Executor) -> None:
        assert choose() == Executor("threads", available_cores())
        assert choose(local.client).client is local.client
        assert local.client is not None
        with local.client.as_current():
            assert choose().client is local.client

    def test_a_sort_in_threads_never_imports_distributed(self) -> None:
        program = (
            "import sys; from yass_dask.runtime import Executor, choose; from dask.delayed import delayed\n"
            "choose().run({'a': delayed(int)()}, print); Executor('sync').run({'a': delayed(int)()}, print)\n"
            "import yass_dask.store\n"
            "assert not {'distributed', 'zarr', 'numcodecs', 'scipy', 'numba'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)

    def test_workers_are_given_their_share_of_memory(self) -> None:
        limit = PROCESS_BYTES + 2 * 700 * MB
        with Executor("local", 2, memory_limit=limit).open() as executor:
            assert executor.client is not None
            assert isinstance(executor.client, distributed.Client)
            workers = executor.client.scheduler_info()["workers"].values()
            assert [worker["memory_limit"] for worker in workers] == [700 * MB] * 2

    @pytest.mark.parametrize("profile", [None, Path("profile")], ids=["quiet", "profiled"])
    def test_workers_are_sampled_only_for_a_profile(self, profile: Path | None) -> None:
        with Executor("local", 1, profile=profile).open() as executor:
            assert executor.client is not None
            (settings,) = executor.client.run(_settings).values()
        assert settings == {**WORKER_SETTINGS, PROFILED: profile is not None}


PROFILED = "distributed.worker.profile.enabled"


def _settings() -> dict[str, Any]:
    return {name: dask.config.get(name) for name in (*WORKER_SETTINGS, PROFILED)}


class TestProfile:
    def test_a_report_of_every_stage(self, tmp_path: Path) -> None:
        """What it was, how many tasks, and where the time went: into the one function that ran."""
        tasks = {str(i): delayed(_spin)(0.2) for i in range(3)}
        Executor("threads", 2, profile=tmp_path / "profile").run(tasks, lambda name: None, label="spin")
        facts = json.loads((tmp_path / "profile" / "spin.json").read_text())
        assert facts["stage"] == "spin"
        assert facts["tasks"] == 3
        assert facts["graph_bytes"] > 100
        assert facts["seconds"] >= 0.2
        assert abs(sum(facts["shares"].values()) - 1) < 0.01
        lines = (tmp_path / "profile" / "spin.txt").read_text().splitlines()
        table = lines[lines.index("  self  total  function") + 1 :]
        assert any(line.endswith("_spin") for line in table[:3])

    def test_a_failed_stage_leaves_none(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError):
            Executor("sync", profile=tmp_path).run({"a": delayed(divmod)(1, 0)}, lambda name: None, label="fails")
        assert list(tmp_path.iterdir()) == []

    def test_dasks_own_report_of_a_cluster(self, tmp_path: Path, local: Executor) -> None:
        profiled = replace(local, profile=tmp_path / "profile")
        profiled.run(_touch_tasks(tmp_path, 2), lambda name: None, label="touch")
        assert "<html" in (tmp_path / "profile" / "touch.html").read_text(encoding="utf-8")[:200]


def _spin(seconds: float) -> int:
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        count += 1
    return count


TETRODE = FakeRecording(n_samples=3600 * 20_000, n_channels=4, block_samples=20_000, duration_s=3600.0)
NEUROPIXELS = FakeRecording(n_samples=3600 * 30_000, n_channels=384, block_samples=10_416, duration_s=3600.0)
CHANNEL = FakeRecording(n_samples=30_000, n_channels=1, block_samples=30_000, duration_s=1.0)


class TestPlan:
    @pytest.mark.parametrize("recording", [TETRODE, NEUROPIXELS, CHANNEL])
    def test_the_documented_configuration_runs(self, recording: FakeRecording) -> None:
        found = plan(recording, 200 * MB, None, 8)  # type: ignore[arg-type]
        assert found.n_workers == 8
        assert 1 <= found.chunk_blocks <= MOST_BLOCKS
        assert found.bytes_per_task <= 200 * MB

    def test_numbers(self) -> None:
        values = 20_000 * 4
        found = plan(TETRODE, 200 * MB, None, 2)  # type: ignore[arg-type]
        assert found.chunk_blocks == MOST_BLOCKS
        assert found.bytes_per_task == values * MOST_BLOCKS * 6  # reading takes most
        assert found.peak_bytes == PROCESS_BYTES + 2 * found.bytes_per_task
        processes = plan(TETRODE, 200 * MB, None, 2, processes=True)  # type: ignore[arg-type]
        assert processes.peak_bytes == 3 * PROCESS_BYTES + 2 * found.bytes_per_task

    def test_every_worker_gets_chunks(self) -> None:
        for n_blocks, chunk_blocks in [(8, 1), (64, 4)]:
            short = FakeRecording(n_samples=n_blocks * 100)
            assert plan(short, None, None, 4).chunk_blocks == chunk_blocks  # type: ignore[arg-type]
        assert plan(CHANNEL, None, None, 4).chunk_blocks == 1  # type: ignore[arg-type]

    @pytest.mark.parametrize("processes", [False, True])
    @pytest.mark.parametrize("limit", [1000 * MB, 1200 * MB, 1500 * MB, 3000 * MB, 8000 * MB])
    def test_memory_limit_holds(self, limit: int, processes: bool) -> None:
        found = plan(NEUROPIXELS, 1000 * MB, limit, 8, processes=processes)  # type: ignore[arg-type]
        assert found.peak_bytes <= limit
        shortest = task_bytes(NEUROPIXELS, 1)  # type: ignore[arg-type]
        assert found.n_workers == 8 or tree_bytes(shortest, found.n_workers + 1, processes) > limit

    def test_too_little_is_refused_with_the_number_that_would_do(self) -> None:
        with pytest.raises(InputError, match=r"max_memory is 50MB, but one block .* 384 channels takes (\d+)MB"):
            plan(NEUROPIXELS, 50 * MB, None, 1)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="memory_limit is 300MB") as caught:
            plan(NEUROPIXELS, 200 * MB, 300 * MB, 4)  # type: ignore[arg-type]
        enough = int(str(caught.value).split("at least ")[1].split("MB")[0])
        assert plan(NEUROPIXELS, 200 * MB, enough * MB, 4).n_workers == 1  # type: ignore[arg-type]
        with pytest.raises(InputError):
            plan(NEUROPIXELS, 200 * MB, (enough - 1) * MB, 4)  # type: ignore[arg-type]
