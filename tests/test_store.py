"""The store: recipes, resume after every kind of interruption, and whose folder it is."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from dask.base import tokenize
from dask.delayed import delayed
from hypothesis import given
from hypothesis import strategies as st

from yass_dask.chunked import LazyParts, LazyTraces
from yass_dask.errors import InputError
from yass_dask.runtime import Executor
from yass_dask.store import Store, Table, disk, recipe, zarrays
from yass_dask.store.stage import Stage

BLOCK, N_SAMPLES, N_CHANNELS = 100, 1050, 3


@dataclass(frozen=True)
class FakeRecording:
    name: str = "a"
    bad_channels: tuple[int, ...] = ()
    n_samples: int = N_SAMPLES
    n_channels: int = N_CHANNELS
    block_samples: int = BLOCK
    duration_s: float = 10.5
    chunks: tuple[Any, ...] = ()

    def identity(self) -> dict[str, Any]:
        return {"source": {"file": self.name}, "bad_channels": self.bad_channels}


@dataclass
class Work:
    """Two stages whose tasks count themselves, and fail where told to."""

    counts: Counter[str] = field(default_factory=Counter)
    fail_at: str = ""
    chunk_rows: int = 300

    def _count(self, name: str) -> None:
        if name == self.fail_at:
            raise ArithmeticError(f"no luck with {name}")
        self.counts[name] += 1

    def _chunk(self, start: int, stop: int) -> np.ndarray:
        self._count(f"traces-{start}")
        rows = np.arange(start * N_CHANNELS, stop * N_CHANNELS).reshape(-1, N_CHANNELS)
        return np.where(rows < 900, 0, rows % 251).astype(np.int16)  # the first blocks hold only zeros

    def traces(self, gain: float = 1.0) -> LazyTraces:
        edges = [*range(0, N_SAMPLES, self.chunk_rows), N_SAMPLES]
        pieces = [
            da.from_delayed(delayed(self._chunk, pure=False)(a, b), (b - a, N_CHANNELS), dtype=np.int16)
            for a, b in itertools.pairwise(edges)
        ]
        return LazyTraces(da.concatenate(pieces), {"gain": gain}, 1, lambda source: source)

    def _part(self, index: int) -> dict[str, np.ndarray]:
        self._count(f"part-{index}")
        return {
            "sample_index": np.arange(index, dtype=np.int64) + 10 * index,
            "amplitude": np.full((index, 2), index, np.float32),
        }

    def events(self, n: int = 5, **params: Any) -> LazyParts:
        parts = {f"part/{i}": delayed(self._part, pure=False)(i) for i in range(n)}
        return LazyParts(parts, params or {"threshold_sd": 5.0}, 1, lambda table: table)


def sort(folder: Path, work: Work, threshold_sd: float = 5.0, **options: Any) -> tuple[Any, Any, Store]:
    """Keep two stages and one that depends on nothing but comes after them."""
    store = Store(folder)
    recording = options.pop("recording", FakeRecording())
    settings = {"backend": "numpy", "seed": 0, "executor": Executor("sync"), **options}
    with store.lock():
        keep = store.run(recording, **settings)
        traces = keep("preprocess", work.traces())
        table = keep("detect", work.events(threshold_sd=threshold_sd))
        keep("nothing", LazyParts({}, None, 1, lambda handle: handle))
    return traces, table, store


def tree(folder: Path) -> dict[str, str]:
    """Hash of every file under a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The zarr group that an uninterrupted sort leaves."""
    folder = tmp_path_factory.mktemp("reference") / "out"
    sort(folder, Work())
    return tree(folder / "yass.zarr")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "yass_dask"):
        yield caplog


class TestResults:
    def test_traces_and_table_hold_what_was_computed(self, tmp_path: Path) -> None:
        work = Work()
        traces, table, _ = sort(tmp_path / "out", work)
        expected = work._chunk(0, N_SAMPLES)
        assert np.array_equal(traces.read(0, N_SAMPLES), expected)
        assert list(table) == ["amplitude", "sample_index"]
        assert table.load("sample_index").tolist() == [10, 20, 21, 30, 31, 32, 40, 41, 42, 43]
        assert table.load("amplitude").dtype == np.float32
        assert table["amplitude"].shape == (10, 2)
        with pytest.raises(KeyError):
            table["channel_index"]

    def test_disk_is_zarr_format_2_with_nothing_else_in_it(self, tmp_path: Path) -> None:
        sort(tmp_path / "out", Work())
        root = tmp_path / "out" / "yass.zarr"
        names = {path.name for path in root.rglob("*") if path.is_file()}
        assert names - {".zgroup", ".zattrs", ".zarray", ".crc32"} == {f"{i}.0" for i in range(11)} | {"0"}
        description = json.loads((root / "preprocess/traces/.zarray").read_text())
        assert description["zarr_format"] == 2
        assert description["chunks"] == [BLOCK, N_CHANNELS]
        assert description["compressor"] == {
            "id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 2, "blocksize": 0
        }  # fmt: skip

    def test_plain_zarr_opens_all_of_it(self, tmp_path: Path) -> None:
        sort(tmp_path / "out", Work())
        group = zarr.open(str(tmp_path / "out/yass.zarr"), mode="r")
        assert sorted(name for name, _ in group.groups()) == ["detect", "nothing", "preprocess"]
        assert np.array_equal(group["preprocess/traces"][:], Work()._chunk(0, N_SAMPLES))
        assert group["detect"].attrs["recipe"]["params"] == {"threshold_sd": 5.0}

    @pytest.mark.parametrize("dtype", ["i2", ">f8", "?", "u1", "<U5", "f4", "c8"])
    @pytest.mark.parametrize("shape", [(0,), (7,), (0, 2), (5, 0), (4, 3, 2)])
    def test_any_field_comes_back(self, tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
        values = (np.arange(np.prod(shape)) % 3).reshape(shape).astype(dtype)
        table = _keep_parts(tmp_path / "out", {"a": {"x": values}, "b": {"x": values}})
        back = table.load("x")
        assert back.dtype == np.dtype(dtype)
        assert np.array_equal(back, np.concatenate([values, values]))

    def test_parts_without_rows_need_not_fit(self, tmp_path: Path) -> None:
        some = np.ones((2, 4), np.int16)
        table = _keep_parts(tmp_path / "out", {"a": {"x": np.zeros(0)}, "b": {"x": some}, "c": {}})
        assert np.array_equal(table.load("x"), some)

    @pytest.mark.parametrize(
        ("second", "complaint"),
        [
            ({"x": np.ones(2, np.int32)}, "part b has rows of .* int32"),
            ({"x": np.ones((2, 1))}, "part b has rows of"),
            ({"y": np.ones(2)}, "no field"),
            ({"x": np.array([None])}, "allow_pickle"),
            ({"x": np.float64(1)}, "at least one axis"),
            ({"../x": np.ones(2)}, "plain name"),
        ],
    )
    def test_parts_that_do_not_fit_are_refused(self, tmp_path: Path, second: Any, complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            _keep_parts(tmp_path / "out", {"a": {"x": np.ones(2)}, "b": second})

    def test_traces_in_broken_blocks_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="whole blocks"):
            sort(tmp_path / "out", Work(chunk_rows=250))

    def test_stage_of_traces_checks_what_tasks_give(self, tmp_path: Path) -> None:
        wrong = da.from_delayed(delayed(np.zeros)((N_SAMPLES, 3)), (N_SAMPLES, 3), dtype=np.int16)
        store = Store(tmp_path / "out")
        with store.lock(), pytest.raises(ValueError, match="holds <i2"):
            keep = store.run(FakeRecording(), backend="numpy", seed=0, executor=Executor("sync"))
            keep("preprocess", LazyTraces(wrong, None, 1, lambda source: source))

    def test_handles_are_small_picklable_and_know_their_recipe(self, tmp_path: Path) -> None:
        _, first, _ = sort(tmp_path / "out", Work())
        back = pickle.loads(pickle.dumps(first))
        assert len(pickle.dumps(first)) < 500
        assert np.array_equal(back.load("amplitude"), first.load("amplitude"))
        _, second, _ = sort(tmp_path / "out", Work(), threshold_sd=4.5)
        assert tokenize(first) == tokenize(back)
        assert tokenize(first) != tokenize(second)

    def test_store_opens_stages_by_name(self, tmp_path: Path) -> None:
        traces, table, store = sort(tmp_path / "out", Work())
        assert store.open("preprocess").shape == traces.shape
        assert store.open("detect") == table
        with pytest.raises(InputError, match=r"no complete stage 'cluster' \(complete: preprocess, detect"):
            store.open("cluster")

    def test_timings_of_every_stage(self, tmp_path: Path) -> None:
        *_, store = sort(tmp_path / "out", Work())
        assert list(store.timings()) == store.stages() == ["preprocess", "detect", "nothing"]
        assert store.timings()["detect"]["parts"] == 5
        assert all(entry["seconds"] > 0 and entry["peak_bytes"] > 0 for entry in store.timings().values())

    def test_a_stage_name_is_used_once(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "out")
        with store.lock():
            keep = store.run(FakeRecording(), backend="numpy", seed=0, executor=Executor("sync"))
            keep("detect", Work().events())
            for name in ("detect", "../detect", ""):
                with pytest.raises(ValueError, match="plain name"):
                    keep(name, Work().events())


def _keep_parts(folder: Path, parts: dict[str, Any]) -> Table:
    store = Store(folder)
    with store.lock():
        keep = store.run(FakeRecording(), backend="numpy", seed=0, executor=Executor("sync"))
        lazy = {name: delayed(arrays, traverse=False) for name, arrays in parts.items()}
        table: Table = keep("stage", LazyParts(lazy, None, 1, lambda handle: handle))
    return table


class TestArrays:
    @given(
        lengths=st.lists(st.integers(0, 12), max_size=12),
        width=st.integers(1, 3),
        chunk_rows=st.integers(1, 9),
    )
    def test_rows_written_in_any_pieces_are_the_rows(
        self, tmp_path_factory: pytest.TempPathFactory, lengths: list[int], width: int, chunk_rows: int
    ) -> None:
        folder = tmp_path_factory.mktemp("array")
        pieces = [np.full((n, width), i, np.int16) for i, n in enumerate(lengths)]
        layout = zarrays.Layout((sum(lengths), width), chunk_rows, "<i2")
        zarrays.put_rows(folder / "x", layout, pieces, folder)
        expected = np.concatenate([np.zeros((0, width), np.int16), *pieces])
        assert np.array_equal(zarrays.open_array(folder / "x")[:], expected)

    def test_same_rows_are_the_same_bytes(self, tmp_path: Path) -> None:
        rows = np.arange(400_000).reshape(-1, 2)
        layout = zarrays.Layout(rows.shape, len(rows), "<i8")
        zarrays.make_array(tmp_path / "x", layout)
        assert len({zarrays.put_chunk(tmp_path / "x", layout, 0, rows, tmp_path) for _ in range(50)}) == 1


class TestRecipes:
    def test_second_run_computes_nothing(self, tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
        sort(tmp_path / "out", Work())
        before = tree(tmp_path / "out")
        log.clear()
        again = Work()
        sort(tmp_path / "out", again)
        assert not again.counts
        assert "preprocess: 4 of 4 chunks found" in log.messages
        before.pop("yass.lock")
        assert before.items() <= tree(tmp_path / "out").items()

    def test_changed_param_computes_from_that_stage_on(self, tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
        sort(tmp_path / "out", Work())
        again = Work()
        sort(tmp_path / "out", again, threshold_sd=4.5)
        assert again.counts == Counter({f"part-{i}": 1 for i in range(5)})
        assert "detect: params changed: threshold_sd 5 -> 4.5; computing from here" in log.messages
        assert "nothing: its input changed; computing from here" in log.messages

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"seed": 1}, "preprocess: seed changed: 0 -> 1; computing from here"),
            ({"backend": "numba"}, "preprocess: backend changed: numpy -> numba; computing from here"),
            (
                {"recording": FakeRecording(bad_channels=(1,))},
                "preprocess: its input changed; computing from here",
            ),
        ],
    )
    def test_anything_else_computes_everything(
        self, tmp_path: Path, log: pytest.LogCaptureFixture, change: dict[str, Any], message: str
    ) -> None:
        sort(tmp_path / "out", Work())
        again = Work()
        sort(tmp_path / "out", again, **change)
        assert len(again.counts) == 9
        assert message in log.messages

    def test_half_done_work_of_another_recipe_is_not_used(self, tmp_path: Path) -> None:
        with pytest.raises(ArithmeticError):
            sort(tmp_path / "out", Work(fail_at="part-3"))
        again = Work()
        sort(tmp_path / "out", again, threshold_sd=4.5)
        assert sorted(again.counts) == [f"part-{i}" for i in range(5)]

    def test_a_task_of_a_dead_client_cannot_write_into_the_next_sort(self, tmp_path: Path) -> None:
        from yass_dask.store.parts import write_part

        sort(tmp_path / "out", Work())
        stale = Stage(tmp_path / "out/yass.zarr/detect", "0" * 64)
        with pytest.raises(RuntimeError, match="started again"):
            write_part({"x": np.ones(1)}, stale, "a")

    def test_changes_in_words(self) -> None:
        assert recipe.differences({"a": {"b": 1.0}, "c": 2}, {"a": {"b": 1.5}, "d": None}) == [
            "a.b 1 -> 1.5",
            "c 2 -> (none)",
            "d (none) -> None",
        ]

    def test_order_of_keys_is_no_difference(self) -> None:
        assert recipe.hash_of({"a": 1, "b": np.float64(2)}) == recipe.hash_of({"b": 2.0, "a": np.int64(1)})
        with pytest.raises(TypeError):
            recipe.hash_of({"a": object()})


class TestResume:
    def test_goes_on_after_an_exception(self, tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
        with pytest.raises(ArithmeticError, match="no luck with traces-600"):
            sort(tmp_path / "out", Work(fail_at="traces-600"))
        second = Work(fail_at="part-3")
        with pytest.raises(ArithmeticError):
            sort(tmp_path / "out", second)
        assert sorted(second.counts) == ["part-0", "part-1", "part-2", "traces-600", "traces-900"]
        third = Work()
        sort(tmp_path / "out", third)
        assert sorted(third.counts) == ["part-3", "part-4"]
        assert "preprocess: 2 of 4 chunks found" in log.messages
        assert "detect: 3 of 5 chunks found" in log.messages

    def test_other_chunk_length_uses_finished_blocks(self, tmp_path: Path, reference: dict[str, str]) -> None:
        with pytest.raises(ArithmeticError):
            sort(tmp_path / "out", Work(fail_at="traces-600"))
        again = Work(chunk_rows=200)
        sort(tmp_path / "out", again)
        assert sorted(name for name in again.counts if "traces" in name) == [
            "traces-1000",
            "traces-600",
            "traces-800",
        ]
        assert tree(tmp_path / "out/yass.zarr") == reference

    @pytest.mark.parametrize("damage", ["flip", "cut", "empty", "delete"])
    def test_damaged_part_is_computed_again(self, tmp_path: Path, reference: dict[str, str], damage: str) -> None:
        with pytest.raises(ArithmeticError):
            sort(tmp_path / "out", Work(fail_at="part-4"))
        _damage(next((tmp_path / "out/yass.zarr/detect/.unfinished").glob("*2.npz")), damage)
        again = Work()
        sort(tmp_path / "out", again)
        assert sorted(again.counts) == ["part-2", "part-4"]
        assert tree(tmp_path / "out/yass.zarr") == reference

    @pytest.mark.parametrize("damage", ["flip", "cut", "empty", "delete"])
    @pytest.mark.parametrize("file", ["traces/10.0", ".unfinished/00000009-00000011.json"])
    def test_damaged_chunk_is_computed_again(
        self, tmp_path: Path, reference: dict[str, str], file: str, damage: str
    ) -> None:
        with pytest.raises(ArithmeticError):
            _run_backwards(tmp_path / "out", fail_at="traces-0")
        _damage(tmp_path / "out/yass.zarr/preprocess" / file, damage)
        again = Work()
        sort(tmp_path / "out", again)
        assert sorted(name for name in again.counts if "traces" in name) == ["traces-0", "traces-900"]
        assert tree(tmp_path / "out/yass.zarr") == reference

    @pytest.mark.parametrize("file", ["preprocess/traces/0.0", "detect/amplitude/.zarray"])
    def test_a_file_lost_from_a_complete_stage_is_noticed(
        self, tmp_path: Path, reference: dict[str, str], log: pytest.LogCaptureFixture, file: str
    ) -> None:
        sort(tmp_path / "out", Work())
        (tmp_path / "out/yass.zarr" / file).unlink()
        again = Work()
        sort(tmp_path / "out", again)
        assert len(again.counts) == (1 if "traces" in file else 0), "the mark restores what describes an array"
        assert "missing or damaged" in log.text
        assert tree(tmp_path / "out/yass.zarr") == reference

    def test_stopped_before_any_step_on_the_disk(
        self, tmp_path: Path, reference: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A first sort, or one over another recipe: wherever it stops, the next ends with the same bytes."""
        steps = 0
        for first_threshold in (5.0, 4.5):
            stopped = True
            step = 0
            while stopped:
                step += 1
                folder = tmp_path / f"{first_threshold}-{step}"
                if first_threshold != 5.0:
                    sort(folder, Work(), threshold_sd=first_threshold)
                with monkeypatch.context() as patch:
                    stopped = _stopped_at(step, patch, folder)
                sort(folder, Work())
                assert tree(folder / "yass.zarr") == reference
                shutil.rmtree(folder)
            steps += step
        assert steps > 60


