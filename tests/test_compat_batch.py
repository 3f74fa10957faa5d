"""`yass_dask.compat.batch`: files in both orders, through every loader, in batches with exact borders."""

from __future__ import annotations

import logging
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from yass_dask.compat.batch import (
    BatchPipeline,
    BatchProcessor,
    BinaryReader,
    MemoryMap,
    PipedTransformation,
    RecordingsReader,
    binary,
)
from yass_dask.compat.batch.pipeline import BatchPipeline as FromModule

row = pytest.mark.coverage_row
N, C = 1003, 7
ORDERS, LOADERS = ("samples", "channels"), ("memmap", "array", "python")


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, (N, C)).astype(np.int16)


@pytest.fixture
def files(tmp_path: Path, data: np.ndarray) -> dict[str, Path]:
    """The same recording in both orders."""
    paths = {order: tmp_path / f"{order}.bin" for order in ORDERS}
    data.tofile(paths["samples"])
    data.T.tofile(paths["channels"])
    return paths


def processor(path: Path, order: str = "samples", **how: Any) -> BatchProcessor:
    return BatchProcessor(path, "int16", C, order, **{"max_memory": "1KB", "show_progress_bar": False, **how})


def padded(data: np.ndarray, start: int, stop: int, buffer: int) -> np.ndarray:
    """Rows [start - buffer, stop + buffer), zeros where there are none."""
    wide = np.pad(data, ((buffer, buffer), (0, 0)))
    return wide[start : stop + 2 * buffer]


# --- readers ---


@row("A10.18", "A10.3")
@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("order", ORDERS)
def test_reader_indexes_observations_and_channels_in_either_order(files, data, order, loader):
    reader = RecordingsReader(files[order], "int16", C, order, loader=loader)
    np.testing.assert_array_equal(reader[10:400, 2:5], data[10:400, 2:5])
    np.testing.assert_array_equal(reader[:, :], data)
    np.testing.assert_array_equal(reader[17:20], data[17:20])
    assert reader[5, 3] == data[5, 3]


@row("A10.18")
def test_reader_takes_the_older_word_for_the_order(files, data):
    for word, order in (("wide", "channels"), ("long", "samples")):
        reader = RecordingsReader(files[order], "int16", C, data_format=word)
        np.testing.assert_array_equal(reader[100:200, :], data[100:200])
    with pytest.raises(ValueError, match="give one of them"):
        RecordingsReader(files["samples"], "int16", C, "samples", data_format="long")


@row("A10.19")
@pytest.mark.parametrize("order", ORDERS)
def test_reader_properties(files, data, order):
    reader = RecordingsReader(files[order], "int16", C, order)
    assert (reader.shape, reader.observations, reader.channels) == ((N, C), N, C)
    assert (reader.dtype, reader.data_order) == (np.dtype("int16"), order)
    np.testing.assert_array_equal(reader.data[:, :], data)


@row("A10.18")
@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("span", [(0, 10), (3, 8), (500, 600), (N - 4, N), (-3, None), (0, N)])
def test_reader_buffer_is_real_inside_and_zero_outside(files, data, loader, span):
    reader = RecordingsReader(files["channels"], "int16", C, "channels", loader, buffer_size=9, return_data_index=True)
    got, index = reader[slice(*span), 1:4]
    start, stop, _ = slice(*span).indices(N)
    np.testing.assert_array_equal(got, padded(data, start, stop, 9)[:, 1:4])
    np.testing.assert_array_equal(got[index], data[slice(*span), 1:4])


def test_reader_without_buffer_gives_the_index_as_it_was(files, data):
    got, index = RecordingsReader(files["samples"], "int16", C, "samples", return_data_index=True)[4:9, 2:3]
    assert index == (slice(4, 9), slice(2, 3))
    np.testing.assert_array_equal(got, data[4:9, 2:3])


@row("A10.1", "A10.18")
def test_size_that_does_not_fit_is_refused(files):
    for make in (BatchProcessor, RecordingsReader):
        with pytest.raises(ValueError, match="left over"):
            make(files["samples"], "int16", C + 1, "samples")
    with pytest.raises(ValueError, match="loader is 'numpy'"):
        RecordingsReader(files["samples"], "int16", C, "samples", loader="numpy")


