"""Every kernel against its floor and against NumPy: `python -m benchmarks.kernels`.

The floor of a kernel is the time that this machine needs to move the bytes that must move, or to do the operations
that must be done, whichever is longer; both ceilings are measured here, on one core: a copy within memory, and a
float32 matrix product. What still lies in the cache can be faster than that floor. Times are the least of several
runs, per recorded second. Where JAX or CuPy finds a GPU its kernels are measured too, their traces on the device
already, against the ceilings of the device.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy import signal

from yass_dask import subsample
from yass_dask.backends import CPU, GPU, kernel, on_gpu
from yass_dask.deconvolve import DeconvolveParams, bank_of
from yass_dask.geometry import nearest_channels
from yass_dask.kernels.bank import no_spikes
from yass_dask.noise import Noise
from yass_dask.projector import Basis, Projector
from yass_dask.templates import Templates

RATE = 30_000.0
PITCH_UM, NEAR_UM = 20.0, 120.0
TILE = 1024
"""Rows of a Fourier transform"""
FILTER_TAPS = 2 * subsample.REACH + 1


@dataclass(frozen=True)
class Case:
    """One kernel's work: its inputs, and what cannot be avoided."""

    name: str
    kernel: str
    traces: np.ndarray
    options: dict[str, Any]
    n_bytes: float
    """Inputs read once and results written once"""
    n_operations: float


@dataclass(frozen=True)
class Ceilings:
    """What one core of this machine reaches."""

    bytes_per_s: float
    operations_per_s: float

    def floor(self, case: Case) -> float:
        """Seconds that the case takes at least."""
        return max(case.n_bytes / self.bytes_per_s, case.n_operations / self.operations_per_s)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=384)
    parser.add_argument("--seconds", type=float, default=0.35, help="length of the block")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="kernels, all unless given")
    asked = parser.parse_args(arguments)
    print(report(asked.channels, asked.seconds, asked.runs, asked.only))


