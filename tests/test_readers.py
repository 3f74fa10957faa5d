"""Readers and sources: what is read is what was written, and bad files are refused in words."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle

import dask.array as da
import numpy as np
import pytest
import zarr
from numcodecs import Blosc

from yass_dask import readers
from yass_dask.errors import InputError
from yass_dask.geometry import Probe
from yass_dask.sources import BinarySource, ConcatSource, ZarrSource
from yass_dask.sources.zarr_array import open_rows

RATE = 100.0


def noise(n_samples=350, n_channels=4, dtype="int16", seed=0):
    return np.random.default_rng(seed).integers(0, 100, (n_samples, n_channels)).astype(dtype)


def write_binary(path, array, order="samples", header=b""):
    rows = array if order == "samples" else array.T
    path.write_bytes(header + np.ascontiguousarray(rows).tobytes())
    return path


def write_zarr(path, array, zarr_format=2, chunks=(100, 4)):
    """A zarr array by either zarr library."""
    by_version = {} if zarr.__version__ < "3" else {"zarr_format": zarr_format}
    stored = zarr.open(str(path), mode="w", shape=array.shape, chunks=chunks, dtype=array.dtype, **by_version)
    stored[:] = array
    return path


def open_binary(path, **changes):
    return readers.read_binary(path, **{"sampling_rate": RATE, "n_channels": 4, "dtype": "int16", **changes})


# --- binary files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["samples", "channels"])
@pytest.mark.parametrize("dtype", ["int16", ">i2", "uint16", "int32", "float32", ">f8", "uint8"])
@pytest.mark.parametrize("header", [b"", b"head!"])
def test_binary_gives_what_was_written(tmp_path, order, dtype, header):
    array = noise(dtype=dtype)
    path = write_binary(tmp_path / "a.bin", array, order, header)
    recording = open_binary(path, dtype=dtype, order=order, offset=len(header))
    assert recording.dtype == np.dtype(dtype).newbyteorder("=")
    assert recording.dtype.isnative
    assert np.array_equal(recording.traces.compute(scheduler="sync"), array)
    rows = recording.source.read(17, 203)
    assert np.array_equal(rows, array[17:203])
    assert rows.flags.c_contiguous
    assert rows.flags.writeable
    assert type(rows) is np.ndarray


def test_both_orders_are_the_same_recording(tmp_path):
    array = noise()
    one = open_binary(write_binary(tmp_path / "a.bin", array))
    other = open_binary(write_binary(tmp_path / "b.bin", array, "channels"), order="channels")
    for boundary in ("edge", "zero"):
        first, second = (r.overlapped(30, boundary).compute(scheduler="sync") for r in (one, other))
        assert np.array_equal(first, second)


def test_files_in_sequence_are_one_recording(tmp_path):
    array = noise(350)
    paths = [write_binary(tmp_path / f"{i}.bin", rows) for i, rows in enumerate(np.split(array, [90, 91, 250]))]
    recording = open_binary(paths)
    assert recording.n_samples == 350
    for chunk_blocks in (1, 2, 9):
        found = recording.with_chunks(chunk_blocks).overlapped(120).compute(scheduler="sync")
        expected = readers.from_array(array, RATE).with_chunks(chunk_blocks).overlapped(120)
        assert np.array_equal(found, expected.compute(scheduler="sync"))
    assert recording.source.read(10, 10).shape == (0, 4)
    assert [part["name"] for part in recording.identity()["source"]["sources"]] == [path.name for path in paths]


@pytest.mark.parametrize(
    ("size", "changes", "message"),
    [
        (0, {}, "the file is empty: 0 bytes"),
        (7, {}, "one sample of 4 channels of int16 takes 8"),
        (85, {}, "85 bytes of data .* not a multiple of 8, .* 5 bytes are left over; the file is truncated"),
        (80, {"offset": 4}, "76 bytes of data .80 less a header of 4. is not a multiple of 8"),
        (80, {"offset": 80}, "the file is empty: 80 bytes with a header of 80"),
        (80, {"offset": -1}, "offset >= 0, found 4 and -1"),
        (80, {"n_channels": 3}, "80 bytes .* not a multiple of 6, one sample of 3 channels"),
        (80, {"n_channels": 0}, "n_channels must be >= 1"),
        (80, {"n_channels": True}, "n_channels must be >= 1.* found True"),
        (80, {"order": "rows"}, "order must be 'samples' or 'channels', found 'rows'"),
        (80, {"dtype": "int17"}, "unknown dtype 'int17'"),
        (80, {"dtype": "complex64"}, "must be an integer or a float type .* found 'complex64'"),
        (80, {"dtype": "object"}, "must be an integer or a float type"),
        (80, {"dtype": "1_000"}, "unknown dtype '1_000'"),
        (80, {"dtype": None}, "must be an integer or a float type"),
        (80, {"sampling_rate": -3}, "sampling_rate: must be a positive number of Hz, found -3"),
        (80, {"geometry": [[0, 0], [0, 1]]}, "2 contact positions for a recording of 4 channels"),
        (80, {"geometry": "nowhere.npy"}, "nowhere.npy: the geometry file does not exist"),
        (80, {"gain_to_uv": [1, 2]}, "gain_to_uv: expected one value or 4"),
        (None, {}, "cannot be opened .No such file"),
    ],
)
def test_binary_refuses(tmp_path, size, changes, message):
    path = tmp_path / "a.bin"
    if size is not None:
        path.write_bytes(bytes(size))
    with pytest.raises(InputError, match=message):
        open_binary(path, **changes)


def test_binary_refuses_folders_and_nothing(tmp_path):
    with pytest.raises(InputError, match="is a folder, expected a binary file"):
        open_binary(tmp_path)
    with pytest.raises(InputError, match="no file given"):
        open_binary([])


def test_a_file_that_shrinks_is_told(tmp_path):
    path = write_binary(tmp_path / "a.bin", noise())
    recording = open_binary(path)
    os.truncate(path, 80)
    with pytest.raises(InputError, match=r"it had 2800 bytes and now has 80"):
        recording.traces.compute(scheduler="sync")


def test_files_that_do_not_agree_are_refused(tmp_path):
    sources = [
        BinarySource(str(write_binary(tmp_path / "a.bin", noise())), np.dtype("int16"), 4),
        BinarySource(str(write_binary(tmp_path / "b.bin", noise(dtype="float32"))), np.dtype("float32"), 4),
    ]
    with pytest.raises(InputError, match="recording 1: 4 channels of float32, but recording 0 has 4 of int16"):
        ConcatSource(tuple(sources))


def test_identity_of_a_file_is_its_content_not_its_folder(tmp_path):
    array = noise(9000)
    path = write_binary(tmp_path / "a.bin", array)
    before = open_binary(path).identity()
    assert json.loads(json.dumps(before)) == before
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    os.rename(path, moved / "a.bin")
    assert open_binary(moved / "a.bin").identity() == before
    stat = os.stat(moved / "a.bin")
    write_binary(moved / "a.bin", array + 1)
    os.utime(moved / "a.bin", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert open_binary(moved / "a.bin").identity() != before


def test_a_changed_file_has_other_names_in_graphs(tmp_path):
    path = write_binary(tmp_path / "a.bin", noise())
    name = open_binary(path).traces.name
    assert open_binary(path).traces.name == name
    os.utime(path, ns=(0, 0))
    assert open_binary(path).traces.name != name


def test_handles_are_small_and_travel(tmp_path):
    array = noise(90_000)
    sources = [
        BinarySource(str(write_binary(tmp_path / "a.bin", array)), np.dtype("int16"), 4),
        ZarrSource(str(write_zarr(tmp_path / "a.zarr", array, chunks=(10_000, 4)))),
    ]
    for source in sources:
        packed = pickle.dumps(source)
        assert len(packed) < 2000
        assert np.array_equal(pickle.loads(packed).read(70_000, 70_050), array[70_000:70_050])


def test_relative_paths_are_made_absolute(tmp_path, monkeypatch):
    write_binary(tmp_path / "a.bin", noise())
    monkeypatch.chdir(tmp_path)
    assert open_binary("a.bin").source.path == str(tmp_path / "a.bin")


# --- zarr --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2] if zarr.__version__ < "3" else [2, 3])
@pytest.mark.parametrize("dtype", ["int16", ">i2", "float32"])
def test_zarr_gives_what_was_written(tmp_path, zarr_format, dtype):
    array = noise(dtype=dtype)
    recording = readers.read_zarr(write_zarr(tmp_path / "a.zarr", array, zarr_format), RATE, gain_to_uv=0.2)
    assert recording.dtype.isnative
    assert recording.gain_to_uv.tolist() == [0.2] * 4
    found = recording.with_chunks(2).overlapped(20).compute(scheduler="sync")
    expected = readers.from_array(array, RATE).with_chunks(2).overlapped(20).compute(scheduler="sync")
    assert np.array_equal(found, expected)
    assert json.dumps(recording.identity())


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("codec", [{"cname": "lz4"}, {"cname": "zstd", "shuffle": 0, "clevel": 5}, None])
def test_any_rows_of_a_zarr_array_are_read_as_the_library_reads_them(tmp_path, codec, separator):
    array = np.random.default_rng(1).integers(-3000, 3000, (2150, 40)).astype("int16")
    compressor = None if codec is None else Blosc(**codec)
    stored = zarr.open(str(tmp_path / "a.zarr"), mode="w", shape=array.shape, chunks=(500, 40), dtype="int16",
                       compressor=compressor, fill_value=7, dimension_separator=separator,
                       **({} if zarr.__version__ < "3" else {"zarr_format": 2}))  # fmt: skip
    stored[:1000], stored[1500:] = array[:1000], array[1500:]
    array[1000:1500] = 7  # a chunk that was never written
    source = ZarrSource(str(tmp_path / "a.zarr"))
    assert (open_rows(source.path, source.stamp) is None) == (codec is None)
    for start, stop in [(0, 2150), (499, 501), (500, 1000), (10, 20), (2149, 2150), (990, 1510), (700, 700)]:
        found = source.read(start, stop)
        assert np.array_equal(found, array[start:stop])
        assert found.flags.writeable


def test_columns_in_chunks_are_left_to_the_library(tmp_path):
    array = noise()
    source = ZarrSource(str(write_zarr(tmp_path / "a.zarr", array, chunks=(100, 2))))
    assert open_rows(source.path, source.stamp) is None
    assert np.array_equal(source.read(17, 203), array[17:203])


def test_a_zarr_array_written_anew_is_read_anew(tmp_path):
    path = write_zarr(tmp_path / "a.zarr", noise())
    before = readers.read_zarr(path, RATE)
    first, identity = before.traces.compute(scheduler="sync"), before.identity()
    stamp = (path / ".zarray").stat().st_mtime_ns
    write_zarr(path, noise() + 1, chunks=(50, 4))
    os.utime(path / ".zarray", ns=(stamp + 1, stamp + 1))
    after = readers.read_zarr(path, RATE)
    assert np.array_equal(after.traces.compute(scheduler="sync"), first + 1)
    assert after.traces.name != before.traces.name
    assert after.identity() != identity


def test_zarr_refuses(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.zarr: does not exist"):
        readers.read_zarr(tmp_path / "nowhere.zarr", RATE)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="not a zarr array"):
        readers.read_zarr(tmp_path / "folder", RATE)
    write_binary(tmp_path / "a.bin", noise())
    with pytest.raises(InputError, match="not a zarr array"):
        readers.read_zarr(tmp_path / "a.bin", RATE)
    write_zarr(tmp_path / "line.zarr", np.arange(5), chunks=(5,))
    with pytest.raises(InputError, match=r"two dimensions \(samples, channels\), found shape \(5,\)"):
        readers.read_zarr(tmp_path / "line.zarr", RATE)
    zarr.open_group(str(tmp_path / "group.zarr"), mode="w")
    write_zarr(tmp_path / "group.zarr" / "traces", noise(), 3 if zarr.__version__ >= "3" else 2)
    with pytest.raises(InputError, match=r"is a zarr group; give the path of an array in it \(found: traces\)"):
        readers.read_zarr(tmp_path / "group.zarr", RATE)


# --- arrays ------------------------------------------------------------------------------------------------


def test_arrays_of_numpy_and_dask():
    array = noise(dtype=">i2")
    for given in (array, da.from_array(array, chunks=(60, 3))):
        recording = readers.from_array(given, RATE, geometry=Probe([[0, 0], [9, 9], [3, 0], [4, 0]]), gain_to_uv=2)
        assert recording.dtype == np.dtype("int16")
        assert recording.probe.positions[1].tolist() == [9, 9]
        found = recording.traces.compute(scheduler="sync")
        assert found.dtype.isnative
        assert np.array_equal(found, array)
        assert np.array_equal(recording.source.read(20, 33), array[20:33])
        assert json.dumps(recording.identity())


def test_identity_of_an_array_is_all_of_it():
    array = noise(200_000)
    before = readers.from_array(array, RATE)
    changed = array.copy()
    changed[123_457, 2] += 1
    after = readers.from_array(changed, RATE)
    assert before.identity() == readers.from_array(array.copy(order="F"), RATE).identity()
    assert before.identity() != after.identity()
    assert before.traces.name != after.traces.name


def test_reading_does_not_lend_the_array_itself():
    array = noise()
    readers.from_array(array, RATE).source.read(0, 350)[:] = -1
    assert array.min() >= 0


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([[1, 2]], "expected a numpy or dask array, found list"),
        (np.zeros(5), r"two dimensions .* found shape \(5,\)"),
        (np.zeros((0, 4)), r"empty, shape .* is \(0, 4\)"),
        (np.zeros((5, 2), complex), "must be an integer or a float type"),
        (da.zeros((5, 0)), "dask array: empty"),
        (da.zeros((5, 2))[da.ones(5) > 0], "compute_chunk_sizes"),
    ],
)
def test_arrays_refused(array, message):
    with pytest.raises(InputError, match=message):
        readers.from_array(array, RATE)


# --- SpikeInterface ----------------------------------------------------------------------------------------


class SpikeInterfaceLike:
    """As much of a SpikeInterface recording as the reader asks for, in two segments."""

    def __init__(self, segments, binary=None, **properties):
        self.segments, self.binary, self.properties = segments, binary, properties

    def get_num_segments(self):
        return len(self.segments)

    def get_num_samples(self, segment_index):
        return len(self.segments[segment_index])

    def get_num_channels(self):
        return self.segments[0].shape[1]

    def get_dtype(self):
        return self.segments[0].dtype

    def get_sampling_frequency(self):
        return RATE

    def get_channel_ids(self):
        return np.array([f"ch{i}" for i in range(self.get_num_channels())])

    def get_channel_gains(self):
        return self.properties.get("gain_to_uV")

    def get_property(self, key):
        return self.properties.get(key)

    def has_channel_location(self):
        return "location" in self.properties

    def get_channel_locations(self):
        return self.properties["location"]

    def is_binary_compatible(self):
        return self.binary is not None

    def get_binary_description(self):
        return self.binary

    def get_traces(self, segment_index, start_frame, end_frame):
        if self.binary is not None:
            raise AssertionError("a binary file is read directly")
        return self.segments[segment_index][start_frame:end_frame]


def test_spikeinterface_by_traces():
    array = noise()
    recording = readers.from_spikeinterface(
        SpikeInterfaceLike(
            [array[:120], array[120:]],
            gain_to_uV=np.array([0.1, 0.2, 0.3, 0.4]),
            location=np.array([[0, 0], [0, 20], [0, 0], [0, 20]]),
            group=np.array(["left", "left", "right", "right"]),
            inter_sample_shift=np.array([0, 0.25, 0.5, 0.75]),
        )
    )
    assert np.array_equal(recording.traces.compute(scheduler="sync"), array)
    assert recording.channel_ids.tolist() == ["ch0", "ch1", "ch2", "ch3"]
    assert recording.gain_to_uv.tolist() == [0.1, 0.2, 0.3, 0.4]
    assert recording.probe.shanks.tolist() == [0, 0, 1, 1]
    assert recording.probe.sample_shifts.tolist() == [0, 0.25, 0.5, 0.75]
    assert json.dumps(recording.identity())


def test_spikeinterface_without_probe_or_gain():
    recording = readers.from_spikeinterface(SpikeInterfaceLike([noise()]))
    assert recording.gain_to_uv is None
    assert recording.probe.positions[:, 1].tolist() == [0, 25, 50, 75]


@pytest.mark.parametrize("order", ["samples", "channels"])
def test_spikeinterface_binary_is_read_from_its_files(tmp_path, order):
    array = noise()
    segments = [array[:120], array[120:]]
    paths = [write_binary(tmp_path / f"{i}.bin", rows, order, b"xy") for i, rows in enumerate(segments)]
    binary = {
        "file_paths": [str(path) for path in paths],
        "dtype": np.dtype("int16"),
        "num_channels": 4,
        "time_axis": 0 if order == "samples" else 1,
        "file_offset": 2,
    }
    recording = readers.from_spikeinterface(SpikeInterfaceLike(segments, binary))
    assert np.array_equal(recording.traces.compute(scheduler="sync"), array)


if importlib.util.find_spec("spikeinterface"):

    def test_spikeinterface_itself(tmp_path):
        import spikeinterface.core as si

        array = noise(dtype="float32")
        numpy_recording = si.NumpyRecording([array], RATE)
        numpy_recording.set_channel_gains(0.5)
        numpy_recording.set_dummy_probe_from_locations(np.array([[0, 0], [0, 20], [0, 40], [0, 60]]))
        saved = numpy_recording.save(folder=tmp_path / "saved", verbose=False)
        for source in (numpy_recording, numpy_recording.frame_slice(0, 350), saved):
            recording = readers.from_spikeinterface(source)
            assert np.array_equal(recording.traces.compute(scheduler="sync"), array)
            assert recording.probe.positions[:, 1].tolist() == [0, 20, 40, 60]
            assert recording.gain_to_uv.tolist() == [0.5] * 4
        assert isinstance(recording.source, BinarySource)


# --- configuration -----------------------------------------------------------------------------------------


def test_from_config_opens_the_recording_it_describes(tmp_path):
    array = noise()
    write_binary(tmp_path / "a.bin", array)
    np.save(tmp_path / "geometry.npy", [[0, 0], [0, 20], [0, 40], [0, 60]])
    config = {
        "data": {"root_folder": str(tmp_path), "recordings": "a.bin", "geometry": "geometry.npy"},
        "recordings": {
            "dtype": "int16",
            "sampling_rate": 100,
            "n_channels": 4,
            "spatial_radius": 70,
            "spike_size_ms": 20,
            "order": "samples",
        },
        "resources": {"max_memory": "200MB", "processes": 1},
    }
    recording = readers.from_config(config)
    assert np.array_equal(recording.traces.compute(scheduler="sync"), array)
    assert recording.probe.positions[:, 1].tolist() == [0, 20, 40, 60]
