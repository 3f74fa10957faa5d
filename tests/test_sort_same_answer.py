"""Chunk length, workers, scheduler and the kind of source never change the spikes: the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from labs import recorded, simulated, traces_of

from yass_dask import Sorting, from_array, from_config, read_zarr
from yass_dask.pipeline import SortParams, sort
from yass_dask.recording import Recording
from yass_dask.runtime import Executor

PARAMS = SortParams(n_refinements=1)
WHOLE = 1000
SYNC = Executor("sync", 1)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("same") / "recording", seconds=10.4)


@pytest.fixture(scope="module")
def reference(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Sorting:
    """Sorted block by block, in the calling thread."""
    recording = from_config(config)
    assert recording.n_blocks == 11, "the last block is cut short"
    folder = tmp_path_factory.mktemp("same") / "reference"
    sort(recording.with_chunks(1), folder, PARAMS, client=SYNC)
    found = Sorting.open(folder)
    assert found.n_units >= 3
    assert found.n_spikes >= 100
    return found


def results(folder: Path) -> dict[str, bytes]:
    """What may not differ in one bit."""
    files = {name: (folder / name).read_bytes() for name in ("spike_train.npy", "templates.npy", "units.csv")}
    return {**files, "amplitudes": Sorting.open(folder).amplitudes.tobytes()}


def check_same(recording: Recording, folder: Path, reference: Sorting, client: Any) -> None:
    sort(recording, folder, PARAMS, client=client)
    assert reference.path is not None
    mine, other = results(folder), results(reference.path)
    assert [name for name in mine if mine[name] != other[name]] == []


@pytest.mark.parametrize(
    ("chunk_blocks", "executor"),
    [
        (WHOLE, Executor("sync", 1)),
        (3, Executor("threads", 2)),
        (4, Executor("threads", 4)),
        (1, Executor("threads", 2)),
        (2, Executor("local", 2)),
    ],
    ids=lambda value: f"{value.name}{value.n_workers}" if isinstance(value, Executor) else str(value),
)
def test_chunks_workers_and_schedulers(
    config: Path, reference: Sorting, tmp_path: Path, chunk_blocks: int, executor: Executor
) -> None:
    recording = from_config(config).with_chunks(chunk_blocks)
    with executor.open() as opened:
        check_same(recording, tmp_path, reference, opened)


@pytest.mark.parametrize("kind", ["channels", "zarr", "numpy", "dask", "big-endian"])
def test_sources(config: Path, reference: Sorting, tmp_path: Path, kind: str) -> None:
    like, traces = from_config(config), traces_of(config)
    about = {"geometry": like.probe, "gain_to_uv": like.gain_to_uv, "sampling_rate": like.sampling_rate}
    if kind in ("channels", "big-endian"):
        swapped = traces.astype(">i2") if kind == "big-endian" else traces
        recording = _binary(tmp_path / "file", swapped, like, kind)
    elif kind == "zarr":
        stored = zarr.open(str(tmp_path / "traces.zarr"), mode="w", shape=traces.shape, chunks=(7000, 3), dtype="i2")
        stored[:] = traces
        recording = read_zarr(tmp_path / "traces.zarr", **about)
    else:
        # Chunks across blocks and channels: nothing of ours.
        array = da.from_array(traces, chunks=(17_001, 5)) if kind == "dask" else traces
        recording = from_array(array, **about)
    check_same(recording.with_chunks(4), tmp_path / "out", reference, SYNC)


def _binary(folder: Path, traces: np.ndarray, like: Recording, kind: str) -> Recording:
    assert like.gain_to_uv is not None
    order = "channels" if kind == "channels" else "samples"
    config = recorded(
        folder, traces, geometry=like.probe.positions, gain_to_uv=like.gain_to_uv.tolist(), order=order,
        dtype=traces.dtype.str,
    )  # fmt: skip
    if order == "channels":
        np.ascontiguousarray(traces.T).tofile(folder / "recording.bin")
    return from_config(config)


def test_backends_agree(config: Path, tmp_path: Path) -> None:
    """NumPy's kernels are the specification; numba's differ in the last bits of sums only."""
    recording = from_config(config).slice_time(0, 5)
    params = SortParams(n_refinements=0)
    trains = [
        sort(recording, tmp_path / backend, params, backend=backend, client=SYNC).spike_train
        for backend in ("numpy", "numba")
    ]
    numpy_spikes, numba_spikes = ({tuple(row) for row in train.tolist()} for train in trains)
    assert len(numpy_spikes) >= 50
    assert len(numpy_spikes & numba_spikes) >= 0.99 * max(len(numpy_spikes), len(numba_spikes))
