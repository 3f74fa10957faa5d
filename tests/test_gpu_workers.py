"""GPUs: which backend is chosen, where its stages run, what happens where their memory is full; all without a GPU."""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import Any

import cuda_on_cpu
import numpy as np
import pytest
from conftest import Sorted
from distributed.diagnostics.plugin import SchedulerPlugin

from yass_dask import backends, sort
from yass_dask.backends import MEMORY, kernel, on_gpu, on_host
from yass_dask.chunked import Block, Chunk, read_ahead
from yass_dask.config.text import read_mapping
from yass_dask.errors import InputError
from yass_dask.runtime import Executor
from yass_dask.runtime.clients import local_client
from yass_dask.runtime.devices import Workers, choose_backend, visible_gpus
from yass_dask.store.disk import read_json

READ_TRACES = {"scale", "preprocess", "noise", "raster", "still", "spectrum", "detect", "basis", "features", "means",
               "even", "deconvolve", "residual"}  # fmt: skip


class WhoRan(SchedulerPlugin):
    """Names of the workers that ran each stage."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler, self.workers = scheduler, defaultdict(set)

    def transition(self, key: Any, start: str, finish: str, *_: Any, **more: Any) -> None:
        if start == "processing" and finish == "memory":
            stage = str(key).rsplit("-", 2)[0].split("-")[0].split("_")[0]
            self.workers[stage].add(self.scheduler.workers[more["worker"]].name)


@pytest.fixture(scope="module")
def mixed(small_sorted: Sorted, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, set], list[str]]:
    """A sort by JAX on a CPU worker and one that offers a GPU: its folder, who ran what, and the log."""
    folder, said = tmp_path_factory.mktemp("mixed") / "out", []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("yass_dask")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    with local_client(1, None, gpus=["7"]) as client:
        client.wait_for_workers(2)
        who = WhoRan(client.cluster.scheduler)
        client.cluster.scheduler.add_plugin(who)
        sort(small_sorted.recording, folder, small_sorted.params, backend="jax", client=client)
    logger.removeHandler(handler)
    return folder, dict(who.workers), said


def test_exactly_the_stages_that_read_traces_run_on_gpu_workers(mixed):
    _, ran, _ = mixed
    ran.pop("installed", None)
    on_gpu_worker = {stage for stage, workers in ran.items() if "gpu-7" in workers}
    assert on_gpu_worker == READ_TRACES & set(ran)
    assert {"cluster", "templates", "bank", "merge", "split"} <= set(ran) - on_gpu_worker
    assert all(len(workers) == 1 for workers in ran.values())


def test_the_choice_is_logged_and_in_every_recipe(mixed):
    folder, _, said = mixed
    assert any("jax on 1 GPU workers" in line and "numba on 1 CPU workers" in line for line in said)
    assert read_mapping(folder / "metadata.yaml")["backend"] == "jax"
    recipes = [read_json(path)["recipe"] for path in (folder / "yass.zarr").glob("*/.zattrs")]
    assert len(recipes) > 20
    for recipe in recipes:
        expected = "jax" if recipe["stage"].split("_")[0] in READ_TRACES else "numba"
        assert recipe["backend"] == expected, recipe["stage"]


def test_jax_finds_the_spikes_that_numba_finds(mixed, small_sorted):
    """Other roundings may name units otherwise, and move a spike that lies half-way to the sample beside."""
    found, expected = (np.load(folder / "spike_train.npy") for folder in (mixed[0], small_sorted.folder))
    assert len(found) == len(expected)
    names = dict(zip(found[:, 1], expected[:, 1], strict=True))
    same = (found[:, 0] == expected[:, 0]) & (np.array([names[unit] for unit in found[:, 1]]) == expected[:, 1])
    assert same.mean() >= 0.995


def test_a_sort_by_jax_on_the_cpu_in_this_process(small_sorted, mixed, tmp_path):
    """Where it runs changes nothing, with JAX neither."""
    sort(small_sorted.recording, tmp_path / "out", small_sorted.params, backend="jax", client=Executor("sync"))
    assert (tmp_path / "out/spike_train.npy").read_bytes() == (mixed[0] / "spike_train.npy").read_bytes()


# --- the choice ---------------------------------------------------------------------------------------------


class FakeClient:
    """A cluster whose workers have what they are said to have."""

    def __init__(self, gpu: dict[str, set[str]], cpu: dict[str, set[str]]) -> None:
        self.has, self.offering = gpu | cpu, set(gpu)

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        assert n_workers == -1, "by default dask names five workers only"
        return {"workers": {a: {"resources": {"GPU": 1} if a in self.offering else {}} for a in self.has}}

    def register_plugin(self, plugin: Any, name: str) -> None:
        assert name == "yass-offers-yass-cpu"

    def run(self, function: Any, backend: str, workers: list[str]) -> dict[str, bool]:
        assert function in (backends.installed, backends.on_gpu)
        return {address: backend in self.has[address] for address in workers}


BOTH, NONE = {"cupy", "jax"}, set()


@pytest.mark.parametrize(
    ("gpu", "asked", "begun", "chosen"),
    [
        ({"g1": BOTH, "g2": BOTH}, "auto", None, "cupy"),
        ({"g1": BOTH, "g2": {"jax"}}, "auto", None, "jax"),
        ({"g1": NONE}, "auto", None, "numba"),
        ({}, "auto", None, "numba"),
        ({"g1": BOTH}, "auto", "numba", "numba"),
        ({"g1": BOTH}, "auto", "jax", "jax"),
        ({}, "auto", "cupy", "numba"),
        ({"g1": BOTH}, "numpy", None, "numpy"),
        ({"g1": BOTH}, "jax", "numba", "jax"),
    ],
)
def test_auto_takes_what_all_gpu_workers_have(gpu, asked, begun, chosen):
    assert choose_backend(asked, FakeClient(gpu, {"c1": NONE}), begun) == chosen


def test_a_backend_that_workers_lack_is_refused_by_name():
    with pytest.raises(InputError, match="backend 'cupy' needs CuPy and a GPU that it finds; missing on g2"):
        choose_backend("cupy", FakeClient({"g1": BOTH, "g2": {"jax"}}, {"c1": NONE}), None)
    with pytest.raises(InputError, match=r"'jax' needs JAX: pip install .*missing on c1"):
        choose_backend("jax", FakeClient({}, {"c1": NONE}), None)


def test_without_a_gpu_cupy_is_refused_before_anything_runs(small_sorted, tmp_path):
    if on_gpu("cupy"):
        pytest.skip("there is a GPU here, so no GPU is missing")
    with pytest.raises(InputError, match="CuPy"):
        sort(small_sorted.recording, tmp_path / "out", backend="cupy", client=Executor("sync"))


def test_cpu_stages_keep_off_gpu_workers_only_where_there_are_others():
    assert Workers(("g",), ("c",)).submission("cpu") == {"resources": {"yass-cpu": 1}}
    assert Workers(("g",), ()).submission("cpu") == {}
    assert Workers((), ("c",)).submission("gpu") == {}
    assert Workers(("g",), ("c",)).submission("gpu") == {"resources": {"GPU": 1}}


def test_gpus_that_are_hidden_are_not_seen(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-3")
    assert visible_gpus() == ["1", "GPU-3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert visible_gpus() == []


# --- memory of the device -----------------------------------------------------------------------------------


@pytest.fixture
def memory(monkeypatch):
    """A process whose GPU kernels may take a batch of 64 MB."""
    monkeypatch.setattr(MEMORY, "limit", 0)
    monkeypatch.setattr(MEMORY, "bytes", 0)
    MEMORY.allow(2**28)
    return MEMORY


def refusing(compute: Any, above: int) -> Any:
    """The kernel of a device that is full where a batch is larger than this."""

    def run(*arrays: Any, memory: int, **options: Any) -> Any:
        if memory > above:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 34567 bytes.")
        return compute(*arrays, memory=memory, **options)

    return run


def project_case() -> tuple[tuple[np.ndarray], dict[str, Any]]:
    draw = np.random.default_rng(0)
    mix, bank = draw.normal(size=(3, 2, 2)).astype(np.float32), draw.normal(size=(2, 9, 3)).astype(np.float32)
    events = {name: draw.integers(0, top, 700) for name, top in (("rows", 200), ("sites", 3), ("shifts", 2))}
    gather = np.array([[0, 1], [1, 2], [2, 3]])
    return (draw.normal(size=(200, 4)).astype(np.float32),), events | {
        "gather": gather, "mix": mix, "bank": bank, "before": 4}  # fmt: skip


@pytest.mark.parametrize("fits", [2**24, 2**20 - 1])
def test_full_memory_halves_the_batch_and_goes_on_and_in_the_end_the_cpu_computes(memory, caplog, fits):
    from yass_dask.kernels import project_jax

    (traces,), options = project_case()
    limited = backends._within_memory(refusing(project_jax.project, fits), "project", "jax")
    found = on_host(limited(traces, **options))
    np.testing.assert_allclose(found, kernel("project", "numpy")(traces, **options), atol=1e-4)
    if fits >= 2**20:
        assert memory.bytes == fits
        assert "batches of 16 MB" in caplog.text
    else:
        assert "computed by the CPU" in caplog.text
    MEMORY.allow(2**28)
    assert memory.bytes <= 2**24, "what was found to fit stands"


def test_other_errors_of_a_kernel_are_not_taken_for_full_memory(memory):
    def broken(traces: np.ndarray, *, memory: int) -> None:
        raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        backends._within_memory(broken, "project", "jax")(np.zeros(3))


@pytest.mark.parametrize("size", [2**10, 2**16, 2**30])
@pytest.mark.parametrize("backend", ["jax"])
def test_the_size_of_a_batch_changes_nothing(backend, size):
    from yass_dask.kernels import project_jax

    (traces,), options = project_case()
    np.testing.assert_array_equal(
        on_host(project_jax.project(traces, **options, memory=size)), on_host(project_jax.project(traces, **options))
    )


def test_a_kernel_that_a_gpu_has_none_of_gets_its_arrays_on_the_host():
    import jax.numpy as jnp

    traces = jnp.arange(40, dtype=jnp.float32).reshape(20, 2)
    options = {
        "rows": np.array([5]), "channels": np.array([[0, 1]]), "before": 2, "n_samples": 5, "shifts": np.array([8]),
        "filters": np.eye(1, 3, 1, dtype=np.float32).repeat(17, 0),
    }  # fmt: skip
    found = kernel("snippets", "jax")(traces, **options)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, kernel("snippets", "numpy")(np.asarray(traces), **options))


# --- reading ahead ------------------------------------------------------------------------------------------


def test_the_next_block_is_read_while_one_is_at_hand():
    asked = []

    class Rows:
        def read(self, start: int, stop: int) -> np.ndarray:
            asked.append(start)
            return np.arange(start, stop)[:, None]

    some = [Block(Rows(), Chunk(0, 4, 10, 40), 0, number) for number in range(4)]
    seen = []
    for block in read_ahead(some, True):
        seen.append(int(block.traces[0, 0]))
        assert len(asked) <= len(seen) + 1
    assert seen == asked == [0, 10, 20, 30]
    assert [b.number for b in read_ahead(some, False)] == [0, 1, 2, 3]
    assert list(read_ahead([], True)) == []


# --- CUDA sources -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["find_peaks_cupy", "pursuit_cuda", "subtract_cupy", "whiten_cupy"])
def test_cuda_sources_compile_for_a_gpu(name, tmp_path):
    """test_kernels runs the same sources on the CPU."""
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("no GPU compiler (nvcc) here")
    with contextlib.nullcontext() if on_gpu("cupy") else cuda_on_cpu.in_place_of_cupy():
        cuda, kernels = (import_module(f"yass_dask.kernels.{module}") for module in ("cuda", name))
    code, assembly = tmp_path / "kernel.cu", tmp_path / "kernel.ptx"
    code.write_text(cuda.PRELUDE + kernels.SOURCE)
    command = [compiler, "--ptx", "-Werror", "all-warnings", str(code), "-o", str(assembly)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ".entry" in assembly.read_text()
