"""How well motion is measured: against the truth of simulated drifts, and beside other estimators on the same peaks.

    python -m benchmarks.motion run --work FOLDER [--peers-python PYTHON]
    python -m benchmarks.motion report

A line of JSON for each recording and estimator; `report` makes the table. The peers run in their own environment, which
has SpikeInterface, PyTorch and dredge-ephys: this file is started there with `peers` and imports nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "motion.jsonl"
DATASETS = ("np64drift", "np64ramp", "np64bumps", "np64nonrigid", "np64still")
PEERS = ("spikeinterface dredge_ap", "spikeinterface decentralized", "dredge-ephys")
OURS = "yass_dask"
NEAR_UM = 60.0
"""The true displacement of a depth is the mean over spikes of units within this distance."""


# --- ours -----------------------------------------------------------------------------------------------------------


def measured(folder: Path, store: Path) -> tuple[Any, dict[str, np.ndarray], dict[str, float]]:
    """Motion of a recording's folder, its peaks (sample_index, height, depth), and seconds of processor time."""
    from yass_dask import from_config
    from yass_dask.motion.estimate import estimate_motion
    from yass_dask.motion.raster import measure_raster
    from yass_dask.noise import measure_noise
    from yass_dask.pipeline import SortParams
    from yass_dask.preprocess import measure_scale, preprocess
    from yass_dask.session import running

    recording, params = from_config(folder / "config.yaml"), SortParams()
    with running(recording, store, backend="numba", client=None, seed=0, progress=None) as (keep, _, _, backend):
        scale = keep("scale", measure_scale(recording, params.preprocess, backend))
        clean = keep("preprocess", preprocess(recording, scale, params.preprocess, backend))
        noise = keep("noise", measure_noise(clean, params.preprocess, backend))
        began = time.process_time()
        raster = keep("raster", measure_raster(clean, noise, params.detect, params.motion, backend))
        counted = time.process_time()
        motion = keep("motion", estimate_motion(raster, params.motion, backend))
        seconds = {"raster_cpu_s": counted - began, "estimate_cpu_s": time.process_time() - counted}
        return motion, peaks_of(clean, noise, params), seconds


def peaks_of(clean: Any, noise: Any, params: Any) -> dict[str, np.ndarray]:
    """The peaks that the raster counts."""
    from yass_dask.chunked import blocks
    from yass_dask.motion.raster import Counter

    counter = Counter.of(clean, noise, params.detect, params.motion, "numba")
    rows = [
        counter.places(block)
        for chunk, piece in clean.recording.pieces(counter.halo, "zero")
        for block in blocks(piece, chunk, counter.halo)
    ]
    names = ("sample_index", "height", "depth")
    return {name: np.concatenate(some) for name, some in zip(names, zip(*rows, strict=True), strict=True)}


# --- truth ----------------------------------------------------------------------------------------------------------


def true_displacement(folder: Path, times_s: np.ndarray, depths_um: np.ndarray) -> np.ndarray:
    """(n_times, n_depths) um, the mean over true spikes of units nearby; NaN where there is none."""
    from benchmarks.accuracy.folders import read_truth

    truth = read_truth(folder)
    bin_s = float(np.median(np.diff(times_s)))
    rows = np.floor((truth["spike_times"] / truth["sampling_rate"] - times_s[0]) / bin_s + 0.5).astype(int)
    depth = truth["unit_positions"][truth["spike_labels"], 1]
    true = np.full((len(times_s), len(depths_um)), np.nan)
    for window, middle in enumerate(depths_um):
        mine = (np.abs(depth - middle) < NEAR_UM) & (rows >= 0) & (rows < len(times_s))
        counts = np.bincount(rows[mine], minlength=len(times_s))
        sums = np.bincount(rows[mine], truth["displacement_um"][mine], minlength=len(times_s))
        true[:, window] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return true


def errors(folder: Path, displacement: np.ndarray, times_s: np.ndarray, depths_um: np.ndarray) -> dict[str, float]:
    """Median and 95th percentile of |displacement - truth|, um; a constant per depth is nobody's to know."""
    difference = displacement - true_displacement(folder, times_s, depths_um)
    difference = np.abs(difference - np.nanmedian(difference, axis=0))
    median, high = (float(np.nanpercentile(difference, q)) for q in (50, 95))
    return {"median_um": round(median, 3), "p95_um": round(high, 3)}


# --- peers: in their own environment --------------------------------------------------------------------------------


def peers(given: Path, out: Path) -> None:
    """Estimates of the peers from peaks in an npz; those that are not installed are left out."""
    with np.load(given) as stored:
        peaks = {name: stored[name] for name in stored.files}
    found: dict[str, np.ndarray] = {}
    for name in PEERS:
        began = time.process_time()
        try:
            displacement, times, depths = (
                _dredge(peaks) if name == PEERS[2] else _spikeinterface(peaks, name.split()[1])
            )
        except ImportError as error:
            print(f"{name}: {error}")
            continue
        fields = {"displacement": displacement, "times_s": times, "depths_um": depths}
        fields["cpu_s"] = np.array(time.process_time() - began)
        found |= {f"{name}/{field}": values for field, values in fields.items()}
    np.savez(out, **found)


