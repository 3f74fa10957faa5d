"""One sort in a process of its own: a peer through SpikeInterface, or the oracle.

    python -m benchmarks.accuracy.worker lupin FOLDER OUT.npz --jobs 2

Runs in the peers' environment, where this package's own sorter is not installed.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.names import ORACLE, PEERS

DRIFT_CHANNELS = 64
"""Kilosort4's drift correction needs a long probe: below, its authors say nblocks=0."""


def peer_params(name: str, n_channels: int) -> dict[str, Any]:
    """What differs from a peer's defaults: nothing but what makes it run, and repeat itself, on this recording."""
    if name == "kilosort4":
        params: dict[str, Any] = {"torch_device": "cpu"}
        return params | ({"nblocks": 0} if n_channels < DRIFT_CHANNELS else {})
    if name == "mountainsort5":
        return {"scheme": "2", "filter": True, "whiten": True, "whitening_seed": 0}
    return {"seed": 0} if name in ("lupin", "tridesclous2") else {}


def read_recording(folder: Path) -> Any:
    """The recording of a folder as SpikeInterface sees it, in uV through its gain."""
    import yaml
    from spikeinterface.core import read_binary

    told = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["recordings"]
    recording = read_binary(
        folder / "recording.bin",
        sampling_frequency=float(told["sampling_rate"]),
        dtype=told["dtype"],
        num_channels=told["n_channels"],
        gain_to_uV=told["gain_to_uv"],
        offset_to_uV=0.0,
        is_filtered=False,
    )
    recording.set_dummy_probe_from_locations(np.load(folder / "geometry.npy"))
    return recording


def run_peer(name: str, folder: Path, jobs: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort with a peer; returns sample and unit of every spike, units numbered from 0."""
    from spikeinterface.core import set_global_job_kwargs
    from spikeinterface.sorters import run_sorter

    set_global_job_kwargs(n_jobs=jobs, progress_bar=False)
    recording = read_recording(folder)
    with tempfile.TemporaryDirectory(prefix="peer-") as scratch:
        sorting = run_sorter(
            name, recording, folder=Path(scratch) / "sort", **peer_params(name, recording.get_num_channels())
        )
        spikes = sorting.to_spike_vector()
        return spikes["sample_index"].astype(np.int64), spikes["unit_index"].astype(np.int64)


def main() -> None:
    """Sort one folder and write its spikes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=(*PEERS, ORACLE))
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    chosen = parser.parse_args()
    if chosen.name == ORACLE:
        from benchmarks.accuracy import oracle

        times, labels = oracle.run(chosen.folder)
    else:
        times, labels = run_peer(chosen.name, chosen.folder, chosen.jobs)
    np.savez_compressed(chosen.out, spike_times=times, spike_labels=labels)


if __name__ == "__main__":
    main()
