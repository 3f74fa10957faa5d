"""The folder of one recording: recording.bin, geometry.npy, config.yaml, ground_truth.npz, truth.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

GAIN_UV = 0.195
"""uV per bit, as of the common Intan amplifier."""


def write_truth(folder: Path, positions: np.ndarray, sampling_rate: float, **truth: Any) -> None:
    """Write everything but the traces: contacts, configuration, true spikes and units."""
    np.save(folder / "geometry.npy", positions)
    np.savez_compressed(folder / "ground_truth.npz", sampling_rate=sampling_rate, **truth)
    (folder / "config.yaml").write_text(config_text(sampling_rate, len(positions)), encoding="utf-8")


def config_text(sampling_rate: float, n_channels: int) -> str:
    """A YASS configuration that tells what the recording is and nothing else: no setting per recording."""
    import yaml

    sections = {
        "data": {"root_folder": "./", "recordings": "recording.bin", "geometry": "geometry.npy"},
        "resources": {"max_memory": "200MB", "max_memory_gpu": "1GB", "processes": "max"},
        "recordings": {
            "dtype": "int16",
            "sampling_rate": int(sampling_rate),
            "n_channels": n_channels,
            "spatial_radius": 70,
            "spike_size_ms": 1.5,
            "order": "samples",
            "gain_to_uv": GAIN_UV,
        },
    }
    text: str = yaml.safe_dump(sections, sort_keys=False)
    return text


def read_truth(folder: str | Path) -> Mapping[str, np.ndarray]:
    """All fields of ground_truth.npz."""
    with np.load(Path(folder) / "ground_truth.npz", allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