def report(n_channels: int, seconds: float, runs: int, only: list[str] | None = None) -> str:
    """The table: kernel x backend."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        ceilings = {"cpu": measure_ceilings()} | {b: device_ceilings(b) for b in GPU if on_gpu(b)}
        lines = [
            f"{platform.processor() or platform.machine()}, one core; {n_channels} channels",
            *(
                f"{where}: copy {found.bytes_per_s / 1e9:.1f} GB/s, float32 matrix product "
                f"{found.operations_per_s / 1e9:.0f} GFLOP/s"
                for where, found in ceilings.items()
            ),
            "" if len(ceilings) > 1 else "no GPU found\n",
            "| kernel | backend | ms a recorded s | Msamples/s | GB/s | GFLOP/s | of the floor's speed | x NumPy |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for case in cases(n_channels, round(seconds * RATE)):
            if only is None or case.name in only or case.kernel in only:
                lines += list(_lines(case, ceilings, seconds, runs))
    return "\n".join(lines)


def measure_ceilings() -> Ceilings:
    """Copy and matrix product, the best of some runs."""
    source = np.ones(2**25, np.float32)
    target = np.empty_like(source)
    a = np.ones((1024, 1024), np.float32)
    copied = best_of(lambda: np.copyto(target, source), 5)
    return Ceilings(2 * source.nbytes / copied, 2 * 1024**3 / best_of(lambda: a @ a, 5))


def device_ceilings(backend: str) -> Ceilings:
    """The same of the GPU that a backend finds."""
    numpy = import_module("cupy" if backend == "cupy" else "jax.numpy")
    source, a = numpy.ones(2**26, numpy.float32), numpy.ones((8192, 8192), numpy.float32)
    copied = best_of(lambda: settled(source + 1), 5)
    product = (lambda: a @ a) if backend == "cupy" else lambda: numpy.matmul(a, a, precision="highest")
    return Ceilings(2 * source.nbytes / copied, 2 * 8192**3 / best_of(lambda: settled(product()), 5))


def settled(result: Any) -> None:
    """Wait for what a GPU was asked to compute."""
    for part in result if isinstance(result, tuple) else (result,):
        if hasattr(part, "block_until_ready"):
            part.block_until_ready()
        elif hasattr(part, "get"):
            part.device.synchronize()


def best_of(work: Callable[[], Any], runs: int) -> float:
    """Least seconds of some runs, after one that compiles."""
    work()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def _lines(case: Case, ceilings: dict[str, Ceilings], seconds: float, runs: int) -> Iterator[str]:
    taken: dict[str, float] = {}
    for backend in (*CPU, *(backend for backend in GPU if backend in ceilings)):
        if backend != "numpy" and find_spec(f"yass_dask.kernels.{case.kernel}_{backend}") is None:
            continue  # it takes another one's
        function = kernel(case.kernel, backend)
        traces = case.traces if backend in CPU else kernel("scale", backend)(case.traces, factor=1)
        work = partial(function, traces, **case.options)
        taken[backend] = best_of(lambda work=work: settled(work()), runs if taken else 1)
    for backend, second in taken.items():
        floor = ceilings.get(backend, ceilings["cpu"]).floor(case)
        yield (
            f"| {case.name} | {backend} | {second / seconds * 1e3:.1f} | {case.traces.size / second / 1e6:.0f} | "
            f"{case.n_bytes / second / 1e9:.1f} | {case.n_operations / second / 1e9:.1f} | "
            f"{floor / second:.0%} | {taken['numpy'] / second:.1f} |"
        )


def cases(n_channels: int, n_rows: int) -> Iterator[Case]:
    """Blocks as a sort has them: noise, half a unit a channel, six spikes a unit and second."""
    draw = np.random.default_rng(0)
    raw = np.rint(64 * draw.normal(size=(n_rows, n_channels))).astype(np.int16)
    sd = kernel("scale", "numba")(raw, factor=1 / 64)
    size = raw.size
    sos = signal.butter(3, [300, 6000], "bandpass", fs=RATE, output="sos")
    yield Case("bandpass", "bandpass", raw, {"sos": sos}, 6 * size, 18 * len(sos) * size)
    ones = np.ones(n_channels, np.float32)
    filtered = np.ascontiguousarray(sd)
    yield Case(
        "quantize", "quantize", filtered, {"median": 0 * ones, "factor": 64 * ones, "bar": 512.0}, 6 * size, 4 * size
    )
    yield Case("scale", "scale", raw, {"factor": 1 / 64}, 6 * size, size)
    noise = whitening(n_channels)
    space, along = 2 * noise.channels.shape[1], 1.5 * len(noise.taps)
    filters = {"filters": noise.filters, "channels": noise.channels}
    yield Case("whiten in space", "whiten", sd, dict(filters), 8 * size, space * size)
    filters["taps"] = noise.taps
    yield Case("whiten in space and time", "whiten", sd, filters, 8 * size, (space + along) * size)
    near = nearest(n_channels, 24)
    peaks = {"threshold": 4.5, "sign": 0, "exclusion": 12, "neighbors": near, "first": 0, "stop": n_rows}
    yield Case("find_peaks", "find_peaks", sd, peaks, 4 * size, size)
    yield from event_cases(draw, raw, sd, noise)


def event_cases(draw: np.random.Generator, raw: np.ndarray, sd: np.ndarray, noise: Noise) -> Iterator[Case]:
    """Kernels whose work goes with the events."""
    n_rows, n_channels = raw.shape
    templates = random_templates(draw, n_channels)
    n = max(1, round(6 * len(templates) * n_rows / RATE))
    rows, units = np.sort(draw.integers(100, n_rows - 100, n)), draw.integers(0, len(templates), n).astype(np.int32)
    shifts = draw.integers(0, subsample.N_SHIFTS, n).astype(np.int32)
    filters, size = subsample.shift_filters(), raw.size

    basis = Basis(draw.normal(size=(46, 5)).astype(np.float32), 15)
    projector = Projector.of(noise, basis, nearest(n_channels, 12), "numba")
    wide, window = (projector.gather < n_channels).sum(axis=1).mean(), projector.bank.shape[1]
    events = {"rows": rows, "sites": templates.channels[units, 0], "shifts": shifts, "before": projector.before}
    maps = {"gather": projector.gather, "mix": projector.mix, "bank": projector.bank}
    yield Case("project", "project", sd, events | maps, n * wide * window * 4, n * wide * 10 * (window + 12))

    n_samples, n_local = templates.waveforms.shape[1:]
    sums = {"rows": rows, "groups": units, "n_groups": len(templates), "channels": templates.channels[units]}
    sums |= {"before": 40, "n_samples": n_samples, "weights": np.full(n, 1024, np.float32)}
    sums |= {"shifts": shifts, "filters": filters}
    values = n * n_local * n_samples
    yield Case("accumulate", "accumulate", sd, sums, 12 * values, 2 * FILTER_TAPS * values)

    spikes = {"rows": rows, "units": units, "shifts": shifts, "amplitudes": np.ones(n, np.float32)}
    shapes = {"waveforms": templates.waveforms, "channels": templates.channels, "peak": templates.peak}
    subtracted = {"factor": 1 / 64, "filters": filters} | spikes | shapes
    work = size + 2 * FILTER_TAPS * values
    yield Case("subtract", "subtract", raw, subtracted, 6 * size, work)

    planted = kernel("subtract", "numba")(raw, **subtracted | {"amplitudes": -np.ones(n, np.float32)})
    counts = np.rint(64 * planted).astype(np.int16)
    bank = bank_of(templates, noise, 24, DeconvolveParams())
    matched = {"factor": 1 / 64, "filters": noise.filters, "channels": noise.channels, "taps": noise.taps, "bank": bank}
    n_pieces = int((bank.support < n_channels).sum())
    in_space = 2 * noise.channels.shape[1] * size
    transforms = 2.5 * np.log2(TILE) * (size + len(templates) * n_rows)
    result = len(templates) * n_rows
    yield Case(
        "correlate", "correlate", counts, matched, 2 * size + 4 * result, in_space + transforms + 4 * n_pieces * n_rows
    )
    correlation = kernel("correlate", "numba")(counts, **matched)
    subtracting = n * len(bank.pair_unit) / len(templates) * 2 * FILTER_TAPS * bank.pair_overlap.shape[1]
    pursuit = {"bank": bank, "given": no_spikes(), "first": 0, "stop": n_rows, "n_sweeps": 1}
    yield Case("pursue", "pursue", correlation, pursuit, 4 * result, subtracting)


def positions(n_channels: int) -> np.ndarray:
    """Two columns, as on a Neuropixels probe."""
    index = np.arange(n_channels)
    return np.stack([32.0 * (index % 2), PITCH_UM * (index // 2)], axis=1)


def nearest(n_channels: int, limit: int) -> np.ndarray:
    """(n_channels, n_near) int32 lists of neighbours."""
    place = positions(n_channels)
    near = np.linalg.norm(place[:, None] - place[None], axis=2) <= NEAR_UM
    return nearest_channels(near, place, limit).astype(np.int32)


def whitening(n_channels: int) -> Noise:
    """Filters of a whitening in space and along time."""
    channels = nearest(n_channels, 24)
    filters = np.where(channels < n_channels, -0.02, 0).astype(np.float32)
    filters[:, 0] = 1
    taps = np.where(np.arange(61) == 30, 1, -0.01).astype(np.float32)
    return Noise(filters, channels, taps=taps)


def random_templates(draw: np.random.Generator, n_channels: int) -> Templates:
    """Half a unit a channel, a trough and a peak that fall off with the distance."""
    n_units = max(1, n_channels // 2)
    channels = nearest(n_channels, 24)[draw.permutation(n_channels)[:n_units]]
    place = np.concatenate([positions(n_channels), [[np.inf, np.inf]]])
    distance = np.linalg.norm(place[channels] - place[channels[:, :1]], axis=2)
    time_ms = np.arange(-40, 70) / RATE * 1e3
    width = draw.uniform(0.1, 0.2, (n_units, 1, 1))
    shape = np.exp(-0.5 * (time_ms[None, :, None] / width) ** 2)
    shape = 0.4 * np.exp(-0.5 * ((time_ms[None, :, None] - 0.5) / (2 * width)) ** 2) - shape
    height = draw.uniform(5, 20, (n_units, 1, 1)) * np.exp(-distance / 40)[:, None, :]
    waveforms = np.where(channels[:, None] < n_channels, height * shape, 0).astype(np.float32)
    spikes = np.full(n_units, 500)
    return Templates(waveforms, channels, spikes, np.arange(n_units), 40, n_channels)


if __name__ == "__main__":
    main()
