"""Recording: chunks and halos, slices, laziness, refusals."""

from __future__ import annotations

import json
import pickle

import dask
import dask.array as da
import numpy as np
import pytest
from dask.base import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st

from yass_dask import chunked, geometry
from yass_dask.errors import InputError
from yass_dask.readers import from_array
from yass_dask.recording import Recording

RATE = 100.0
"""Blocks of 100 samples."""


def noise(n_samples, n_channels=3, dtype="int16", seed=0):
    return np.random.default_rng(seed).integers(-1000, 1000, (n_samples, n_channels)).astype(dtype)


class WatchedSource:
    """A source that keeps a note of all it is asked for."""

    def __init__(self, array):
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.reads = []

    def identity(self):
        return {"kind": "watched"}

    def read(self, start, stop):
        self.reads.append((start, stop))
        return self.array[start:stop].copy()

    def __dask_tokenize__(self):
        return ("watched", id(self))


def watched(n_samples, chunk_blocks=2):
    source = WatchedSource(noise(n_samples))
    return Recording(source, RATE, geometry.linear(3), chunk_blocks=chunk_blocks), source


def expected_overlap(array, recording, halo, boundary):
    """The definition of `overlapped`, by padding the whole recording at once."""
    block = recording.block_samples
    missing = -len(array) % block
    mode = {"edge": "edge", "zero": "constant"}[boundary]
    full = np.pad(array, ((halo, missing + halo), (0, 0)), mode=mode)
    return [full[c.first_block * block : c.stop_block * block + 2 * halo] for c in recording.chunks]


def pieces(lazy):
    return [lazy.blocks[i].compute(scheduler="sync") for i in range(lazy.numblocks[0])]


def refuse_to_compute(*_args, **_kwargs):
    raise AssertionError("something was computed")


# --- chunks with halo --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_samples", [1, 37, 100, 101, 399, 400, 730])
@pytest.mark.parametrize("halo", [0, 1, 40, 150, 900])
@pytest.mark.parametrize("boundary", ["edge", "zero"])
def test_reading_and_dask_sources_give_the_same_overlap(n_samples, halo, boundary):
    array = noise(n_samples)
    read = from_array(array, RATE).with_chunks(2)
    lazy = from_array(da.from_array(array, chunks=(70, 2)), RATE).with_chunks(2)
    expected = expected_overlap(array, read, halo, boundary)
    for recording in (read, lazy):
        found = recording.overlapped(halo, boundary)
        assert found.dtype == array.dtype
        assert found.chunks == (tuple(len(rows) for rows in expected), (3,))
        for chunk, rows in zip(pieces(found), expected, strict=True):
            assert np.array_equal(chunk, rows)


def test_a_chunk_of_the_overlap_is_cut_into_blocks():
    array = noise(730)
    recording = from_array(array, RATE).with_chunks(3)
    halo = 5
    padded = np.pad(array, ((halo, 70 + halo), (0, 0)), mode="edge")
    found = []
    for chunk, rows in zip(recording.chunks, pieces(recording.overlapped(halo)), strict=True):
        for block in chunked.blocks(rows, chunk, halo):
            assert np.array_equal(block.traces, padded[block.start : block.start + 100 + 2 * halo])
            found.append((block.number, block.start, block.stop))
    assert found == [(i, 100 * i, min(100 * i + 100, 730)) for i in range(8)]


@pytest.mark.parametrize("n_samples", [50, 730])
@pytest.mark.parametrize("halo", [0, 7, 250])
def test_no_task_reads_more_than_its_chunk_and_halo(n_samples, halo):
    recording, source = watched(n_samples)
    lazy = recording.map_overlap(np.negative, halo, "int16")
    assert source.reads == []
    for i, chunk in enumerate(recording.chunks):
        source.reads.clear()
        assert np.array_equal(lazy.blocks[i].compute(scheduler="sync"), -source.array[chunk.start : chunk.stop])
        padded_stop = chunk.stop_block * recording.block_samples
        assert source.reads == [(max(chunk.start - halo, 0), min(padded_stop + halo, n_samples))]


def test_traces_read_each_sample_once():
    recording, source = watched(730)
    assert np.array_equal(recording.traces.compute(scheduler="sync"), source.array)
    assert sorted(source.reads) == [(c.start, c.stop) for c in recording.chunks]


