"""Kernels: every backend against its NumPy specification, and every specification against independent truths.

Kernels are found by listing the folder: a new file `<kernel>_<backend>.py` is compared without a line here,
and a kernel without inputs in `INPUTS` fails.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import cuda_on_cpu
import numpy as np
import planted
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

import yass_dask.kernels
from yass_dask import subsample
from yass_dask.backends import on_gpu, on_host
from yass_dask.kernels.bank import Spikes, no_spikes
from yass_dask.kernels.network import Classifier, Denoiser

BACKENDS = ("numpy", "numba", "jax", "cupy")


def kernel_files() -> list[tuple[str, str]]:
    """(kernel, backend) of every file `<kernel>_<backend>.py` in the folder."""
    stems = sorted(path.stem for path in Path(yass_dask.kernels.__file__).parent.glob("*.py"))
    split = [tuple(stem.rsplit("_", 1)) for stem in stems if stem.rpartition("_")[2] in BACKENDS]
    return [(name, backend) for name, backend in split]


GPU = ("jax", "cupy")
HAS_CUPY = on_gpu("cupy")
"""Whether CuPy finds a GPU here; where not, a stand-in takes its place and compiles the CUDA sources for the CPU."""


def load(name: str, backend: str) -> Callable[..., Any]:
    with contextlib.nullcontext() if HAS_CUPY or backend != "cupy" else cuda_on_cpu.in_place_of_cupy():
        return getattr(import_module(f"yass_dask.kernels.{name}_{backend}"), name)


def computes(name: str, backend: str) -> Callable[..., Any]:
    """The kernel, its result as it comes to the host."""

    def compute(*arrays: np.ndarray, **options: Any) -> Any:
        with cuda_on_cpu.barred():
            result = load(name, backend)(*arrays, **options)
        return on_host(result)

    return compute


def run(name: str, backend: str, case: Case) -> Any:
    return computes(name, backend)(*case.arrays, **case.options)


KERNELS = sorted({name for name, _ in kernel_files()})
OTHERS = [(name, backend) for name, backend in kernel_files() if backend != "numpy"]


class Case(NamedTuple):
    """One input of a kernel."""

    name: str
    arrays: tuple[np.ndarray, ...]
    options: dict[str, Any]


# --- inputs -------------------------------------------------------------------------------------------------


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def gaussian(n: int, c: int, seed: int = 0) -> np.ndarray:
    return rng(n, c, seed).normal(size=(n, c)).astype(np.float32)


def integers(n: int, c: int, top: int = 3, seed: int = 0) -> np.ndarray:
    """Rounded noise: ties and plateaus all over."""
    return rng(n, c, seed).integers(-top, top + 1, (n, c)).astype(np.float32)


def band(order: int = 3) -> np.ndarray:
    return signal.butter(order, [300, 6000], "bandpass", fs=30000, output="sos")


def bandpass_inputs() -> Iterator[Case]:
    high = signal.butter(3, 300, "highpass", fs=30000, output="sos")
    low = signal.butter(2, 6000, "lowpass", fs=30000, output="sos")
    raw = np.rint(200 * gaussian(3000, 4)).astype(np.int16)
    yield Case("int16", (raw,), {"sos": band()})
    yield Case("large offset", (raw + np.array([0, 20000, -20000, 5000], np.int16),), {"sos": band()})
    yield Case("constant", (np.full((500, 2), 31000, np.int16),), {"sos": band()})
    yield Case("constant, low-pass", (np.full((500, 2), -31000, np.int16),), {"sos": low})
    yield Case("high-pass of float64", (1e3 * gaussian(2000, 3).astype(np.float64),), {"sos": high})
    yield Case("step", (np.repeat([[0.0], [5000.0]], 800, axis=0),), {"sos": band()})
    yield Case("order 1", (gaussian(1000, 2),), {"sos": band(1)})
    yield Case("one channel", (gaussian(1000, 1),), {"sos": band()})
    yield Case("one sample", (gaussian(1, 3),), {"sos": band()})
    yield Case("no channel", (gaussian(100, 0),), {"sos": band()})
    yield Case("not contiguous", (gaussian(2000, 6)[::2, ::3],), {"sos": band()})


def common_reference_inputs() -> Iterator[Case]:
    yield Case("odd", (gaussian(200, 7),), {"groups": np.zeros(7, np.int64)})
    yield Case("even", (gaussian(200, 8),), {"groups": np.zeros(8, np.int64)})
    shanks = np.array([0, 1, 0, -1, 1, 1, 0, 2, -1])
    yield Case("two shanks, bad channels", (gaussian(200, 9),), {"groups": shanks})
    yield Case("ties", (integers(500, 6),), {"groups": np.array([0, 0, 0, 0, 1, 1])})
    yield Case("all equal", (np.full((50, 5), 3, np.float32),), {"groups": np.zeros(5, np.int64)})
    yield Case("sorted and reversed", (np.stack([np.arange(33.0), -np.arange(33.0)]).astype(np.float32),),
               {"groups": np.zeros(33, np.int64)})  # fmt: skip
    yield Case("all bad", (gaussian(20, 3),), {"groups": np.full(3, -1)})
    yield Case("one channel", (gaussian(20, 1),), {"groups": np.zeros(1, np.int64)})
    yield Case("one sample", (gaussian(1, 6),), {"groups": np.zeros(6, np.int64)})
    yield Case("empty", (gaussian(0, 6),), {"groups": np.zeros(6, np.int64)})


def whiten_inputs() -> Iterator[Case]:
    channels = np.array([[0, 1, 4], [1, 0, 2], [2, 1, 3], [3, 2, 4]], np.int32)
    filters = gaussian(4, 3, 1)
    yield Case("padding channels", (gaussian(300, 4),), {"filters": filters, "channels": channels})
    yield Case("one channel", (gaussian(300, 1),), {"filters": filters[:1, :1], "channels": channels[:1, :1]})
    yield Case("empty", (gaussian(0, 4),), {"filters": filters, "channels": channels})
    taps = np.convolve([0.1, -0.3, 1.0, -0.3, 0.1], np.ones(7)).astype(np.float32)
    both = {"filters": filters, "channels": channels, "taps": taps}
    yield Case("in time too, more than a tile", (gaussian(2500, 4),), both)
    yield Case("int16, not contiguous", (integers(2500, 8).astype(np.int16)[::2, ::2],), both)
    yield Case("shorter than the filter", (gaussian(3, 4),), both)
    wide = np.array([np.roll(np.arange(9), -c) for c in range(9)], np.int32)
    yield Case("nine neighbours", (gaussian(300, 9),), {"filters": gaussian(9, 9, 2), "channels": wide, "taps": taps})


def filter_time_inputs() -> Iterator[Case]:
    taps = np.array([0.1, -0.3, 1.0, -0.3, 0.1], np.float32)
    yield Case("more channels than a group", (gaussian(300, 19),), {"taps": taps})
    yield Case("shorter than the filter", (gaussian(3, 2),), {"taps": taps})
    yield Case("empty", (gaussian(0, 2),), {"taps": taps})


def line_of_neighbors(n: int, reach: int) -> np.ndarray:
    """Neighbours on a line, the channel itself first, padded with n."""
    lists = [sorted(range(max(0, c - reach), min(n, c + reach + 1)), key=lambda d: abs(d - c)) for c in range(n)]
    width = max(map(len, lists), default=1)
    return np.array([near + [n] * (width - len(near)) for near in lists], np.int32).reshape(n, width)


def find_peaks_inputs() -> Iterator[Case]:
    for seed, (sign, exclusion) in enumerate([(-1, 12), (0, 12), (1, 3), (0, 1), (-1, 0)]):
        near = line_of_neighbors(6, 1 + seed % 3)
        options = {"sign": sign, "exclusion": exclusion, "neighbors": near, "first": 20, "stop": 2980}
        yield Case(f"noise, sign {sign}, exclusion {exclusion}", (gaussian(3000, 6),), options | {"threshold": 2.5})
        yield Case(f"ties, sign {sign}, exclusion {exclusion}", (integers(3000, 6),), options | {"threshold": 2.0})
    whole = {"threshold": 1.0, "sign": 0, "exclusion": 5, "first": 0, "stop": 400}
    plateau = np.repeat(integers(20, 3), 20, axis=0)
    yield Case("plateaus, to the edges", (plateau,), whole | {"neighbors": line_of_neighbors(3, 1)})
    yield Case("exclusion beyond the block", (integers(30, 3),), whole | {
        "neighbors": line_of_neighbors(3, 2), "exclusion": 100, "stop": 30})  # fmt: skip
    yield Case("one channel", (gaussian(400, 1),), whole | {"neighbors": line_of_neighbors(1, 1)})
    yield Case("one sample", (np.full((1, 3), 2, np.float32),), whole | {
        "neighbors": line_of_neighbors(3, 1), "stop": 1})  # fmt: skip
    yield Case("empty", (gaussian(0, 3),), whole | {"neighbors": line_of_neighbors(3, 1), "stop": 0})
    yield Case("more than the first buffer", (gaussian(4000, 2),), whole | {
        "neighbors": line_of_neighbors(2, 0), "exclusion": 1, "threshold": 0.1, "stop": 4000})  # fmt: skip
    yield Case("exactly at the threshold", (np.float32([[0], [4.3], [0], [0]]),), whole | {
        "neighbors": line_of_neighbors(1, 0), "threshold": 4.3, "stop": 4})  # fmt: skip


def snippets_inputs() -> Iterator[Case]:
    filters = subsample.shift_filters()
    draw = rng(5)
    rows = draw.integers(-80, 580, 60).astype(np.int32)
    channels = draw.integers(0, 5, (60, 3)).astype(np.int32)
    options = {"before": 20, "n_samples": 51, "filters": filters}
    shifts = draw.integers(0, subsample.N_SHIFTS, 60).astype(np.int32)
    some = {"rows": rows, "channels": channels, "shifts": shifts}
    yield Case("over the edges, padding channels", (gaussian(500, 4),), options | some)
    yield Case("integers", (integers(500, 4),), options | some)
    yield Case("int64 rows", (gaussian(500, 4),), options | some | {"rows": rows.astype(np.int64)})
    none = {"rows": rows[:0], "channels": channels[:0], "shifts": shifts[:0]}
    yield Case("no events", (gaussian(500, 4),), options | none)
    yield Case("no rows", (gaussian(0, 4),), options | some)
    one = {"rows": np.array([0]), "channels": np.array([[0]]), "shifts": np.array([3])}
    yield Case("one channel, one sample", (gaussian(1, 1),), options | one | {"before": 0, "n_samples": 1})


def accumulate_inputs() -> Iterator[Case]:
    for case in snippets_inputs():
        n = len(case.options["rows"])
        draw = rng(n)
        weights = (1024 * draw.uniform(0.5, 1.5, n)).astype(np.float32)
        new = {"weights": weights, "groups": draw.integers(0, 4, n), "n_groups": 5}
        yield Case(case.name, case.arrays, case.options | new)


def quantize_inputs() -> Iterator[Case]:
    options = {"median": gaussian(1, 7)[0], "factor": np.float32([64, 3, 0, 1e5, 64, 2, 0.5]), "bar": 80.0}
    yield Case("zero and huge factors", (20 * gaussian(500, 7),), options)
    halves = np.arange(-70, 70, dtype=np.float32).reshape(-1, 7) / 2
    yield Case("halves", (halves,), {"median": np.zeros(7, np.float32), "factor": np.ones(7, np.float32), "bar": 3.0})
    yield Case("no artifacts", (gaussian(50, 7),), options | {"bar": np.inf})
    yield Case("empty", (gaussian(0, 7),), options)


def scale_inputs() -> Iterator[Case]:
    raw = rng(9).integers(-30000, 30000, (1000, 37)).astype(np.int16)
    for name, traces in {"int16": raw, "not contiguous": raw[::3, ::2], "empty": raw[:0], "one": raw[:1, :1]}.items():
        yield Case(name, (traces,), {"factor": 1 / 64})


def project_inputs() -> Iterator[Case]:
    draw = rng(8)
    gather = np.array([[0, 1, 3, 4], [2, 0, 1, 3], [4, 4, 4, 4]], np.int32)
    mix = np.where(gather[:, None] < 4, draw.normal(size=(3, 2, 4)), 0).astype(np.float32)
    sites = {"gather": gather, "mix": mix, "bank": draw.normal(size=(5, 31, 3)).astype(np.float32), "before": 12}
    events = {"rows": draw.integers(-40, 340, 50), "sites": draw.integers(0, 3, 50).astype(np.int32),
              "shifts": draw.integers(0, 5, 50).astype(np.int32)}  # fmt: skip
    yield Case("over the edges, padding channels", (gaussian(300, 4),), sites | events)
    yield Case("no events", (gaussian(300, 4),), sites | {name: values[:0] for name, values in events.items()})
    yield Case("no rows", (gaussian(0, 4),), sites | events)
    yield Case("one sample", (gaussian(1, 4),), sites | events)


def subtract_inputs() -> Iterator[Case]:
    draw = rng(6)
    channels = np.array([[0, 1, 2], [2, 3, 4], [3, 2, 1]], np.int32)
    waveforms = 10 * gaussian(3, 31 * 3).reshape(3, 31, 3)
    waveforms[1, :, 2] = 0
    filters = subsample.shift_filters()
    options = {"factor": 0.5, "waveforms": waveforms, "channels": channels, "peak": 10, "filters": filters}
    n = 80
    spikes = {
        "rows": np.sort(draw.integers(-60, 460, n)),
        "units": draw.integers(0, 3, n).astype(np.int32),
        "shifts": draw.integers(0, subsample.N_SHIFTS, n).astype(np.int32),
        "amplitudes": draw.uniform(0.5, 1.6, n).astype(np.float32),
    }
    yield Case("overlapping, over the edges, padding channels", (gaussian(400, 4),), options | spikes)
    yield Case("no spikes", (gaussian(400, 4),), options | {k: v[:0] for k, v in spikes.items()})
    yield Case("no rows", (gaussian(0, 4),), options | spikes)
    yield Case("one sample", (gaussian(1, 4),), options | spikes)


def coreset_inputs() -> Iterator[Case]:
    yield Case("gaussian", (gaussian(900, 3),), {"n_cells": 50})
    yield Case("ties", (integers(500, 2, 1),), {"n_cells": 30})
    yield Case("all equal", (np.ones((300, 2)),), {"n_cells": 30})
    yield Case("fewer points than cells", (gaussian(10, 2),), {"n_cells": 30})
    yield Case("empty", (gaussian(0, 2),), {"n_cells": 30})


def mixture_inputs() -> Iterator[Case]:
    points = np.concatenate([gaussian(300, 2, s) + np.array(at) for s, at in enumerate([(0, 0), (9, 0), (0, 9)])])
    yield Case("three clusters", (points,), as_cells(points) | {"max_clusters": 10, "min_weight": 10})
    yield from (blobs(1, 1), blobs(5, 3), blobs(12, 10))
    yield Case("one cell", (points[:1],), as_cells(points[:1]) | {"max_clusters": 10, "min_weight": 10})


def blobs(n_clusters: int, n_dims: int) -> Case:
    """Clusters of all sizes, some close together, in cells of several points."""
    draw = rng(n_clusters, n_dims)
    sizes = draw.integers(30, 400, n_clusters)
    points = np.concatenate([draw.normal(size=(n, n_dims)) + 3 * draw.normal(size=n_dims) for n in sizes])
    cells = load("coreset", "numpy")(points, n_cells=len(points) // 4)
    weights = np.bincount(cells).astype(float)
    means = np.zeros((len(weights), n_dims))
    np.add.at(means, cells, points / weights[cells][:, None])
    within = points - means[cells]
    scatter = np.zeros((len(weights), n_dims, n_dims))
    np.add.at(scatter, cells, within[:, :, None] * within[:, None, :] / weights[cells][:, None, None])
    options = {"weights": weights, "scatter": scatter, "max_clusters": 30, "min_weight": 12}
    return Case(f"{n_clusters} clusters in {n_dims} dimensions", (means,), options)


def as_cells(points: np.ndarray) -> dict[str, np.ndarray]:
    """Every point a cell of its own."""
    n, d = points.shape
    return {"weights": np.ones(n), "scatter": np.zeros((n, d, d))}


def valley_inputs() -> Iterator[Case]:
    yield Case("two humps", (gaussian(300, 1)[:, 0], 6 + gaussian(300, 1, 1)[:, 0]), {})
    yield Case("empty", (np.zeros(0), np.zeros(0)), {})


# --- inputs of the pursuit ----------------------------------------------------------------------------------


class Planted(NamedTuple):
    """Spikes planted in a block."""

    units: list[planted.Shape]
    rows: np.ndarray
    labels: np.ndarray
    amplitudes: np.ndarray
    traces: np.ndarray


@cache
def planted_block(n_rows: int = 6000, n_spikes: int = 150, noise: float = 0.0, jitter: bool = False) -> Planted:
    """Spikes of 6 units on 8 channels, overlapping across units, no unit within 25 samples of itself."""
    draw = rng(n_rows, n_spikes)
    units = planted.shapes(6, 8)
    rows, labels = spaced(draw, n_rows, n_spikes, len(units))
    amplitudes = draw.uniform(0.8, 1.2, len(rows))
    shift = draw.uniform(-0.45, 0.45, len(rows)) if jitter else 0.0
    traces = planted.plant(n_rows, units, rows + shift, labels, amplitudes) + noise * draw.normal(size=(n_rows, 8))
    return Planted(units, rows, labels, amplitudes, traces.astype(np.float32))


def spaced(draw: np.random.Generator, n_rows: int, n: int, n_units: int) -> tuple[np.ndarray, np.ndarray]:
    """Random rows and units in order of row, then unit; spikes of one unit lie more than 25 rows apart."""
    taken: list[tuple[int, int]] = []
    for row, unit in zip(
        draw.integers(50, n_rows - 50, n).tolist(), draw.integers(0, n_units, n).tolist(), strict=True
    ):
        if all(unit != other or abs(row - at) > 25 for at, other in taken):
            taken.append((row, unit))
    rows, labels = np.array(sorted(taken)).T
    return rows, labels


def pursue_case(name: str, block: Planted, **changes: Any) -> Case:
    bank = planted.bank(planted.waveforms(block.units))
    options = {"bank": bank, "given": no_spikes(), "first": 0, "stop": len(block.traces), "n_sweeps": 2}
    options |= changes
    return Case(name, (correlation(block.traces, options["bank"]),), options)


def correlation(traces: np.ndarray, bank: Any) -> np.ndarray:
    """Of traces that are white already."""
    return load("correlate", "numpy")(traces, **as_it_is(traces.shape[1]), bank=bank)


def as_it_is(n_channels: int) -> dict[str, Any]:
    """A whitening that changes nothing."""
    channels = np.arange(n_channels, dtype=np.int32)[:, None]
    return {"factor": 1.0, "filters": np.ones((n_channels, 1), np.float32), "channels": channels}


def pursue_inputs() -> Iterator[Case]:
    clean = planted_block()
    yield pursue_case("clean", clean)
    yield pursue_case("clean, between samples", planted_block(jitter=True))
    yield pursue_case("no sweeps", clean, n_sweeps=0)
    yield pursue_case("part of the rows", clean, first=1007, stop=3011)
    yield pursue_case("no rows to place in", clean, first=100, stop=100)
    standing = slice(0, None, 3)
    given = Spikes(
        clean.rows[standing].astype(np.int32),
        clean.labels[standing].astype(np.int32),
        np.full(len(clean.rows[standing]), subsample.CENTER, np.int32),
        clean.amplitudes[standing].astype(np.float32),
        np.ones(len(clean.rows[standing]), np.float32),
    )
    yield pursue_case("spikes that stand already", clean, given=given)
    yield pursue_case("standing spikes outside", clean, given=given._replace(row=given.row - 3000))
    yield pursue_case("nothing there", clean._replace(traces=np.zeros((500, 8), np.float32)))
    yield pursue_case("shorter than a template", clean._replace(traces=clean.traces[:7]))
    yield pursue_case("one row", clean._replace(traces=clean.traces[:1]))
    yield pursue_case("no units", clean, bank=planted.bank(np.zeros((0, planted.N_SAMPLES, 8), np.float32)))
    yield pursue_case("support padded", clean, bank=padded_support(planted.bank(planted.waveforms(clean.units))))
    yield Case("integer ties", *integer_ties())
    yield pursue_case("noise", planted_block(20000, 500, noise=1.0, jitter=True), bank=realistic_bank())


def realistic_bank() -> Any:
    """Thresholds and precisions of a sort: spikes in noise of sd 1 compete with chance."""
    bank = planted.bank(planted.waveforms(planted.shapes(6, 8)), threshold=0.2)
    return bank._replace(precision=np.full(6, 44, np.float32))


def padded_support(bank: Any) -> Any:
    """The same bank with two columns of padding channels, weights of which must not count."""
    support = np.pad(bank.support, ((0, 0), (0, 2)), constant_values=bank.support.max() + 1)
    return bank._replace(support=support, spatial=np.pad(bank.spatial, ((0, 0), (0, 0), (0, 2))))


def integer_ties() -> tuple[tuple[np.ndarray], dict[str, Any]]:
    """Two units of one template and a third like them on other channels: equal gains at equal and other rows.

    All sums are whole numbers, exact in float32, so even ties must go the same way everywhere.
    """
    one = np.zeros((9, 2), np.float32)
    one[:, 0] = [0, 0, -1, -2, -4, -2, -1, 0, 0]
    templates = np.stack([one, one, one[:, ::-1]])
    bank = planted.bank(templates, peak=4, refractory=6)
    # Factors that are whole numbers too: rank one, the time course of whole numbers.
    temporal, spatial = np.zeros_like(bank.temporal), np.zeros_like(bank.spatial)
    temporal[:, 0], spatial[:2, 0, 0], spatial[2, 0, 1] = one[:, 0], 1, 1
    bank = bank._replace(temporal=temporal, spatial=spatial, precision=np.zeros(3, np.float32))
    traces = np.zeros((300, 2), np.float32)
    for row, channel in [
        (20, 0),
        (20, 1),
        (60, 0),
        (90, 1),
        (150, 0),
        (150, 1),
        (200, 1),
        (230, 0),
        (290, 0),
    ]:
        traces[row - 4 : row + 5, channel] += one[:, 0]
    return (correlation(traces, bank),), {"bank": bank, "given": no_spikes(), "first": 0, "stop": 300, "n_sweeps": 1}


def correlate_inputs() -> Iterator[Case]:
    block = planted_block(noise=1.0)
    bank = planted.bank(planted.waveforms(block.units))
    taps = np.convolve([0.1, -0.3, 1.0, -0.3, 0.1], np.ones(7)).astype(np.float32)
    plain = as_it_is(8) | {"bank": bank}
    yield Case("templates", (block.traces,), plain)
    yield Case("whitened along time first", (block.traces,), plain | {"taps": taps})
    near = np.stack([np.arange(8), np.roll(np.arange(8), 1), np.arange(1, 9)], axis=1).astype(np.int32)
    mixed = plain | {"filters": gaussian(8, 3), "channels": near, "taps": taps, "factor": 1 / 64}
    yield Case("counts, whitened in space", (np.rint(64 * block.traces).astype(np.int16),), mixed)
    yield Case("support padded", (block.traces,), mixed | {"bank": padded_support(bank)})
    some = bank._replace(support=bank.support[:, :3], spatial=bank.spatial[:, :, :3])
    yield Case("few channels", (block.traces,), mixed | {"bank": some})
    yield Case("shorter than a template", (block.traces[:7],), mixed)
    yield Case("one row", (block.traces[:1],), plain)
    yield Case("no row", (block.traces[:0],), plain)
    no_units = planted.bank(np.zeros((0, planted.N_SAMPLES, 8), np.float32))
    yield Case("no units", (block.traces,), plain | {"bank": no_units})
    many = np.tile(block.traces, (40, 1))
    yield Case("several groups of tiles", (many,), plain | {"taps": taps})


def beside_inputs() -> Iterator[Case]:
    space = {"filters": gaussian(4, 3, 1), "channels": np.array([[0, 1, 4], [1, 0, 2], [2, 1, 3], [3, 2, 4]], np.int32)}
    draw = rng(9)
    events = {"rows": draw.integers(0, 300, 70).astype(np.int32), "sites": draw.integers(0, 4, 70).astype(np.int32)}
    yield Case("to the ends, padding channels", (gaussian(300, 4),), space | events)
    yield Case("no events", (gaussian(300, 4),), space | {name: values[:0] for name, values in events.items()})
    yield Case("three rows", (gaussian(3, 4),), space | events)


def localize_inputs() -> Iterator[Case]:
    draw = rng(10)
    positions = draw.uniform(0, 60, (4, 2))
    there = {"sites": np.array([[0, 1, 2], [1, 0, 4], [2, 3, 4], [3, 2, 4]], np.int32), "positions": positions,
             "grid": draw.uniform(5, 30, (40, 3)), "reach": 5}  # fmt: skip
    events = {"rows": draw.integers(5, 295, 50), "channels": draw.integers(0, 4, 50).astype(np.int32)}
    yield Case("padding channels", (gaussian(300, 4),), there | events)
    yield Case("no events", (gaussian(300, 4),), there | {name: values[:0] for name, values in events.items()})
    yield Case("silence", (np.zeros((300, 4), np.float32),), there | events)


def pair_shifts_inputs() -> Iterator[Case]:
    images = np.abs(rng(11).normal(size=(20, 2, 60))).astype(np.float32)
    pairs = {"first": np.arange(19), "second": np.arange(1, 20), "reach": 7}
    hat = np.maximum(1 - np.abs(np.arange(60) - 20) / 15, 0).astype(np.float32)
    yield Case("flat window", (images,), pairs | {"window": np.ones(60, np.float32)})
    yield Case("a window with an end", (images,), pairs | {"window": hat})
    yield Case("nothing to see", (0 * images,), pairs | {"window": hat})
    yield Case("no pairs", (images,), pairs | {"window": hat, "first": np.arange(0), "second": np.arange(0)})


# --- inputs of the networks ---------------------------------------------------------------------------------


def some_classifier(n_window: int, n_neighbors: int, filters: tuple[int, ...]) -> Classifier:
    first, second, *rest = filters
    hidden = rest[0] if rest else 1
    shapes = [(n_window, first), (first,), (first, second), (second,), (n_neighbors, second, hidden), (hidden,)]
    draw = rng(n_window, n_neighbors, *filters)
    shapes += [(hidden if rest else 0,), (1,)]
    return Classifier(*(draw.normal(size=s).astype(np.float32) / max(1, s[0]) ** 0.5 for s in shapes))


def some_denoiser(n_window: int, taps: tuple[int, int] = (5, 11)) -> Denoiser:
    (a, b), left = taps, n_window + 2 - sum(taps)
    shapes = [(a, 16), (16,), (b, 16, 8), (8,), (left, 8, n_window), (n_window,), (n_window, n_window)]
    draw = rng(n_window)
    return Denoiser(*(0.3 * draw.normal(size=s).astype(np.float32) for s in shapes))


def classify_inputs() -> Iterator[Case]:
    draw = rng(12)
    events = {
        "rows": draw.integers(-40, 340, 300),
        "channels": draw.integers(0, 5, (300, 3)),
        "before": 9,
        "limit": np.inf,
    }
    for filters in ((16, 8), (12, 5, 7)):
        options = events | {"network": some_classifier(21, 3, filters)}
        yield Case(f"over the edges, padding channels, {len(filters)} layers", (gaussian(300, 4),), options)
    yield Case("large windows scaled down", (gaussian(300, 4),), options | {"limit": 2.5})
    yield Case("no events", (gaussian(300, 4),), options | {"rows": events["rows"][:0],
               "channels": events["channels"][:0]})  # fmt: skip
    yield Case("no rows", (gaussian(0, 4),), options)
    many = {"rows": draw.integers(0, 300, 3000), "channels": draw.integers(0, 5, (3000, 3)).astype(np.int32)}
    yield Case("more than are taken at once", (np.asfortranarray(gaussian(300, 4)),), options | many)


def denoise_inputs() -> Iterator[Case]:
    network = some_denoiser(31)
    yield Case("some", (gaussian(70, 31),), {"network": network})
    yield Case("more than are taken at once", (gaussian(2100, 31),), {"network": network})
    yield Case("one", (gaussian(1, 15),), {"network": some_denoiser(15)})
    yield Case("none", (gaussian(0, 31),), {"network": network})
    yield Case("dense", (gaussian(70, 31),), {"network": some_denoiser(31, (31, 1))})


INPUTS: dict[str, Callable[[], Iterator[Case]]] = {
    "accumulate": accumulate_inputs,
    "bandpass": bandpass_inputs,
    "beside": beside_inputs,
    "classify": classify_inputs,
    "common_reference": common_reference_inputs,
    "coreset": coreset_inputs,
    "correlate": correlate_inputs,
    "denoise": denoise_inputs,
    "filter_time": filter_time_inputs,
    "find_peaks": find_peaks_inputs,
    "localize": localize_inputs,
    "mixture": mixture_inputs,
    "pair_shifts": pair_shifts_inputs,
    "project": project_inputs,
    "pursue": pursue_inputs,
    "quantize": quantize_inputs,
    "scale": scale_inputs,
    "snippets": snippets_inputs,
    "subtract": subtract_inputs,
    "valley": valley_inputs,
    "whiten": whiten_inputs,
}


# --- comparisons --------------------------------------------------------------------------------------------


def same(expected: Any, found: Any, case: Case) -> None:
    """Same bits: comparisons and selections of the same numbers."""
    for a, b in zip(as_tuple(expected), as_tuple(found), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def nearly(share: float) -> Callable[[Any, Any, Case], None]:
    """Within `share` of the largest value that goes in or comes out."""

    def compare(expected: Any, found: Any, case: Case) -> None:
        assert (expected.shape, expected.dtype) == (found.shape, found.dtype)
        largest = max(np.abs(a).max(initial=0) for a in (*case.arrays, expected))
        np.testing.assert_allclose(found, expected, rtol=0, atol=share * float(largest))

    return compare


def same_spikes(expected: Spikes, found: Spikes, case: Case) -> None:
    """Clean: the same spikes. In noise, gains that differ in the last bits may change places: 99.9 %."""
    assert [a.dtype for a in expected] == [a.dtype for a in found]
    places = [list(zip(s.row.tolist(), s.unit.tolist(), strict=True)) for s in (expected, found)]
    assert [place == sorted(place) for place in places] == [True, True]
    common = set(places[0]) & set(places[1])
    assert len(common) >= (0.999 if case.name == "noise" else 1) * max(map(len, places))
    a, b = ([place in common for place in some] for some in places)
    # Sub-sample places are rounded to 1/16: a parabola through float32 sums may fall on the other side.
    assert np.abs(expected.shift[a] - found.shift[b]).max(initial=0) <= 1
    # float32 sums over some hundreds of products; a shift of 1/16 changes the amplitude by some 1e-3.
    np.testing.assert_allclose(found.amplitude[b], expected.amplitude[a], atol=5e-3)
    np.testing.assert_allclose(found.gain[b], expected.gain[a], rtol=1e-2, atol=1e-3)


COMPARE: dict[str, Callable[[Any, Any, Case], None]] = {
    # rounded to whole numbers where the sum falls on the other side of a half, some hundreds of times
    "accumulate": nearly(1e-4),
    # float32 state against float64: 6e-8 a step, amplified by poles close to the unit circle.
    "bandpass": nearly(2e-5),
    # sums over some tens of neighbours
    "beside": nearly(2e-6),
    # sums over windows, filters and channels, twice a layer
    "classify": nearly(5e-6),
    "common_reference": same,
    "coreset": same,
    # transforms of a tile keep 6e-8 of its largest value a step
    "correlate": nearly(2e-6),
    # the same transforms
    "filter_time": nearly(2e-6),
    "denoise": nearly(5e-6),
    "find_peaks": same,
    # responsibilities: float64, sums in another order
    "mixture": nearly(1e-7),
    # float32 norms against float64 ones, in the exponent of a weight
    "localize": nearly(1e-5),
    "quantize": same,
    "scale": same,
    # eleven products a sample, summed in another order or with fused multiply-adds
    "snippets": nearly(1e-6),
    # the same, up to some tens of spikes on top of each other
    "subtract": nearly(2e-5),
    "pursue": same_spikes,
    # sums over some tens of neighbours and taps, or over a window
    "project": nearly(2e-6),
    "whiten": nearly(2e-6),
}


def as_tuple(result: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(a) for a in (result if isinstance(result, tuple) else (result,)))


def cases(names: list[str]) -> list[Any]:
    return [pytest.param(name, case, id=f"{name}: {case.name}") for name in names for case in INPUTS[name]()]


def test_every_kernel_has_a_numpy_file_and_inputs():
    assert {name for name, backend in kernel_files() if backend == "numpy"} == set(KERNELS)
    assert set(KERNELS) == set(INPUTS), "register inputs for a new kernel in INPUTS"
    assert {name for name, _ in OTHERS} <= set(COMPARE), "state in COMPARE how the backends must agree"


@pytest.mark.parametrize(("name", "backend"), kernel_files())
def test_first_argument_by_place_the_rest_by_name(name, backend):
    parameters = list(inspect.signature(load(name, backend)).parameters.values())
    by_place = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(by_place) == len(next(INPUTS[name]()).arrays)
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[len(by_place) :])


@pytest.mark.parametrize(("name", "backend"), OTHERS)
def test_signature_is_the_specification(name, backend):
    """A kernel for a GPU may be told besides how much memory it may use at once."""
    found = inspect.signature(load(name, backend))
    if backend in GPU:
        asked = [p for p in found.parameters.values() if p.name != "memory"]
        found = found.replace(parameters=asked)
    assert found == inspect.signature(load(name, "numpy"))


@pytest.mark.parametrize(("name", "case"), cases(sorted({name for name, _ in OTHERS})))
def test_backends_agree_with_the_specification(name, case):
    expected = run(name, "numpy", case)
    for other, backend in OTHERS:
        if other == name:
            COMPARE[name](expected, run(name, backend, case), case)


@pytest.mark.parametrize("name", sorted(name for name, backend in OTHERS if backend == "jax"))
def test_jax_kernels_call_nothing_back(name, monkeypatch):
    """What XLA compiles of a kernel never stops to ask Python."""
    module, traced = import_module(f"yass_dask.kernels.{name}_jax"), []
    homes = {getattr(value, "__module__", None) for value in vars(module).values() if callable(value)}
    modules = {module} | {import_module(home) for home in homes if str(home).startswith("yass_dask.kernels")}

    def watched(compiled: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            traced.append(str(compiled.trace(*args, **options).jaxpr))
            return compiled(*args, **options)

        return call

    for owner in modules:
        for attribute, value in list(vars(owner).items()):
            if hasattr(value, "trace") and hasattr(value, "lower"):
                monkeypatch.setattr(owner, attribute, watched(value))
    case = next(INPUTS[name]())
    computes(name, "jax")(*case.arrays, **case.options)
    assert traced
    assert not any("callback" in jaxpr for jaxpr in traced)


@pytest.mark.parametrize("name", ["classify", "denoise"])
def test_batches_on_a_gpu_do_not_show(name):
    """A kernel with CuPy in as little memory as there can be: the last batch is not full."""
    case = next(case for case in INPUTS[name]() if case.name == "more than are taken at once")
    expected, compute = run(name, "numpy", case), computes(name, "cupy")
    for memory in (1, 2**20):
        COMPARE[name](expected, compute(*case.arrays, **case.options, memory=memory), case)


@pytest.mark.parametrize(("name", "case"), cases(KERNELS))
def test_kernels_are_pure(name, case):
    """The inputs, read-only here, stay as they are, and a second call gives the same bits."""
    for array in (*case.arrays, *(v for v in case.options.values() if isinstance(v, np.ndarray))):
        array.flags.writeable = False
    for backend in [backend for other, backend in kernel_files() if other == name]:
        first, second = (as_tuple(run(name, backend, case)) for _ in range(2))
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)


# --- bandpass -----------------------------------------------------------------------------------------------


def test_bandpass_is_sosfiltfilt_away_from_the_ends():
    x = np.rint(300 * gaussian(6000, 3)) + 1000
    expected = signal.sosfiltfilt(band(), x, axis=0, padtype="constant")
    # The transient of the slowest pole (about 0.96) is below 1e-8 after 500 samples; float32 keeps 6e-8.
    found = load("bandpass", "numpy")(x, sos=band())
    np.testing.assert_allclose(found[500:-500], expected[500:-500], atol=1e-6 * np.abs(x).max())


def test_bandpass_keeps_times():
    x = np.zeros((4001, 1))
    x[2000] = 1000
    y = load("bandpass", "numpy")(x, sos=band())[:, 0]
    assert y.argmax() == 2000
    np.testing.assert_allclose(y, y[::-1], atol=1e-4)


# --- common reference ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [b for n, b in kernel_files() if n == "common_reference"])
def test_common_reference_takes_the_median_of_the_group(backend):
    x = np.float32([[1, 5, 100, 2, 7], [3, 3, 3, 4, 9]])
    y = computes("common_reference", backend)(x, groups=np.array([0, 0, -1, 0, 1]))
    np.testing.assert_array_equal(y, [[-1, 3, 100, 0, 0], [0, 0, 3, 1, 0]])


# --- filter_time --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_samples", [3, 300])
def test_filter_along_time_is_a_centred_convolution(n_samples):
    x, taps = gaussian(n_samples, 19), np.array([0.1, -0.3, 1.0, -0.3, 0.1], np.float32)
    padded = np.pad(x.astype(float), ((2, 2), (0, 0)))
    expected = sum(tap * padded[k : k + n_samples] for k, tap in enumerate(taps))
    np.testing.assert_allclose(load("filter_time", "numpy")(x, taps=taps), expected, atol=1e-5)


# --- whiten -------------------------------------------------------------------------------------------------


def test_whitening_gives_the_identity():
    mix = gaussian(5, 5, 3) + 2 * np.eye(5, dtype=np.float32)
    x = gaussian(5000, 5, 4) @ mix
    values, vectors = np.linalg.eigh(np.cov(x.T.astype(np.float64), bias=True))
    root = vectors / np.sqrt(values) @ vectors.T
    order = np.argsort(rng(7).random((5, 5)), axis=1)
    filters = np.take_along_axis(root, order, axis=1).astype(np.float32)
    y = load("whiten", "numpy")(x, filters=filters, channels=order.astype(np.int32))
    np.testing.assert_allclose(np.cov(y.T, bias=True), np.eye(5), atol=1e-4)


# --- peaks --------------------------------------------------------------------------------------------------


@st.composite
def peak_problems(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, Any]]:
    n, c = draw(st.integers(0, 14)), draw(st.integers(1, 4))
    values = draw(st.lists(st.integers(-3, 3), min_size=n * c, max_size=n * c))
    first = draw(st.integers(0, n))
    options = {
        "threshold": float(draw(st.integers(1, 3))),
        "sign": draw(st.sampled_from([-1, 0, 1])),
        "exclusion": draw(st.integers(0, 4)),
        "neighbors": line_of_neighbors(c, draw(st.integers(0, 3))),
        "first": first,
        "stop": draw(st.integers(first, n)),
    }
    return np.array(values, np.float32).reshape(n, c), options


@pytest.mark.parametrize("backend", [b for n, b in kernel_files() if n == "find_peaks"])
def test_peaks_are_those_of_the_words(backend):
    @settings(max_examples=30 if backend == "jax" else 300, deadline=None)  # JAX compiles for each shape
    @given(problem=peak_problems())
    def check(problem: tuple[np.ndarray, dict[str, Any]]) -> None:
        x, options = problem
        samples, channels, heights = computes("find_peaks", backend)(x, **options)
        np.testing.assert_array_equal(heights, x[samples, channels])
        assert list(zip(samples.tolist(), channels.tolist(), strict=True)) == planted.peaks_by_the_words(x, **options)

    check()


# --- snippets and subtract ----------------------------------------------------------------------------------


def test_snippets_interpolate_a_band_limited_signal():
    """Against FFT interpolation, exact for periodic signals; band up to 0.2 of the rate (6 of 30 kHz)."""
    n, fine = 1200, subsample.STEPS
    spectrum = np.zeros(n // 2 + 1, complex)
    spectrum[1 : n // 5] = rng(8).normal(size=n // 5 - 1) + 1j * rng(9).normal(size=n // 5 - 1)
    x = np.fft.irfft(spectrum, n)
    x /= x.std()
    between = signal.resample(x, n * fine)
    rows, shifts = np.array([300, 500, 700]), np.array([0, 5, 16], np.int32)
    found = load("snippets", "numpy")(
        np.float32(x[:, None]), rows=rows, channels=np.zeros((3, 1), np.int32), before=20, n_samples=41,
        shifts=shifts, filters=subsample.shift_filters(),
    )  # fmt: skip
    for i, (row, shift) in enumerate(zip(rows, shifts, strict=True)):
        # Later by s: y(t) = x(t - s).
        times = (row - 20 + np.arange(41)) * fine - (int(shift) - subsample.CENTER)
        # Eleven taps are not a perfect low-pass: a hundredth or two of the signal's sd at this bandwidth.
        np.testing.assert_allclose(found[i, :, 0], between[times], atol=0.03)


@pytest.mark.parametrize("backend", [b for n, b in kernel_files() if n == "subtract"])
def test_subtract_then_add_is_the_identity(backend):
    case = next(subtract_inputs())
    subtract = computes("subtract", backend)
    options = case.options | {"factor": 1.0}
    left = subtract(*case.arrays, **options)
    assert np.abs(left - case.arrays[0]).max() > 1
    back = subtract(left, **options | {"amplitudes": -case.options["amplitudes"]})
    # Up to some ten spikes of height 30 on a sample: float32 keeps 2e-6 of the largest intermediate sum.
    np.testing.assert_allclose(back, case.arrays[0], atol=2e-4)


def test_subtract_takes_away_what_was_planted():
    units = planted.shapes(6, 8)
    draw = rng(10)
    rows, labels = spaced(draw, 4000, 100, len(units))
    shift, amplitudes = draw.uniform(-0.5, 0.5, len(rows)), draw.uniform(0.8, 1.2, len(rows))
    traces = planted.plant(4000, units, rows + shift, labels, amplitudes).astype(np.float32)
    left = load("subtract", "numpy")(
        traces, factor=1.0, rows=rows, units=labels, shifts=subsample.shift_index(shift), amplitudes=amplitudes,
        waveforms=planted.waveforms(units), channels=np.tile(np.arange(8), (6, 1)), peak=planted.PEAK,
        filters=subsample.shift_filters(),
    )  # fmt: skip
    # Times are rounded to 1/16 of a sample: 1/32 of the steepest slope is left, twice that where two overlap.
    assert np.abs(left).max() < 2 * np.abs(np.diff(traces, axis=0)).max() / 32


# --- pursuit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [b for n, b in kernel_files() if n == "pursue"])
@pytest.mark.parametrize("jitter", [False, True])
def test_pursuit_recovers_planted_spikes(backend, jitter):
    block = planted_block(jitter=jitter)
    # Coordinate descent on spikes that overlap: the amplitudes come closer with every sweep.
    case = pursue_case("planted", block, n_sweeps=20)
    found = computes("pursue", backend)(*case.arrays, **case.options)
    np.testing.assert_array_equal(found.row, block.rows)
    np.testing.assert_array_equal(found.unit, block.labels)
    if not jitter:
        np.testing.assert_array_equal(found.shift, np.full(len(block.rows), subsample.CENTER))
    # Between samples the template is placed to 1/16 of a sample: up to a hundredth of the amplitude.
    np.testing.assert_allclose(found.amplitude, block.amplitudes, atol=0.02 if jitter else 1e-4)


@pytest.mark.parametrize("backend", [b for n, b in kernel_files() if n == "pursue"])
def test_pursuit_goes_by_row_then_unit_on_ties(backend):
    arrays, options = integer_ties()
    found = computes("pursue", backend)(*arrays, **options)
    at = [(20, 0), (20, 2), (60, 0), (90, 2), (150, 0), (150, 2), (200, 2), (230, 0), (290, 0)]
    assert list(zip(found.row.tolist(), found.unit.tolist(), strict=True)) == at
    np.testing.assert_array_equal(found.amplitude, np.ones(9, np.float32))
    # The squared norm of the template goes away with each spike.
    np.testing.assert_array_equal(found.gain, np.full(9, 26, np.float32))


@pytest.mark.parametrize("backend", [b for n, b in kernel_files() if n == "pursue"])
def test_pursuit_leaves_given_spikes_alone_and_stays_in_its_rows(backend):
    block = planted_block()
    case = next(c for c in pursue_inputs() if c.name == "spikes that stand already")
    found = computes("pursue", backend)(*case.arrays, **case.options | {"first": 1000, "stop": 4000})
    mine = np.ones(len(block.rows), bool)
    mine[::3] = False
    mine &= (block.rows >= 1000) & (block.rows < 4000)
    # Spikes just outside, not to be placed, may leave a shadow inside: only what is well inside counts.
    inner = (found.row >= 1050) & (found.row < 3950)
    expected = mine & (block.rows >= 1050) & (block.rows < 3950)
    assert ((found.row >= 1000) & (found.row < 4000)).all()
    np.testing.assert_array_equal(found.row[inner], block.rows[expected])
    np.testing.assert_array_equal(found.unit[inner], block.labels[expected])


@pytest.mark.parametrize("backend", [b for n, b in kernel_files() if n == "pursue"])
def test_a_unit_is_silent_for_its_refractory_time(backend):
    units = planted.shapes(1, 2)
    apart = np.array([100, 121, 300, 320])  # refractory 20: the second pair is too close
    traces = planted.plant(500, units, apart, np.zeros(4, int), np.ones(4)).astype(np.float32)
    bank = planted.bank(planted.waveforms(units), refractory=20)
    found = computes("pursue", backend)(
        correlation(traces, bank), bank=bank, given=no_spikes(), first=0, stop=500, n_sweeps=1
    )
    assert np.diff(found.row).min() > 20
    assert {100, 121} <= set(found.row.tolist())
    assert len(set(found.row.tolist()) & {300, 320}) == 1


# --- mixture ------------------------------------------------------------------------------------------------


def clouds(centres: list[tuple[float, ...]], n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of unit covariance around centres, in a random order, and the cloud of each."""
    draw = rng(seed, n, len(centres))
    owner = draw.permutation(np.repeat(np.arange(len(centres)), n))
    return np.array(centres, float)[owner] + draw.normal(size=(len(owner), len(centres[0]))), owner