def _spikeinterface(peaks: dict[str, np.ndarray], method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from spikeinterface.core import NumpyRecording
    from spikeinterface.sortingcomponents.motion import estimate_motion

    rate = float(peaks["sampling_rate"])
    recording = NumpyRecording(np.zeros((int(peaks["n_samples"]), len(peaks["positions"])), np.int8), rate)
    recording.set_dummy_probe_from_locations(peaks["positions"])
    table = np.zeros(len(peaks["height"]), [("sample_index", "i8"), ("channel_index", "i8"), ("amplitude", "f8"),
                                            ("segment_index", "i8")])  # fmt: skip
    table["sample_index"], table["amplitude"] = peaks["sample_index"], -peaks["height"]
    places = np.zeros(len(table), [("x", "f8"), ("y", "f8")])
    places["y"] = peaks["depth"]
    motion = estimate_motion(recording, table, places, method=method, rigid=False)
    return motion.displacement[0], motion.temporal_bins_s[0], motion.spatial_bins_um


def _dredge(peaks: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from dredge.dredge_ap import register

    seconds = peaks["sample_index"] / float(peaks["sampling_rate"])
    # Its default windows are for a Neuropixels probe of 3.8 mm; these are SpikeInterface's.
    estimate, _ = register(
        peaks["height"], peaks["depth"], seconds, win_step_um=200.0, win_scale_um=300.0, device="cpu", pbar=False
    )
    displacement = np.atleast_2d(estimate.displacement).T
    depths = getattr(estimate, "spatial_bin_centers_um", None)
    depths = np.array([np.mean(peaks["positions"][:, 1])]) if depths is None else np.asarray(depths)
    return displacement, np.asarray(estimate.time_bin_centers_s), depths


# --- lines and table ------------------------------------------------------------------------------------------------


def run(work: Path, names: tuple[str, ...], seeds: tuple[int, ...], python: Path | None, results: Path) -> None:
    """Measure every recording, which is made where it is missing, and append its lines."""
    from benchmarks.accuracy import datasets
    from benchmarks.accuracy.folders import read_truth

    for name, seed in ((name, seed) for name in names for seed in seeds):
        folder = work / f"{name}-{seed}"
        if not datasets.is_made(name, seed, folder):
            datasets.make(name, seed, folder)
        motion, found, seconds = measured(folder, work / "motion" / f"{name}-{seed}")
        about = {"dataset": name, "seed": seed, "n_peaks": len(found["depth"])}
        line = about | {"estimator": OURS, "why_none": motion.why_none, **seconds}
        line |= errors(folder, motion.displacement, motion.times_s, motion.depths_um)
        line |= {"uncertainty_um": round(float(np.median(motion.uncertainty)), 3)}
        lines = [line]
        if python is not None:
            truth = read_truth(folder)
            rest = {"sampling_rate": truth["sampling_rate"], "positions": np.load(folder / "geometry.npy")}
            n_samples = round((motion.times_s[-1] + 1) * float(truth["sampling_rate"]))
            given, out = (work / "motion" / f"{part}-{name}-{seed}.npz" for part in ("peaks", "peers"))
            np.savez(given, **found, **rest, n_samples=n_samples)
            subprocess.run([str(python), __file__, "peers", str(given), str(out)], check=True)
            lines += [about | peer for peer in peer_lines(folder, out)]
        results.parent.mkdir(parents=True, exist_ok=True)
        with open(results, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        for line in lines:
            print(line)


def peer_lines(folder: Path, out: Path) -> list[dict[str, Any]]:
    """Lines of the peers that ran."""
    with np.load(out) as stored:
        ran = [name for name in PEERS if f"{name}/displacement" in stored.files]
        estimates = [[stored[f"{name}/{field}"] for field in ("displacement", "times_s", "depths_um")] for name in ran]
        cpu = [float(stored[f"{name}/cpu_s"]) for name in ran]
    return [
        {"estimator": name, "estimate_cpu_s": seconds, **errors(folder, *estimate)}
        for name, estimate, seconds in zip(ran, estimates, cpu, strict=True)
    ]


def report(results: Path) -> Path:
    """Write the table of the latest lines beside them."""
    lines = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    latest = {(line["dataset"], line["seed"], line["estimator"]): line for line in lines}
    rows = ["# Displacement against the truth of simulated drift", "",
            "Error of the displacement in um, median (95th percentile), on the same peaks; a constant per depth is "
            "left out. `none`: no motion is followed.", "",
            f"| recording | seed | {' | '.join((OURS, *PEERS))} |", f"|{'---|' * (3 + len(PEERS))}"]  # fmt: skip
    for name, seed in sorted({(key[0], key[1]) for key in latest}):
        cells = []
        for estimator in (OURS, *PEERS):
            line = latest.get((name, seed, estimator))
            shown = "-" if line is None else f"{line['median_um']:.2f} ({line['p95_um']:.2f})"
            cells.append(shown + (" none" if line and line.get("why_none") else ""))
        rows.append(f"| {name} | {seed} | {' | '.join(cells)} |")
    path = results.with_suffix(".md")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    running = commands.add_parser("run", help="measure, one line of JSON each")
    running.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    running.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    running.add_argument("--work", type=Path, default=RESULTS.parent / "work", help="recordings and stores")
    running.add_argument("--peers-python", type=Path, help="interpreter of the peers' environment")
    running.add_argument("--results", type=Path, default=RESULTS)
    running.set_defaults(act=lambda c: run(c.work, tuple(c.datasets), tuple(c.seeds), c.peers_python, c.results))
    comparing = commands.add_parser("peers", help="in the peers' environment: estimates from peaks")
    comparing.add_argument("given", type=Path)
    comparing.add_argument("out", type=Path)
    comparing.set_defaults(act=lambda c: peers(c.given, c.out))
    telling = commands.add_parser("report", help="the table")
    telling.add_argument("--results", type=Path, default=RESULTS)
    telling.set_defaults(act=lambda c: print(report(c.results)))
    chosen = parser.parse_args()
    chosen.act(chosen)


if __name__ == "__main__":
    main()