def test_one_task_per_chunk_after_optimisation():
    recording = Recording(WatchedSource(np.zeros((36_000, 1), "int16")), 10.0, geometry.linear(1), chunk_blocks=1)
    assert len(recording.chunks) == 3600
    for lazy in (recording.traces, recording.overlapped(3) + 1, recording.map_overlap(np.abs, 3, "int16")):
        (fused,) = dask.optimize(lazy)
        tasks = [node for node in dict(fused.__dask_graph__()).values() if type(node).__name__ != "Alias"]
        assert len(tasks) == 3600
        assert len(lazy.__dask_graph__().layers) <= 5


def test_a_large_array_is_in_the_graph_once():
    recording = from_array(noise(400_000), 10_000.0)[10:390_000]
    graph = dict(dask.optimize(recording.overlapped(5))[0].__dask_graph__())
    tasks = [pickle.dumps(node) for key, node in graph.items() if isinstance(key, tuple)]
    assert len(tasks) >= 4
    assert max(len(task) for task in tasks) < 10_000


# --- map_overlap -------------------------------------------------------------------------------------------


def smooth(rows):
    """Depends on 4 samples either side, and on the shape of what it gets."""
    kernel = np.ones(9)
    return np.stack([np.convolve(channel, kernel, "same") for channel in rows.T], axis=1) / len(rows)


@settings(deadline=None, max_examples=60)
@given(
    n_samples=st.integers(1, 650),
    chunk_blocks=st.integers(1, 8),
    depth=st.integers(0, 230),
    boundary=st.sampled_from(["edge", "zero"]),
    as_dask=st.booleans(),
)
def test_chunks_never_change_map_overlap(n_samples, chunk_blocks, depth, boundary, as_dask):
    array = noise(n_samples, 2, "float64")
    recording = from_array(da.from_array(array, chunks=(130, 2)) if as_dask else array, RATE)
    found = recording.with_chunks(chunk_blocks).map_overlap(smooth, depth, "float64", boundary)
    missing = -n_samples % 100
    mode = {"edge": "edge", "zero": "constant"}[boundary]
    padded = np.pad(array, ((depth, missing + depth), (0, 0)), mode=mode)
    blocks = [smooth(padded[i : i + 100 + 2 * depth])[depth : depth + 100] for i in range(0, n_samples, 100)]
    assert found.shape == array.shape
    assert np.array_equal(found.compute(scheduler="sync"), np.concatenate(blocks)[:n_samples])


def test_map_overlap_always_gives_func_the_same_shape():
    recording, _ = watched(730, chunk_blocks=3)
    shapes = []

    def note(rows):
        shapes.append(rows.shape)
        return rows

    recording.map_overlap(note, 20, "int16").compute(scheduler="sync")
    assert shapes == [(140, 3)] * 8


def test_map_overlap_gives_the_dtype_promised():
    found = watched(150)[0].map_overlap(lambda rows: rows / 2, 1, "float32")
    assert found.dtype == found.compute(scheduler="sync").dtype == np.float32


def test_func_may_work_in_place():
    array = noise(600)

    def in_place(rows):
        rows += 1
        return rows

    found = from_array(array, RATE).map_overlap(in_place, 30, "int16").compute(scheduler="sync")
    assert np.array_equal(found, array + 1)


def test_func_that_changes_the_shape_is_told():
    lazy = watched(300)[0].map_overlap(lambda rows: rows[1:], 10, "int16")
    with pytest.raises(ValueError, match=r"func was given \(120, 3\) and must return that shape, returned \(119, 3\)"):
        lazy.compute(scheduler="sync")


@pytest.mark.parametrize(
    ("halo", "boundary", "message"),
    [
        (-1, "edge", "halo: must be a whole number of samples >= 0, found -1"),
        (1.5, "edge", "found 1.5"),
        (1, "wrap", "found 'wrap'"),
    ],
)
def test_overlap_refuses(halo, boundary, message):
    with pytest.raises(InputError, match=message):
        watched(300)[0].overlapped(halo, boundary)