class _Stop(BaseException):
    """What a kill is within one process: nothing catches it."""


def _stopped_at(step: int, patch: pytest.MonkeyPatch, folder: Path) -> bool:
    """Sort until the step-th call that changes the disk; whether there were that many."""
    calls = 0

    def counted(function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == step:
                raise _Stop
            return function(*args, **options)

        return call

    for place, name in ((os, "replace"), (os, "mkdir"), (os, "unlink"), (os, "rmdir")):
        patch.setattr(place, name, counted(getattr(place, name)))
    try:
        sort(folder, Work())
    except _Stop:
        return True
    return False


def _run_backwards(folder: Path, fail_at: str) -> None:
    """Compute the chunks of the first stage last first, so that a failure leaves the last ones."""

    class Backwards(Executor):
        def run(self, tasks: Any, on_done: Any, **told: Any) -> None:
            super().run(dict(reversed(tasks.items())), on_done, **told)

    sort(folder, Work(fail_at=fail_at), executor=Backwards("sync"))


def _damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
        return
    if how == "flip":
        data[len(data) // 2] ^= 0xFF
    path.write_bytes(data if how == "flip" else data[: -len(data) // 2] if how == "cut" else b"")


SCRIPT = """
import sys, time, uuid
from pathlib import Path
import dask.array as da, numpy as np
from dask.delayed import delayed
from yass_dask.chunked import LazyParts, LazyTraces
from yass_dask.runtime import Executor
from yass_dask.store import Store

out, counts = Path(sys.argv[1]), Path(sys.argv[2])

class Recording:
    n_samples, n_channels, block_samples, duration_s = 1050, 3, 100, 10.5
    def identity(self):
        return {"source": "slow"}

def count(name):
    (counts / f"{name}.{uuid.uuid4().hex}").touch()
    time.sleep(0.05)

def chunk(start, stop):
    count(f"traces-{start // 100:08d}-{-(-stop // 100):08d}")
    return np.arange(start * 3, stop * 3, dtype="i4").reshape(-1, 3)

def part(index):
    count(f"part-{index}")
    return {"x": np.arange(1000 * index), "y": np.ones((index, 2), "f4")}

edges = [*range(0, 1050, 100), 1050]
pieces = [
    da.from_delayed(delayed(chunk, pure=False)(a, b), (b - a, 3), dtype="i4")
    for a, b in zip(edges, edges[1:])
]
parts = {f"part-{i}": delayed(part, pure=False)(i) for i in range(12)}
store = Store(out)
with store.lock():
    keep = store.run(Recording(), backend="numpy", seed=0, executor=Executor("threads", 2))
    keep("preprocess", LazyTraces(da.concatenate(pieces), None, 1, lambda x: x))
    keep("detect", LazyParts(parts, None, 1, lambda table: table))
"""


@pytest.mark.kill
class TestKill:
    def test_killed_again_and_again_ends_with_the_same_bytes(self, tmp_path: Path) -> None:
        script = tmp_path / "sort.py"
        script.write_text(SCRIPT)
        whole = _Process(script, tmp_path / "whole")
        assert whole.process.wait() == 0
        finished: set[str] = set()
        for n_begun in (1, 5, 11, 14, 20):
            run = _Process(script, tmp_path / "killed")
            run.kill_when(n_begun)
            assert not finished & (run.begun() - run.begun_before)
            finished |= run.finished()
        last = _Process(script, tmp_path / "killed")
        assert last.process.wait() == 0
        assert len(finished) >= 10
        assert not finished & (last.begun() - last.begun_before)
        assert tree(tmp_path / "killed/out/yass.zarr") == tree(tmp_path / "whole/out/yass.zarr")


class _Process:
    """A sort in a process of its own, whose tasks leave a file each as they begin."""

    def __init__(self, script: Path, folder: Path) -> None:
        self.counts, self.out = folder / "counts", folder / "out"
        self.counts.mkdir(parents=True, exist_ok=True)
        self._old = set(os.listdir(self.counts))
        self.begun_before: set[str] = set()
        command = [sys.executable, str(script), str(self.out), str(self.counts)]
        self.process = subprocess.Popen(command)

    def kill_when(self, n_begun: int) -> None:
        """SIGKILL as soon as so many tasks in all have begun; a sort that ends before is a failure."""
        while len({name.split(".")[0] for name in os.listdir(self.counts)}) < n_begun:
            assert self.process.poll() is None, "ended before it could be killed"
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def begun(self) -> set[str]:
        """Names of the tasks that this process began."""
        return {name.split(".")[0] for name in set(os.listdir(self.counts)) - self._old}

    def finished(self) -> set[str]:
        """Names of the tasks whose marks or part files are there."""
        root = self.out / "yass.zarr"
        chunks = {f"traces-{path.stem}" for path in root.glob("preprocess/.unfinished/*.json")}
        if Stage(root / "preprocess", "").is_complete():
            chunks = {name for name in self._all_begun() if name.startswith("traces")}
        return chunks | {path.stem for path in root.glob("detect/.unfinished/*.npz")}

    def _all_begun(self) -> set[str]:
        return {name.split(".")[0] for name in os.listdir(self.counts)}


class TestFolder:
    def test_two_sorts_into_one_folder(self, tmp_path: Path) -> None:
        with (
            Store(tmp_path / "out").lock(),
            pytest.raises(InputError, match=f"Another sort is writing to .*out .process {os.getpid()} on"),
            Store(tmp_path / "out").lock(),
        ):
            pytest.fail("both hold the lock")

    def test_lock_is_free_again_afterwards_and_nests(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "out")
        with store.lock(), store.lock():
            pass
        with Store(tmp_path / "out").lock():
            pass

    def test_run_needs_the_lock(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "out")
        with pytest.raises(RuntimeError, match="lock"):
            store.run(FakeRecording(), backend="numpy", seed=0, executor=Executor("sync"))  # type: ignore[arg-type]

    def test_foreign_folder_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(InputError, match=r"not empty and was not made by yass \(it holds 'thesis.txt'\)"):
            sort(tmp_path, Work())
        with pytest.raises(InputError, match="--clean does not touch it"):
            Store(tmp_path).clean()
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    def test_empty_folder_is_taken(self, tmp_path: Path) -> None:
        sort(tmp_path, Work())
        assert (tmp_path / "yass.json").exists()

    def test_folder_with_only_a_dead_process_temporary_file_is_taken(self, tmp_path: Path) -> None:
        (tmp_path / ".0123.tmp").touch()
        sort(tmp_path, Work())
        assert not (tmp_path / ".0123.tmp").exists()

    def test_a_stage_ends_while_a_dead_clients_tasks_write_into_its_scratch(self, tmp_path: Path) -> None:
        stage, over = Stage(tmp_path / "out" / "yass.zarr" / "detect", "recipe"), threading.Event()
        stage.path.mkdir(parents=True)

        def write() -> None:
            while not over.is_set():
                with contextlib.suppress(FileNotFoundError):
                    (stage.scratch / f"{uuid.uuid4().hex}.npz").touch()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(200):
                stage.scratch.mkdir(exist_ok=True)
                stage.tidy()
                assert not stage.scratch.exists()
        finally:
            over.set()
            writer.join()

    def test_what_such_tasks_left_behind_is_swept(self, tmp_path: Path) -> None:
        sort(tmp_path, Work())
        left = tmp_path / "yass.zarr" / ".0123.tmp"
        left.mkdir()
        (left / "00000000-00000003.npz").touch()
        sort(tmp_path, Work())
        assert not left.exists()

    def test_clean_deletes_only_what_a_sort_writes(self, tmp_path: Path) -> None:
        sort(tmp_path / "out", Work())
        (tmp_path / "out/units.csv").touch()
        (tmp_path / "out/phy").mkdir()
        (tmp_path / "out/notes.txt").touch()
        Store(tmp_path / "out").clean()
        left = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert left == ["notes.txt", "yass.json", "yass.lock"]
        sort(tmp_path / "out", Work(), recording=FakeRecording("b"))

    def test_clean_of_nothing(self, tmp_path: Path) -> None:
        Store(tmp_path / "out").clean()
        assert not (tmp_path / "out").exists()

    def test_clean_waits_for_nobody(self, tmp_path: Path) -> None:
        sort(tmp_path / "out", Work())
        with Store(tmp_path / "out").lock(), pytest.raises(InputError, match="Another sort"):
            Store(tmp_path / "out").clean()
        assert (tmp_path / "out/yass.zarr/detect").exists()

    def test_folder_of_another_recording(self, tmp_path: Path) -> None:
        sort(tmp_path / "out", Work())
        with pytest.raises(InputError, match=r"result of another recording \(file a -> b\)"):
            sort(tmp_path / "out", Work(), recording=FakeRecording("b"))

    def test_if_exists(self, tmp_path: Path) -> None:
        sort(tmp_path / "out", Work())
        settings: dict[str, Any] = {"backend": "numpy", "seed": 0, "executor": Executor("sync")}
        abort = Store(tmp_path / "out", if_exists="abort")
        with abort.lock(), pytest.raises(InputError, match="abort"):
            abort.run(FakeRecording(), **settings)  # type: ignore[arg-type]
        overwrite = Store(tmp_path / "out", if_exists="overwrite")
        with overwrite.lock():
            overwrite.run(FakeRecording("b"), **settings)  # type: ignore[arg-type]
        assert overwrite.stages() == []
        with pytest.raises(InputError, match="allowed are skip, overwrite, abort"):
            Store(tmp_path / "out", if_exists="never")  # type: ignore[arg-type]

    def test_space(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        *_, store = sort(tmp_path / "out", Work())
        stored = store.zarr_path / "preprocess" / "traces"
        sizes = {path: path.stat().st_size for path in store.zarr_path.rglob("*") if path.is_file()}
        compressed = sum(size for path, size in sizes.items() if stored in path.parents)
        saved = max(0, zarr.open(str(stored), mode="r").nbytes - compressed)
        written = sum(sizes.values()) + saved  # complete traces need no more disk, however small they became
        free = 10**9
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, free))
        assert store.check_space(free + written) == free
        with pytest.raises(InputError, match=r"about 954 MB .*, but 954 MB are free"):
            store.check_space(free + written + 1)
        assert Store(tmp_path / "no/such/folder").check_space(free) == free


class TestDeletedTraces:
    def test_stage_stays_complete_until_somebody_reads(self, tmp_path: Path) -> None:
        *_, store = sort(tmp_path / "out", Work())
        with store.lock():
            store.drop_traces()
        assert not (tmp_path / "out/yass.zarr/preprocess/traces").exists()
        again = Work()
        traces, table, _ = sort(tmp_path / "out", again)
        assert not again.counts
        assert traces.shape == (N_SAMPLES, N_CHANNELS)
        assert traces.dtype == np.int16
        assert table.load("sample_index").size == 10
        with pytest.raises(InputError, match="were deleted after an earlier sort"):
            pickle.loads(pickle.dumps(traces)).read(0, 10)
        with pytest.raises(InputError, match="were deleted"):
            store.open("preprocess")

    def test_changed_recipe_computes_them_again(self, tmp_path: Path) -> None:
        *_, store = sort(tmp_path / "out", Work())
        store.drop_traces()
        traces, *_ = sort(tmp_path / "out", Work(), seed=1)
        assert traces.read(0, 10).shape == (10, N_CHANNELS)


class TestDiskFaults:
    def test_full_disk_is_told_and_nothing_half_written_is_believed(
        self, tmp_path: Path, reference: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Let the disk fill up after every so many bytes; each time a rerun with room ends well."""
        n_failures = 0
        for room in range(0, 20_000, 500):
            folder = tmp_path / str(room)
            with monkeypatch.context() as patch:
                patch.setattr(disk, "open", _disk_of(room), raising=False)
                try:
                    sort(folder, Work())
                except InputError as error:
                    n_failures += 1
                    assert "the disk is full" in str(error)
                    assert str(folder) in str(error)
                    assert _all_complete_stages_are_right(folder, reference)
            sort(folder, Work())
            assert tree(folder / "yass.zarr") == reference
        assert 5 < n_failures < 40

    @pytest.mark.parametrize(
        ("code", "words"), [(errno.EROFS, "read-only"), (errno.EACCES, "permission"), (errno.EDQUOT, "quota")]
    )
    def test_other_refusals_of_the_system(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
    ) -> None:
        def refuse(source: Any, target: Any) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "replace", refuse)
        with pytest.raises(InputError, match=f"Cannot write to {tmp_path}/out.*{words}"):
            sort(tmp_path / "out", Work())

    @pytest.mark.parametrize("name", ["file", "file/below", "file/far/below"])
    def test_folder_that_cannot_be(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match=r"Cannot write to .*file"):
            sort(tmp_path / name, Work())

    def test_faults_in_the_science_are_not_blamed_on_the_disk(self, tmp_path: Path) -> None:
        def fails() -> None:
            raise PermissionError(errno.EACCES, "not the store's business")

        store = Store(tmp_path / "out")
        with store.lock(), pytest.raises(PermissionError):
            keep = store.run(FakeRecording(), backend="numpy", seed=0, executor=Executor("sync"))
            keep("detect", LazyParts({"a": delayed(fails)()}, None, 1, lambda table: table))


def _all_complete_stages_are_right(folder: Path, reference: dict[str, str]) -> bool:
    root = folder / "yass.zarr"
    complete = [path.parent for path in root.glob("*/.zattrs") if Stage(path.parent, "").is_complete()]
    return all(
        reference[f"{stage.name}/{name}"] == value
        for stage in complete
        for name, value in tree(stage).items()
        if not name.startswith(".unfinished")
    )


def _disk_of(room: int) -> Any:
    """An `open` for a disk with so many bytes left; a write that does not fit is cut off."""
    left = room

    class Limited:
        def __init__(self, path: Path, mode: str) -> None:
            self.file = open(path, mode)  # noqa: SIM115

        def write(self, data: Any) -> int:
            nonlocal left
            size = memoryview(data).nbytes
            self.file.write(memoryview(data).cast("B")[: max(0, left)])
            left -= size
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return size

        def __enter__(self) -> Limited:
            return self

        def __exit__(self, *args: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    return Limited