def cell_moments(points: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Mean, weight and covariance of each cell."""
    n = int(cells.max()) + 1
    weights = np.bincount(cells).astype(float)
    means = np.stack([points[cells == k].mean(axis=0) for k in range(n)])
    scatter = np.stack([np.cov(points[cells == k].T, bias=True).reshape(points.shape[1], -1) for k in range(n)])
    return means, {"weights": weights, "scatter": scatter}


def mix(points: np.ndarray, n_cells: int | None = None) -> np.ndarray:
    """Cluster of each point; every point is a cell of its own where no number of cells is given."""
    cells = load("coreset", "numpy")(points, n_cells=n_cells or len(points))
    means, moments = cell_moments(points, cells)
    resp = load("mixture", "numpy")(means, **moments, max_clusters=20, min_weight=12)
    np.testing.assert_allclose(resp.sum(axis=1), 1)
    return resp.argmax(axis=1)[cells]


@pytest.mark.parametrize("seed", range(20))
def test_mixture_finds_three_clouds(seed):
    points, owner = clouds([(0, 0, 0), (8, 0, 0), (0, 8, 2)], 250, seed)
    found = mix(points)
    assert len(np.unique(found)) == 3
    table = np.zeros((3, 3))
    np.add.at(table, (owner, np.unique(found, return_inverse=True)[1]), 1)
    # The clouds lie eight sd apart: hardly a point is nearer to another one.
    assert table.max(axis=1).sum() >= 0.995 * len(points)
    assert sorted(table.argmax(axis=1).tolist()) == [0, 1, 2]


@pytest.mark.parametrize("seed", range(10))
def test_mixture_of_coarse_cells_finds_three_clouds(seed):
    """Five points a cell; cells are cut at gaps, so that none lies across two clouds."""
    points, _ = clouds([(0, 0, 0), (8, 0, 0), (0, 8, 2)], 250, seed)
    sizes = np.bincount(mix(points, 150))
    assert len(sizes) == 3 and (sizes > 225).all()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("n", [40, 600])
def test_mixture_leaves_one_cloud_whole(seed, n):
    points, _ = clouds([(0, 0, 0)], n, seed)
    assert len(np.unique(mix(points))) == 1


def test_mixture_finds_a_small_cloud_beside_a_large_one():
    points, _ = clouds([(0, 0)], 900, 0)
    few, _ = clouds([(9, 0)], 25, 1)
    found = mix(np.concatenate([points, few]))
    assert len(np.unique(found)) == 2
    assert len(np.unique(found[900:])) == 1 and found[900] != found[0]


def test_mixture_is_deterministic():
    points, _ = clouds([(0, 0), (5, 0), (0, 5), (5, 5)], 200, 3)
    np.testing.assert_array_equal(mix(points), mix(points.copy()))


def test_mixture_ends_for_every_cluster_of_overlapping_clouds():
    """Splits that the next fit undoes must not be tried for ever."""
    for seed in range(8):
        points, _ = clouds([(0, 0, 0, 0), (2, 0, 0, 0), (0, 2.5, 0, 0), (1, 1, 2, 0)], 60, seed)
        assert 1 <= len(np.unique(mix(points))) <= 20


# --- coreset ------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 400),
    d=st.integers(1, 4),
    n_cells=st.integers(1, 60),
    top=st.integers(0, 5),
    seed=st.integers(0, 9),
)
def test_coreset_is_a_partition_in_even_cells(n, d, n_cells, top, seed):
    points = rng(seed).integers(-top, top + 1, (n, d)).astype(float)
    cells = load("coreset", "numpy")(points, n_cells=n_cells)
    assert cells.shape == (n,)
    sizes = np.bincount(cells, minlength=1)
    assert (sizes[: cells.max(initial=0) + 1] > 0).all() or n == 0
    leaf = max(1, -(-n // n_cells))
    # Cutting stops at `leaf` points, and no cut leaves less than a quarter on one side.
    assert sizes.max() <= leaf
    assert n <= n_cells or sizes.min() >= max(1, (leaf + 1) // 4)
    assert len(sizes) <= max(n_cells, 1) * 4


def test_coreset_keeps_neighbours_together():
    points, owner = clouds([(0, 0), (50, 0)], 200, 0)
    cells = load("coreset", "numpy")(points, n_cells=20)
    assert all(len(np.unique(owner[cells == k])) == 1 for k in range(cells.max() + 1))


# --- valley -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_no_valley_in_one_hump_cut_in_two(seed):
    values = np.sort(rng(seed).normal(size=2000))
    assert load("valley", "numpy")(values[:1000], values[1000:]) > 0.85


@pytest.mark.parametrize("seed", range(10))
def test_a_deep_valley_between_two_humps(seed):
    left, right = rng(seed).normal(size=(2, 500))
    assert load("valley", "numpy")(left, right + 8) < 0.05
    assert 0.05 < load("valley", "numpy")(left, right + 3.2) < 0.75


def test_valley_of_unlike_sizes():
    """A tenth beside the rest: the lower of the two peaks is the measure."""
    left, right = rng(0).normal(size=2000), 7 + rng(1).normal(size=200)
    assert load("valley", "numpy")(left, right) < 0.15


@pytest.mark.parametrize(
    ("left", "right"),
    [([], []), ([1.0], [2.0, 3.0]), ([1.0, 1.0, 1.0], [1.0, 1.0]), ([3.0, 4.0, 5.0], [1.0, 2.0, 3.0])],
)
def test_no_valley_where_there_is_nothing_to_tell(left, right):
    assert load("valley", "numpy")(np.array(left), np.array(right)) == 1.0


def test_constant_groups_are_separate():
    assert load("valley", "numpy")(np.zeros(50), np.ones(50)) == 0.0


# --- pair_shifts ---


def test_shifts_are_those_of_the_words():
    """Against the sum over depths written out, to the bin; and half a bin comes out as half a bin."""
    pair_shifts = load("pair_shifts", "numpy")
    case = list(pair_shifts_inputs())[1]
    (images,), window, reach = case.arrays, case.options["window"], case.options["reach"]
    shifts, likeness = pair_shifts(images, **case.options)
    padded = np.pad(images.astype(np.float64), ((0, 0), (0, 0), (reach, reach)))
    for k, (i, j) in enumerate(zip(case.options["first"], case.options["second"], strict=True)):
        a = images[i].astype(np.float64)
        moved = [padded[j, :, reach + s : reach + s + 60] for s in range(-reach, reach + 1)]
        cosines = [(window * a * b).sum() / np.sqrt((window * a**2).sum() * (window * b**2).sum()) for b in moved]
        assert abs(shifts[k] - (int(np.argmax(cosines)) - reach)) <= 0.5 or np.argmax(cosines) in (0, 2 * reach)
        assert likeness[k] == pytest.approx(max(cosines), abs=1e-5)
    depths = np.arange(60)
    bumps = np.stack([np.exp(-(((depths - 30 - d) / 4.0) ** 2)) for d in (0, 0.5, -3)])[:, None].astype(np.float32)
    pairs = {"first": np.array([0, 0, 2]), "second": np.array([1, 2, 1])}
    found, _ = pair_shifts(bumps, **pairs, window=np.ones(60, np.float32), reach=7)
    np.testing.assert_allclose(found, [0.5, -3, 3.5], atol=0.05)