# --- laziness ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_dask", [False, True])
def test_nothing_is_computed_or_read_while_building(as_dask):
    array = noise(730)
    source = WatchedSource(array)
    recording = Recording(source, RATE, geometry.linear(3))
    if as_dask:
        recording = from_array(
            da.from_array(array, chunks=(90, 3)).map_blocks(refuse_to_compute, dtype="int16", meta=array[:0]),
            RATE,
        )
    with dask.config.set(scheduler=refuse_to_compute):
        part = recording[30:700, [2, 0]].slice_time(0.5, 4).with_chunks(3)
        lazy = [part.traces, part.overlapped(10), part.map_overlap(refuse_to_compute, 4, "f4", "zero")]
        assert [x.dtype for x in lazy] == [np.int16, np.int16, np.float32]
        assert "2" in repr(part) + part._repr_html_()
        with pytest.raises(AssertionError, match="something was computed"):
            lazy[0].compute()
    assert source.reads == []


def test_graph_names_are_cheap_and_stable():
    recording, source = watched(730)
    assert recording.overlapped(3).name == recording.overlapped(3).name
    assert recording.overlapped(3).name != recording.overlapped(4).name
    assert recording.traces.name.startswith("traces-")
    assert tokenize(recording) == tokenize(recording)
    changed = Recording(source, RATE, geometry.linear(3, pitch_um=26))
    assert tokenize(changed) != tokenize(recording)
    assert source.reads == []


def test_names_tell_large_probes_apart():
    positions = geometry.linear(3000).positions
    moved = positions.copy()
    moved[1500, 0] = 1
    assert tokenize(geometry.Probe(positions)) != tokenize(geometry.Probe(moved))


# --- slices ------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(data=st.data(), as_dask=st.booleans())
def test_slices_compose(data, as_dask):
    array = noise(300, 5)
    recording = from_array(da.from_array(array, chunks=(80, 5)) if as_dask else array, RATE)
    expected = array
    for _ in range(3):
        start = data.draw(st.integers(0, len(expected) - 1))
        stop = data.draw(st.integers(start + 1, len(expected)))
        channels = data.draw(st.permutations(range(expected.shape[1])))
        channels = channels[: data.draw(st.integers(1, len(channels)))]
        recording, expected = recording[start:stop, channels], expected[start:stop][:, channels]
    assert np.array_equal(recording.traces.compute(scheduler="sync"), expected)
    assert np.array_equal(
        recording.overlapped(4).compute(scheduler="sync")[4 : 4 + min(len(expected), 100)], expected[:100]
    )


def test_a_slice_ends_where_it_ends():
    """Rows outside a slice are filled, though its source goes on."""
    recording, source = watched(730)
    part = recording[100:250]
    found = part.overlapped(20, "zero").compute(scheduler="sync")
    assert not found[:20].any()
    assert not found[170:].any()
    assert np.array_equal(found[20:170], source.array[100:250])
    assert source.reads == [(100, 250)]


def test_a_slice_keeps_what_belongs_to_its_channels_and_times():
    recording = Recording(
        WatchedSource(noise(500, 4)),
        RATE,
        geometry.Probe([[0, 0], [0, 20], [0, 40], [0, 60]], shanks=[0, 0, 1, 1]),
        gain_to_uv=np.array([1.0, 2.0, 3.0, 4.0]),
        channel_ids=np.array(["a", "b", "c", "d"]),
        bad_channels=(3, 1),
        excluded_samples=((0, 50), (90, 210), (400, 500)),
        chunk_blocks=3,
    )
    part = recording.slice_time(1, 3).slice_channels([3, 2, 0])
    assert part.bad_channels == (0,)
    assert part.gain_to_uv.tolist() == [4, 3, 1]
    assert part.channel_ids.tolist() == ["d", "c", "a"]
    assert part.probe.shanks.tolist() == [1, 1, 0]
    assert part.excluded_samples == ((0, 110),)
    assert (part.n_samples, part.n_channels, part.chunk_blocks) == (200, 3, 3)
    mask = np.array([True, False, False, True])
    assert recording.slice_channels(mask).channel_ids.tolist() == ["a", "d"]
    assert recording[:, ::2].channel_ids.tolist() == ["a", "c"]
    assert recording[-100:].n_samples == 100
    assert recording[:, 2].n_channels == 1


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (
            lambda r: r.slice_time(2, 9),
            r"samples 200 to 900 \(2 s to 9 s\) are not a stretch of the recording of 730",
        ),
        (lambda r: r.slice_time(-1), "are not a stretch"),
        (lambda r: r.slice_time(3, 3), "are not a stretch"),
        (lambda r: r[800:], "are not a stretch"),
        (lambda r: r[::2], "give recording"),
        (lambda r: r[3], "give recording"),
        (lambda r: r[0:5, [0], 1], "give recording"),
        (lambda r: r.slice_channels([0, 3]), "different indices within 0 ... 2"),
        (lambda r: r.slice_channels([-1]), "different indices"),
        (lambda r: r.slice_channels([0, 0]), "different indices"),
        (lambda r: r.slice_channels([]), "different indices"),
        (lambda r: r.slice_channels([0.5]), "different indices"),
        (lambda r: r.slice_channels([True, False]), "different indices"),
    ],
)
def test_slices_refuse(select, message):
    with pytest.raises(InputError, match=message):
        select(watched(730)[0])


