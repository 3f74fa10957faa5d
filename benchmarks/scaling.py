"""How a sort grows with channels and with time, and what dask costs: `python -m benchmarks.scaling`.

Recordings are made by `yass simulate`, half a neuron a channel; each sort is a process of its own, after one that
fills the compile caches. A line of JSON for each run goes to benchmarks/results/scaling.jsonl.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.accuracy.lines import ROOT, append, surroundings
from benchmarks.accuracy.measure import measure
from yass_dask.chunked import blocks
from yass_dask.detect import DetectParams, Finder, detect
from yass_dask.noise import measure_noise
from yass_dask.preprocess import PreprocessParams, measure_scale, preprocess
from yass_dask.readers import from_config
from yass_dask.recording import Recording
from yass_dask.recording.overlap import UnreadRows
from yass_dask.runtime import Executor, plan
from yass_dask.runtime.pools import cut_jobs
from yass_dask.store import Store, traces
from yass_dask.store.stage import Stage

RESULTS = ROOT / "benchmarks" / "results" / "scaling.jsonl"
CHANNELS = (16, 64, 128, 384, 512, 1024)
MINUTES, MINUTES_CHANNELS = (1.0, 10.0, 60.0), 32
DASK = ((4, 60.0), (32, 1.0), (32, 10.0), (128, 1.0))
"""Channels and minutes; a stage takes some 20 ms whatever it does, so few channels are given more to do."""
COPY = (32, 128, 384)
"""Channels, of one minute each."""
MAX_MEMORY = 200 * 2**20
YASS = [sys.executable, "-m", "yass_dask"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("scaling"), help="folder for recordings and sorts")
    parser.add_argument("--channels", type=int, nargs="*", default=CHANNELS, help="sorted for one minute")
    parser.add_argument("--minutes", type=float, nargs="*", default=MINUTES, help="sorted with 32 channels")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args(arguments)
    asked.work.mkdir(parents=True, exist_ok=True)
    lines = [dask_line(asked.work), copy_line(asked.work), plan_line()]
    wanted = dict.fromkeys([(n, 1.0) for n in asked.channels] + [(MINUTES_CHANNELS, m) for m in asked.minutes])
    if wanted:
        simulated(asked.work, 4, 0.1)
        sorted_line(asked.work, 4, 0.1, asked.workers)
    lines += [sorted_line(asked.work, channels, minutes, asked.workers) for channels, minutes in wanted]
    for line in lines:
        append(asked.results, line | surroundings())
    print(table(lines))


def table(lines: list[dict[str, Any]]) -> str:
    """The lines as Markdown."""
    rows = [
        "| channels | minutes | s a recorded s | us a channel and s | x real time | peak MB | tasks | graph kB "
        "| kernels | dask | input, output |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        if line["kind"] != "sort":
            print(json.dumps({name: value for name, value in line.items() if name != "kind"}))
            continue
        shares = line["shares"]
        rows.append(
            f"| {line['channels']} | {line['minutes']:g} | {line['s_per_s']:.3f} | {line['us_per_channel_s']:.0f} "
            f"| {1 / line['s_per_s']:.1f} | {line['peak_mb']:.0f} | {line['tasks']} | {line['graph_bytes'] / 1e3:.0f} "
            f"| {shares.get('kernels', 0):.0%} | {shares.get('dask', 0):.0%} "
            f"| {shares.get('input and output', 0):.0%} |"
        )
    return "\n".join(rows)


# --- whole sorts ---


def simulated(work: Path, channels: int, minutes: float) -> Path:
    """Folder of a simulated recording, made if it is not there."""
    folder = work / f"{channels}ch-{minutes:g}min"
    if not (folder / "config.yaml").exists():
        units = ["--units", str(max(1, channels // 2)), "--geometry", "neuropixels" if channels > 4 else "tetrode"]
        command = [
            *YASS,
            "simulate",
            str(folder),
            "--channels",
            str(channels),
            "--seconds",
            f"{60 * minutes:g}",
            *units,
        ]
        made = measure(command, work / "simulate.log", 36_000)
        if made.status != "ok":
            raise RuntimeError(f"{' '.join(command)}: {made.error}")
    return folder


def sorted_line(work: Path, channels: int, minutes: float, workers: int) -> dict[str, Any]:
    """Sort a recording and read what its profile says."""
    folder = simulated(work, channels, minutes)
    command = [*YASS, "sort", str(folder / "config.yaml"), "--clean", "--profile", "--no-progress", "--delete-traces"]
    ran = measure([*command, "--workers", str(workers)], work / "sort.log", 36_000)
    if ran.status != "ok":
        raise RuntimeError(f"{folder}: {ran.error}")
    out = folder / "tmp"
    facts = yaml.safe_load((out / "metadata.yaml").read_text())
    stages = [json.loads(path.read_text()) for path in sorted((out / "profile").glob("*.json"))]
    samples = Counter[str]()
    for stage in stages:
        samples.update({place: share * stage["samples"] for place, share in stage["shares"].items()})
    total = sum(samples.values())
    s_per_s = facts["total_s"] / facts["recorded_s"]
    return {
        "kind": "sort",
        "channels": channels,
        "minutes": minutes,
        "workers": workers,
        "s_per_s": round(s_per_s, 4),
        "us_per_channel_s": round(1e6 * s_per_s / channels, 1),
        "startup_s": facts["startup_s"],
        "wall_s": round(ran.wall_s, 1),
        "cpu_s": round(ran.cpu_s, 1),
        "peak_mb": round(ran.peak_mb),
        "tasks": sum(stage["tasks"] for stage in stages),
        "graph_bytes": sum(stage["graph_bytes"] for stage in stages),
        "shares": {place: round(count / total, 4) for place, count in samples.most_common()},
    }


# --- what dask costs ---


def dask_line(work: Path) -> dict[str, Any]:
    """Detection of the same chunks by the bare kernels in a loop, and through store and scheduler, one worker."""
    ratios = []
    for channels, minutes in DASK:
        recording = from_config(simulated(work, channels, minutes) / "config.yaml")
        ratios.append((f"{channels} channels, {minutes:g} min", _ratio(recording, work / "dask")))
    return {"kind": "dask", "through_dask_against_bare_kernels": {name: round(ratio, 3) for name, ratio in ratios}}


def _ratio(recording: Recording, folder: Path) -> float:
    store, params = Store(folder), PreprocessParams()
    chunks = plan(recording, MAX_MEMORY, None, 1)
    recording = recording.with_chunks(chunks.chunk_blocks, chunks.part_blocks)
    with store.lock():
        store.clean()
        keep = store.run(recording, backend="numba", seed=0, executor=Executor("sync"))
        scale = keep("scale", measure_scale(recording, params, "numba"))
        clean = keep("preprocess", preprocess(recording, scale, params, "numba"))
        noise = keep("noise", measure_noise(clean, params, "numba"))
        times: dict[str, list[float]] = {"bare": [], "dask": []}
        for run in range(4):
            began = time.perf_counter()
            n_bare = _bare(clean, noise)
            times["bare"].append(time.perf_counter() - began)
            began = time.perf_counter()
            peaks = keep(f"detect_{run}", detect(clean, noise, DetectParams(), "numba"))
            times["dask"].append(time.perf_counter() - began)
            if len(peaks) != n_bare:
                raise RuntimeError(f"{len(peaks)} peaks through dask, {n_bare} without")
    return min(times["dask"]) / min(times["bare"])


def _bare(clean: Any, noise: Any) -> int:
    """Number of peaks that detection finds, the kernels called block by block in a plain loop."""
    finder = Finder.of(clean, noise, DetectParams(), "numba")
    rows, halo, count = UnreadRows(clean.recording.source, "zero"), finder.halo, 0
    for chunk in clean.recording.chunks:
        for block in blocks(rows, chunk, halo):
            found = finder.block(clean.to_sd(block.traces), block.start, block.stop, halo)
            count += len(found["sample_index"])
    return count


# --- what preprocessing costs beyond copying ---


def copy_line(work: Path) -> dict[str, Any]:
    """Preprocessing, whole and through store and scheduler, against a plain copy of the same traces, one worker."""
    shares = {n: _copy_share(from_config(simulated(work, n, 1.0) / "config.yaml"), work / "dask") for n in COPY}
    return {
        "kind": "copy",
        "speed_of_preprocess_against_copy": {str(n): round(share, 3) for n, share in shares.items()},
    }


def _copy_share(recording: Recording, folder: Path) -> float:
    store, params = Store(folder), PreprocessParams()
    chunks = plan(recording, MAX_MEMORY, None, 1)
    recording = recording.with_chunks(chunks.chunk_blocks, chunks.part_blocks)
    times: dict[str, list[float]] = {"copy": [], "preprocess": []}
    with store.lock():
        store.clean()
        keep = store.run(recording, backend="numba", seed=0, executor=Executor("sync"))
        scale = keep("scale", measure_scale(recording, params, "numba"))
        for run in range(4):
            began = time.perf_counter()
            _copy(recording, folder / "copy.zarr")
            times["copy"].append(time.perf_counter() - began)
            began = time.perf_counter()
            keep(f"preprocess_{run}", preprocess(recording, scale, params, "numba"))
            times["preprocess"].append(time.perf_counter() - began)
    return min(times["copy"]) / min(times["preprocess"])


def _copy(recording: Recording, path: Path) -> None:
    """int16 from the page cache through a float32 product to a compressed zarr array, chunk by chunk."""
    import zarr
    from numcodecs import Blosc

    size, shape = recording.block_samples, (recording.n_samples, recording.n_channels)
    lz4 = Blosc(cname="lz4", clevel=5, shuffle=Blosc.BITSHUFFLE)
    target = zarr.open_array(str(path), mode="w", shape=shape, chunks=(size, shape[1]), dtype="i2", compressor=lz4)
    for start in range(0, shape[0], size):
        rows = recording.source.read(start, min(start + size, shape[0]))
        target[start : start + size] = (rows.astype(np.float32) * np.float32(1.5)).astype(np.int16)


# --- the plan of a long recording ---


class _Nothing:
    """A recording's source that holds nothing: a plan reads nothing."""

    def __init__(self, n_samples: int, n_channels: int) -> None:
        self.shape, self.dtype = (n_samples, n_channels), np.dtype("int16")

    def read(self, start: int, stop: int) -> np.ndarray:
        raise RuntimeError("a plan reads nothing")

    def identity(self) -> dict[str, Any]:
        return {"kind": "nothing"}


