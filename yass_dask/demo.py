"""The demo: a simulated recording is sorted and compared with its true spikes."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yass_dask.commands import SortOptions, run_simulate, run_sort

if TYPE_CHECKING:
    from yass_dask.evaluate import Agreement


def run(folder: Path, n_channels: int = 32, seconds: float = 60.0) -> str:
    """Simulate `seconds` of `n_channels` into `folder/recording`, sort, compare; gives the table to print."""
    from yass_dask.evaluate import compare_files

    recording = folder / "recording"
    run_simulate(recording, n_channels=n_channels, seconds=seconds)
    begin = time.perf_counter()
    # The recording was just written anew, so what an earlier demo found is of no use.
    run_sort(SortOptions(config=recording / "config.yaml", clean=True, logger_level="WARNING"))
    elapsed = time.perf_counter() - begin
    results = recording / "tmp"
    agreement = compare_files(results, recording / "ground_truth.npz")
    return "\n".join([*_table(agreement, seconds / elapsed, _peak_bytes(results)), "", *_next_steps(recording)])


def _table(agreement: Agreement, times_real_time: float, peak_bytes: int | None) -> list[str]:
    rows = [
        ("units found", str(len(agreement.found_counts))),
        ("matched to truth", f"{agreement.n_matched} of {len(agreement.units)}"),
        ("mean accuracy", f"{agreement.mean_accuracy:.3f}"),
        ("  units of SNR >= 5", f"{agreement.mean_accuracy_above(5.0):.3f}"),
        ("x real time", f"{times_real_time:.2f}"),
        ("peak memory", "not measured" if peak_bytes is None else f"{peak_bytes / 1024**3:.2f} GB"),
    ]
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {value}" for name, value in rows]


def _peak_bytes(results: Path) -> int | None:
    """Largest peak of any stage, from the sort's metadata."""
    import yaml

    metadata: dict[str, Any] = yaml.safe_load((results / "metadata.yaml").read_text(encoding="utf-8"))
    peaks = [stage["peak_bytes"] for stage in metadata.get("stages", {}).values() if stage.get("peak_bytes")]
    return max(peaks, default=None)


def _next_steps(recording: Path) -> list[str]:
    results = recording / "tmp"
    beside = Path(sys.executable).with_name("yass")
    yass = "yass" if shutil.which("yass") or not beside.exists() else os.path.relpath(beside)
    return [
        "Look next at",
        f"  {results / 'units.csv'}  why every unit was kept, joined or dropped",
        f"  {yass} compare {results} {recording / 'ground_truth.npz'}  accuracy unit by unit",
        f"  {yass} export {results}  a folder for phy",
        f"  {recording / 'config.yaml'}  to copy for a recording of your own; yass info CONFIG checks it",
    ]