# --- the recording itself ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampling_rate": 0}, "sampling_rate: must be a positive number of Hz, found 0"),
        ({"sampling_rate": np.nan}, "sampling_rate"),
        ({"probe": geometry.linear(4)}, "geometry: 4 channels, but the recording has 3"),
        ({"chunk_blocks": 0}, "chunk_blocks: must be at least 1, found 0"),
        ({"gain_to_uv": [1, 2]}, r"gain_to_uv: expected one value or 3, found shape \(2,\)"),
        ({"gain_to_uv": [1, 0, 1]}, "finite and not 0"),
        ({"channel_ids": ["a", "b", "a"]}, "channel_ids: expected 3 different names"),
        ({"bad_channels": (1, 3)}, r"bad_channels: \[3\] are not channels"),
        (
            {"excluded_samples": ((10, 400),)},
            r"excluded_samples: \[10, 400\) is not within the recording of 300",
        ),
        ({"excluded_samples": ((10, 10),)}, "excluded_samples"),
    ],
)
def test_recording_refuses(arguments, message):
    fields = {
        "source": WatchedSource(noise(300)),
        "sampling_rate": RATE,
        "probe": geometry.linear(3),
        **arguments,
    }
    with pytest.raises(InputError, match=message):
        Recording(**fields)


def test_samples_round_half_up():
    recording = Recording(WatchedSource(noise(10)), 1000.0, geometry.linear(3))
    assert [recording.samples(ms) for ms in (0, 0.4, 0.5, 1.5, 2.5, 2.49)] == [0, 0, 1, 2, 3, 2]


def test_identity_tells_all_that_changes_a_result():
    recording, source = watched(300)
    base = {"source": source, "sampling_rate": RATE, "probe": recording.probe}
    others = [
        {"sampling_rate": 99.0},
        {"probe": geometry.linear(3, 26)},
        {"probe": geometry.Probe(recording.probe.positions, shanks=[0, 0, 1])},
        {"probe": geometry.Probe(recording.probe.positions, sample_shifts=[0, 0, 0.5])},
        {"gain_to_uv": 2.0},
        {"channel_ids": ["a", "b", "c"]},
        {"bad_channels": (1,)},
        {"excluded_samples": ((3, 9),)},
        {"source": from_array(source.array, RATE).source},
    ]
    texts = [json.dumps(Recording(**{**base, **other}).identity(), sort_keys=True) for other in [{}, *others]]
    assert len(set(texts)) == len(texts)
    assert recording.with_chunks(7).identity() == recording.identity()


def test_a_recording_tells_what_it_is():
    recording = from_array(noise(730), RATE).with_chunks(2)
    text = repr(recording)
    for part in (
        "7.3 s (730 samples)",
        "3, 0 of them bad",
        "100 Hz",
        "int16",
        "4.38 kB",
        "4 of 2 s (8 blocks)",
    ):
        assert part in text
    html = recording._repr_html_()
    assert html.count("<circle") == 3
    assert "730 samples" in html


def test_a_recording_travels():
    recording = from_array(noise(730), RATE)
    again = pickle.loads(pickle.dumps(recording))
    assert again.identity() == recording.identity()
    assert again.overlapped(3).name == recording.overlapped(3).name