def plan_line(hours: float = 24.0, channels: int = 384) -> dict[str, Any]:
    """Build the graph of a stage over some hours, and cut it into jobs, as store and executor do."""
    import cloudpickle

    recording = _long(hours, channels)
    recording = recording.with_chunks(plan(recording, None, None, 2).chunk_blocks)
    began = time.perf_counter()
    lazy = preprocess(recording, _scale(channels), PreprocessParams(), "numba")
    layout = traces.layout_of(lazy.traces, recording.block_samples)
    missing = traces.spans(lazy.traces, layout.chunk_rows)
    tasks = traces.write_tasks(lazy.traces, Stage(Path("stage"), "recipe"), layout, set(missing))
    jobs = [job for _, job in cut_jobs(tasks)]
    seconds = time.perf_counter() - began
    return {
        "kind": "plan",
        "hours": hours,
        "channels": channels,
        "plan_s": round(seconds, 2),
        "jobs": len(jobs),
        "graph_mb": round(len(cloudpickle.dumps(jobs)) / 1e6, 1),
    }


def _long(hours: float, channels: int) -> Recording:
    from yass_dask.geometry import Probe

    positions = np.stack([np.zeros(channels), 20.0 * np.arange(channels)], axis=1)
    source = _Nothing(round(hours * 3600 * 30_000), channels)
    return Recording(source, 30_000.0, Probe(positions))  # type: ignore[arg-type]


def _scale(channels: int) -> Any:
    from yass_dask.preprocess import Scale

    return Scale(np.zeros(channels, np.float32), np.ones(channels, np.float32), np.zeros(channels, bool))


if __name__ == "__main__":
    main()