@row("A10.2")
def test_what_is_not_given_is_read_from_the_yaml_file(files, data):
    path = files["channels"]
    with pytest.raises(ValueError, match="dtype, n_channels, data_order not given"):
        BatchProcessor(path)
    path.with_suffix(".yaml").write_text("{dtype: int16, n_channels: 7, data_order: channels}")
    np.testing.assert_array_equal(RecordingsReader(path)[:, :], data)
    np.testing.assert_array_equal(np.concatenate([d for d, _, _ in BatchProcessor(path).multi_channel()]), data)
    np.testing.assert_array_equal(RecordingsReader(path, n_channels=C)[3:5, :], data[3:5])


@row("A10.20")
@pytest.mark.parametrize("limits", [(2**16, 2**22), (2**16, 100), (1, 1)], ids=["slab", "slabs", "long lines"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_binary_reader_is_a_memmap_by_seeking(tmp_path, data, order, limits, monkeypatch):
    for name, limit in zip(("SHORT_LINE_BYTES", "SLAB_BYTES"), limits, strict=True):
        monkeypatch.setattr(binary, name, limit)
    path = tmp_path / "array.bin"
    path.write_bytes(data.tobytes(order))
    reader, mapped = BinaryReader(path, "int16", (N, C), order), np.memmap(path, "int16", "r", 0, (N, C), order)
    for key in [np.s_[3:9, 1:4], np.s_[:, 2], np.s_[-5:, :], np.s_[7, :], np.s_[4, -1], np.s_[9:9, :]]:
        np.testing.assert_array_equal(reader[key], mapped[key])
    listed = ([0, 5, 2], slice(1, 3)) if order == "C" else (slice(1, 3), [0, 5, 2])
    np.testing.assert_array_equal(reader[listed], mapped[listed])
    with pytest.raises(NotImplementedError):
        reader[listed[::-1]]
    with pytest.raises(ValueError, match="no step"):
        reader[::2, :]
    with pytest.raises(IndexError):
        reader[N, 0]


@row("A10.21")
def test_memory_map_keeps_nothing_of_the_file_in_memory(tmp_path):
    path = tmp_path / "large.bin"
    rows = 4_000_000
    with open(path, "wb") as file:
        for value in range(4):
            np.full(rows // 4 * 16, value, np.int8).tofile(file)
    mapped = MemoryMap(path, "int8", "r", 0, (rows, 16))
    before = psutil.Process().memory_info().rss
    total = sum(int(mapped[start : start + 1000].sum()) for start in range(0, rows, 1000))
    grown = psutil.Process().memory_info().rss - before
    assert total == 16 * rows // 4 * (1 + 2 + 3)
    assert grown < rows * 16 / 2
    assert (mapped.shape, mapped.dtype, len(mapped)) == ((rows, 16), np.dtype("int8"), rows)


# --- batches ---


@row("A10.4", "A10.22")
@pytest.mark.parametrize("order", ORDERS)
def test_multi_channel_yields_data_and_both_indices(files, data, order):
    got = list(processor(files[order], order).multi_channel())
    length = 1024 // (2 * C)
    assert [i[0] for _, _, i in got] == [slice(a, min(a + length, N)) for a in range(0, N, length)]
    np.testing.assert_array_equal(np.concatenate([d[local] for d, local, _ in got]), data)
    for d, _, index in got:
        np.testing.assert_array_equal(d, data[index])


@row("A10.22")
@pytest.mark.parametrize(("memory", "channels"), [(14, "all"), (27, "all"), ("1KB", [3]), (6, [0, 2, 5]), ("1GB", [1])])
def test_batches_are_as_long_as_memory_allows(files, memory, channels):
    lengths = [len(d) for d, _, _ in processor(files["samples"], max_memory=memory).multi_channel(channels=channels)]
    width = C if channels == "all" else len(channels)
    most = (memory if isinstance(memory, int) else {"1KB": 1024, "1GB": 1024**3}[memory]) // (2 * width)
    assert lengths == [most] * (N // most) + [N % most] * (N % most > 0)


def test_memory_for_less_than_a_sample_is_refused(files):
    with pytest.raises(ValueError, match="less than one sample of 7 channels"):
        list(processor(files["samples"], max_memory=13).multi_channel())
    with pytest.raises(ValueError, match="max_memory"):
        processor(files["samples"], max_memory="much")


@row("A10.4")
def test_times_and_channels_are_taken(files, data):
    got = list(processor(files["channels"], "channels").multi_channel(100, 700, [5, 0, 1]))
    np.testing.assert_array_equal(np.concatenate([d for d, _, _ in got]), data[100:700][:, [5, 0, 1]])
    assert got[0][2] == (slice(100, 100 + 170), [5, 0, 1])
    for times in [(700, 100), (-1, 5), (0, N + 1)]:
        with pytest.raises(ValueError, match="from_time"):
            list(processor(files["samples"]).multi_channel(*times))
    with pytest.raises(ValueError, match="channels is"):
        list(processor(files["samples"]).multi_channel(channels=[C]))


def test_without_data_nothing_is_read(files):
    bp = processor(files["samples"])
    indices = list(bp.multi_channel(return_data=False))
    assert indices == [(local, index) for _, local, index in bp.multi_channel()]


@row("A10.5")
@pytest.mark.parametrize("span", [(None, None), (200, 420)])
@pytest.mark.parametrize("loader", LOADERS)
def test_buffer_is_real_inside_and_zero_at_the_ends_of_the_file(files, data, loader, span):
    bp = processor(files["samples"], buffer_size=40, loader=loader)
    for d, local, (rows, columns) in bp.multi_channel(*span, channels=[1, 4]):
        np.testing.assert_array_equal(d, padded(data, rows.start, rows.stop, 40)[:, [1, 4]])
        np.testing.assert_array_equal(d[local], data[rows][:, columns])


# --- multi-channel operations ---


def smooth(batch: np.ndarray) -> np.ndarray:
    """Sum over nine samples: wrong at a border without a buffer."""
    summed = np.cumsum(np.pad(batch.astype(np.int64), ((5, 4), (0, 0))), axis=0)
    return summed[9:] - summed[:-9]


def without_buffer(result: np.ndarray, idx_local: Any, idx: Any, buffer_size: int) -> np.ndarray:
    return result[idx_local]


@row("A10.6", "A10.7", "A10.10", "A10.11")
@pytest.mark.parametrize("order", ORDERS)
def test_disk_results_are_exact_at_borders_serial_and_parallel(files, data, tmp_path, order):
    bp = processor(files[order], order, buffer_size=9)
    written = {}
    for processes in (1, 3):
        out = tmp_path / "deep" / f"{processes}.bin"
        path, params = bp.multi_channel_apply(
            smooth, "disk", cleanup_function=without_buffer, output_path=out, processes=processes
        )
        assert (path, params) == (str(out), {"dtype": "int64", "n_channels": C, "data_order": "samples"})
        np.testing.assert_array_equal(RecordingsReader(out)[:, :], smooth(data))
        written[processes] = out.read_bytes()
    assert written[1] == written[3]
    stored = yaml.safe_load(out.with_suffix(".yaml").read_text())
    assert {key: stored[key] for key in ("dtype", "n_channels", "data_order")} == params


@row("A10.6", "A10.15")
def test_memory_results_are_a_list(files, data):
    bp = processor(files["samples"])
    for processes in (1, 4):
        found = bp.multi_channel_apply(np.max, "memory", channels=[0, 1], processes=processes, axis=0)
        expected = [
            data[i][:, [0, 1]].max(axis=0) for _, (i, _) in bp.multi_channel(channels=[0, 1], return_data=False)
        ]
        np.testing.assert_array_equal(found, expected)
    cast = bp.multi_channel_apply(lambda batch: batch + 0.5, "memory", cast_dtype="float32", from_time=0, to_time=9)
    assert cast[0].dtype == np.float32
    np.testing.assert_array_equal(cast[0], (data[:9] + 0.5).astype(np.float32))


@row("A10.8")
def test_batch_results_are_passed_on(files, data):
    def add(batch: np.ndarray, previous_batch: Any) -> Any:
        return batch.sum(dtype=np.int64) + (0 if previous_batch is None else previous_batch)

    bp = processor(files["samples"])
    assert bp.multi_channel_apply(add, "memory", pass_batch_results=True) == data.sum(dtype=np.int64)
    with pytest.raises(NotImplementedError):
        bp.multi_channel_apply(add, "disk", output_path="unused.bin", pass_batch_results=True)


@row("A10.9")
def test_batch_info_is_passed(files, data):
    def place(batch: np.ndarray, idx_local: Any, idx: Any, factor: int) -> tuple[Any, bool, int]:
        return idx[0], np.array_equal(batch[idx_local], data[idx]), factor

    bp = processor(files["channels"], "channels", buffer_size=4)
    found = bp.multi_channel_apply(place, "memory", pass_batch_info=True, factor=3)
    assert [f[0] for f in found] == [i[0] for _, i in bp.multi_channel(return_data=False)]
    assert all(same and factor == 3 for _, same, factor in found)


def weighed(batch: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return batch * weights[2500]


def times(factor: int) -> Any:
    def multiply(batch: np.ndarray) -> np.ndarray:
        return factor * batch

    return multiply


@row("A10.6")
def test_existing_files_are_replaced_kept_or_refused(files, data, tmp_path):
    out, bp = tmp_path / "out.bin", processor(files["samples"])

    def apply(function: Any, rule: str, **more: Any) -> np.ndarray:
        bp.multi_channel_apply(function, "disk", output_path=out, if_file_exists=rule, **more)
        return RecordingsReader(out)[:, :]

    out.write_bytes(b"precious")
    with pytest.raises(ValueError, match="nothing tells how it was made"):
        apply(np.negative, "skip")
    assert out.read_bytes() == b"precious"
    with pytest.raises(ValueError, match="'abort'"):
        apply(np.negative, "abort")
    np.testing.assert_array_equal(apply(np.negative, "overwrite"), -data)
    stamp = out.stat().st_mtime_ns
    np.testing.assert_array_equal(apply(np.negative, "skip"), -data)
    assert out.stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(apply(np.abs, "skip"), np.abs(data))  # another function: never reused
    np.testing.assert_array_equal(apply(np.abs, "skip", channels=[2]), np.abs(data[:, [2]]))
    for factor in (2, 3):  # nor one that holds another number, or is bound to another
        np.testing.assert_array_equal(apply(lambda batch, f=factor: f * batch, "skip"), factor * data)
        np.testing.assert_array_equal(apply(partial(np.add, factor), "skip"), factor + data)
        np.testing.assert_array_equal(apply(times(factor), "skip"), factor * data)
    for value in (1, 2):  # nor one made with another array as its argument
        weights = np.ones((5000, 1), np.int64)
        weights[2500] = value
        np.testing.assert_array_equal(apply(weighed, "skip", weights=weights), data * value)
    with pytest.raises(ValueError, match="allowed are overwrite, abort, skip"):
        apply(np.abs, "perhaps")


@row("A10.6")
def test_arguments_that_do_not_go_together_are_refused(files):
    bp = processor(files["samples"])
    with pytest.raises(ValueError, match="needs an output_path"):
        bp.multi_channel_apply(np.abs, "disk")
    with pytest.raises(ValueError, match="is the input"):
        bp.multi_channel_apply(np.abs, "disk", output_path=files["samples"])
    with pytest.raises(ValueError, match="mode is 'cloud'"):
        bp.single_channel_apply(np.abs, "cloud")
    with pytest.raises(ValueError, match="processes is 0"):
        bp.multi_channel_apply(np.abs, "memory", processes=0)


def test_a_function_that_fails_leaves_no_file(files, tmp_path):
    def fail(batch: np.ndarray) -> np.ndarray:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        processor(files["samples"]).multi_channel_apply(fail, "disk", output_path=tmp_path / "out" / "x.bin")
    assert list((tmp_path / "out").iterdir()) == []


def test_batches_of_different_width_are_refused(files, tmp_path):
    def uneven(batch: np.ndarray) -> np.ndarray:
        return batch[:, : 1 + (len(batch) < 73)]

    with pytest.raises(ValueError, match="do not fit together"):
        processor(files["samples"]).multi_channel_apply(uneven, "disk", output_path=tmp_path / "out.bin")


# --- single-channel operations ---


@row("A10.12")
@pytest.mark.parametrize("order", ORDERS)
def test_single_channel_gives_whole_channels_or_pieces(files, data, order):
    whole = list(processor(files[order], order, max_memory=2 * N).single_channel())
    np.testing.assert_array_equal(whole, data.T)
    pieces = list(processor(files[order], order).single_channel(force_complete_channel_batch=False, channels=[4, 1]))
    assert [channel for _, channel in pieces] == [4, 4, 1, 1]
    np.testing.assert_array_equal(np.concatenate([d for d, channel in pieces if channel == 4]), data[:, 4])
    some = list(processor(files[order], order).single_channel(from_time=100, to_time=400, channels=[2, 6]))
    np.testing.assert_array_equal(some, data[100:400, [2, 6]].T)


@row("A10.12")
def test_a_channel_that_does_not_fit_is_refused_when_it_is_asked_for(files):
    batches = processor(files["samples"]).single_channel()
    with pytest.raises(ValueError, match="force_complete_channel_batch=False"):
        next(batches)


@row("A10.13")
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("processes", [1, 3])
def test_single_channel_files_are_in_order_of_channels_and_say_so(files, data, tmp_path, whole, processes):
    out = tmp_path / "out.bin"
    bp = processor(files["samples"], max_memory=2 * N if whole else "1KB")
    _, params = bp.single_channel_apply(
        scaled, "disk", out, force_complete_channel_batch=whole, channels=[3, 0], factor=2.5, processes=processes
    )
    assert params == {"dtype": "float64", "n_channels": 2, "data_order": "channels"}
    np.testing.assert_array_equal(RecordingsReader(out)[:, :], 2.5 * data[:, [3, 0]])
    np.testing.assert_array_equal(np.fromfile(out), 2.5 * data[:, [3, 0]].T.ravel())


def scaled(values: np.ndarray, factor: float) -> np.ndarray:
    assert values.ndim == 1
    return values * factor


@row("A10.13")
def test_single_channel_results_in_memory(files, data):
    found = processor(files["channels"], "channels", max_memory="1MB").single_channel_apply(np.max, "memory")
    np.testing.assert_array_equal(found, data.max(axis=0))


@row("A10.14")
def test_time_taken_is_logged(files, caplog):
    with caplog.at_level(logging.INFO, "yass_dask"):
        processor(files["samples"]).multi_channel_apply(smooth, "memory")
    assert any(re.fullmatch(r"smooth took [\d.]+ seconds", message) for message in caplog.messages)


@row("A3.7")
def test_progress_is_shown_unless_switched_off(files, capfd):
    for shown in (True, False):
        processor(files["samples"], show_progress_bar=shown).multi_channel_apply(np.abs, "memory")
        assert ("100%" in capfd.readouterr().err) == shown


# --- pipelines ---


def halved(batch: np.ndarray) -> np.ndarray:
    return batch / 2


@row("A10.16", "A10.17")
@pytest.mark.parametrize("keep", [True, False])
def test_pipeline_runs_in_order_and_never_deletes_its_input(files, data, tmp_path, keep):
    assert FromModule is BatchPipeline
    raw = files["channels"].read_bytes()
    pipeline = BatchPipeline(
        files["channels"], "int16", C, data_format="wide", max_memory="8KB", output_path=tmp_path / "out",
        from_time=10, to_time=900, channels=[0, 2, 6], show_progress_bar=False,
    )  # fmt: skip
    modes = ("single_channel_one_batch", "multi_channel", "single_channel")
    pipeline.add([PipedTransformation(halved, f"{mode}.bin", mode, keep=keep) for mode in modes[:2]])
    pipeline.add(PipedTransformation(scaled, "last.bin", modes[2], keep=keep, factor=8, cast_dtype="float32"))
    paths, params = pipeline.run()
    assert [Path(path).name for path in paths] == ["single_channel_one_batch.bin", "multi_channel.bin", "last.bin"]
    assert [p["data_order"] for p in params] == ["channels", "samples", "channels"]
    assert [Path(path).exists() for path in paths] == [keep, keep, True]
    assert files["channels"].read_bytes() == raw
    np.testing.assert_array_equal(RecordingsReader(paths[-1])[:, :], 2 * data[10:900][:, [0, 2, 6]])
    assert RecordingsReader(paths[-1]).dtype == np.float32


@row("A10.17")
def test_pipeline_that_would_overwrite_its_own_files_is_refused(files, tmp_path):
    for names in (["a.bin", "a.bin"], ["samples.bin"]):
        pipeline = BatchPipeline(files["samples"], "int16", C, "samples", output_path=tmp_path)
        pipeline.add([PipedTransformation(halved, name, "multi_channel") for name in names])
        with pytest.raises(ValueError, match="output_name of its own"):
            pipeline.run()
    with pytest.raises(ValueError, match="mode is 'all'"):
        PipedTransformation(halved, "a.bin", "all")
