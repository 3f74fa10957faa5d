"""Sorts that store no preprocessed traces: the same spikes byte for byte, and a disk that holds none."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labs import edit, simulated, yass
from test_motion import PARAMS as MOTION
from test_motion import as_it_is, steady

from yass_dask import InputError, Sorting, Store, from_config, sort
from yass_dask.chunked import Chunk
from yass_dask.conditioning import PreprocessParams
from yass_dask.motion.traces import hold_still
from yass_dask.pipeline import SortParams
from yass_dask.preprocess import Clean, Scale, measure_scale, preprocess
from yass_dask.recording import ComputedSource, Recording
from yass_dask.runtime import Executor
from yass_dask.simulate import stream

PARAMS = SortParams(n_refinements=1)
SYNC = Executor("sync")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("unstored") / "recording", seconds=9.3)


@pytest.fixture(scope="module")
def stored(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unstored") / "stored"
    sorting = sort(from_config(config).with_chunks(3), folder, PARAMS, client=SYNC)
    assert sorting.n_spikes >= 100
    return folder


@pytest.fixture(scope="module")
def clean(config: Path, stored: Path) -> Clean:
    """Traces that are made anew, of the recording that was sorted."""
    recording, params = from_config(config), PreprocessParams()
    scale = measure_scale(recording, params, "numba").open(Store(stored).open("scale"))
    lazy = preprocess(recording, scale, params, "numba")
    return lazy.open(lazy.unstored)


def results(folder: Path) -> dict[str, bytes]:
    files = {name: (folder / name).read_bytes() for name in ("spike_train.npy", "templates.npy", "units.csv")}
    return {**files, "amplitudes": Sorting.open(folder).amplitudes.tobytes()}


def trace_files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("yass.zarr/*/traces/*") if path.name[0].isdigit()]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 279_000), st.integers(0, 70_000))
def test_any_stretch_has_the_stored_samples(clean: Clean, stored: Path, start: int, length: int) -> None:
    stop = min(start + length, clean.recording.n_samples)
    expected = Store(stored).open("preprocess").read(start, stop)
    np.testing.assert_array_equal(clean.recording.source.read(start, stop), expected)


def test_still_traces_are_the_stored_ones_too(clean: Clean) -> None:
    """Made anew of traces that are made anew."""
    lazy = hold_still(
        clean,
        as_it_is(clean.recording.n_channels),
        steady(np.array([8.0, -11.0])),
        clean.recording.with_chunks(4),
        MOTION,
    )
    expected = lazy.traces.compute(scheduler="sync")
    assert (expected != clean.recording.source.read(0, len(expected))).any()
    for start, stop in [(0, 100), (29_990, 90_010), (170_000, len(expected))]:
        np.testing.assert_array_equal(lazy.unstored.read(start, stop), expected[start:stop])


@pytest.mark.parametrize(
    ("chunk_blocks", "executor"), [(4, Executor("threads", 2)), (1, SYNC), (2, Executor("local", 2))],
    ids=["threads", "sync", "local"],
)  # fmt: skip
def test_the_same_bytes_and_no_traces(
    config: Path, stored: Path, tmp_path: Path, chunk_blocks: int, executor: Executor
) -> None:
    recording = from_config(config).with_chunks(chunk_blocks)
    sort(recording, Store(tmp_path / "out", store_traces=False), PARAMS, client=executor)
    assert results(tmp_path / "out") == results(stored)
    assert trace_files(tmp_path / "out") == []
    assert len(trace_files(stored)) == recording.n_blocks


def test_a_sort_goes_on_with_the_other_choice(
    config: Path, stored: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was computed of traces made anew stands when they are stored, and the other way round."""
    out, recording = tmp_path / "out", from_config(config).with_chunks(4)
    sort(recording, Store(out, store_traces=False), PARAMS, client=SYNC)
    with pytest.raises(InputError, match=r"were not stored .* only they are computed"):
        Store(out).open("preprocess")
    caplog.clear()
    with caplog.at_level(logging.INFO, "yass_dask"):
        sort(recording, out, PARAMS, client=SYNC)
    computed = [record.message for record in caplog.records if ": 0 of" in record.message]
    assert [line.split(":")[0] for line in computed] == ["preprocess"]
    assert len(trace_files(out)) == recording.n_blocks
    assert results(out) == results(stored)
    sort(recording, Store(out, store_traces=False), PARAMS, client=SYNC)
    assert len(trace_files(out)) == recording.n_blocks, "traces that are there are used"


def test_traces_half_stored_are_deleted(config: Path, stored: Path, tmp_path: Path) -> None:
    """The disk was full; the same sort goes on without them."""

    class Full(Exception):
        pass

    class Filling(Executor):
        def run(self, tasks, on_done, *, label="task", where="any"):  # type: ignore[no-untyped-def]
            if label == "preprocess":
                tasks = dict(list(tasks.items())[:1])
            super().run(tasks, on_done, label=label, where=where)
            if label == "preprocess":
                raise Full

    out, recording = tmp_path / "out", from_config(config).with_chunks(4)
    with pytest.raises(Full):
        sort(recording, out, PARAMS, client=Filling("sync"))
    assert len(trace_files(out)) == 4
    sort(recording, Store(out, store_traces=False), PARAMS, client=SYNC)
    assert trace_files(out) == []
    assert results(out) == results(stored)


def test_a_stage_that_goes_through_blocks_in_order_makes_each_once(config: Path) -> None:
    """Although it reads each block with a little of both neighbours."""
    made: Counter[int] = Counter()
    recording: Recording = from_config(config)

    def make(rows, chunk: Chunk) -> np.ndarray:
        made[chunk.first_block] += 1
        return rows.read(chunk.start, chunk.stop)

    source, size = ComputedSource(recording, make, 0), recording.block_samples
    for number in range(recording.n_blocks):
        start, stop = max(number * size - 300, 0), min((number + 1) * size + 300, recording.n_samples)
        np.testing.assert_array_equal(source.read(start, stop), recording.source.read(start, stop))
    assert made == Counter(range(recording.n_blocks))


def test_what_a_task_is_given_does_not_grow_with_the_recording() -> None:
    sizes = []
    for hours in (1, 100):
        recording = stream(8, 3600.0 * hours, 4)
        flat = Scale(np.zeros(8, np.float32), np.ones(8, np.float32), np.zeros(8, bool))
        sizes.append(len(cloudpickle.dumps(preprocess(recording, flat, PreprocessParams(), "numba").unstored)))
    assert sizes[1] <= sizes[0] + 20


def test_by_the_command_line(config: Path, tmp_path: Path) -> None:
    quick = ("--no-progress", "--set", "n_refinements=1", "-o", tmp_path / "out")
    ran = yass("sort", config, "--recompute-traces", *quick)
    assert ran.code == 0, ran.err
    params = SortParams.from_config(config).model_copy(update={"n_refinements": 1})
    sort(from_config(config), tmp_path / "stored", params, client=SYNC)
    assert results(tmp_path / "out") == results(tmp_path / "stored")
    assert trace_files(tmp_path / "out") == []
    exported = yass("export", tmp_path / "out", "--format", "phy")
    assert exported.code == 2
    assert "--store-traces" in exported.err
    page = Sorting.open(tmp_path / "out").report().read_text(encoding="utf-8")
    assert "were not stored (--recompute-traces)" in page
    edit(config, "resources", store_traces=False)
    told = yass("info", config)
    assert "no preprocessed traces" in told.out
