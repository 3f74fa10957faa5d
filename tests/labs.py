"""Small recordings on disk and the command line run on them, as in a lab; shared by the tests of whole sorts."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from yass_dask import Recording, from_array
from yass_dask.simulate import Simulation, plan, simulate, write

COMMAND = [sys.executable, "-c", "from yass_dask.cli import main; main()"]


@dataclass(frozen=True)
class Ran:
    """A finished command."""

    code: int
    out: str
    err: str


def yass(*words: Any) -> Ran:
    """Run a command to its end in a process of its own."""
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def simulated(folder: Path, *, n_channels: int = 8, seconds: float = 10.0, n_units: int = 5, seed: int = 0) -> Path:
    """Write a simulated recording with its truth; return the configuration file."""
    return write(folder, plan(n_channels=n_channels, seconds=seconds, n_units=n_units, seed=seed, snr=(6, 25)))


MOVES = np.array([0, 1, 0, 1, 1, 0, 1, 0, 0, 1])
"""Contacts that `moving_tissue` has moved up by, for two seconds each"""


def moving_tissue() -> tuple[Simulation, Recording]:
    """A column of contacts 25 um apart, as simulated and with its tissue up and down by a contact."""
    made = simulate(n_channels=20, seconds=20, n_units=6, seed=5, snr=(10, 25), geometry="linear")
    parts = np.split(made.traces, len(MOVES))
    traces = np.concatenate([np.roll(part, step, axis=1) for part, step in zip(parts, MOVES, strict=True)])
    return made, from_array(traces, made.sampling_rate, made.positions, made.gain_to_uv)


def traces_of(config: Path) -> np.ndarray:
    """(n_samples, n_channels) int16 of a simulated recording."""
    n_channels = yaml.safe_load(config.read_text())["recordings"]["n_channels"]
    return np.fromfile(config.parent / "recording.bin", np.int16).reshape(-1, n_channels)


def recorded(folder: Path, traces: np.ndarray, *, geometry: np.ndarray | None = None, **about: Any) -> Path:
    """Write an array as a recording at 30 kHz; return the configuration file.

    Parameters
    ----------
    about : further keys of the section `recordings`, or others in place of those that fit
    """
    folder.mkdir(parents=True, exist_ok=True)
    n_channels = traces.shape[1]
    np.ascontiguousarray(traces).tofile(folder / "recording.bin")
    places = np.stack([np.zeros(n_channels), 20.0 * np.arange(n_channels)], axis=1)
    np.save(folder / "geometry.npy", places if geometry is None else geometry)
    recordings = {
        "dtype": traces.dtype.name, "sampling_rate": 30000, "n_channels": n_channels, "spatial_radius": 70,
        "spike_size_ms": 1.5, "order": "samples",
    }  # fmt: skip
    config = {
        "data": {"root_folder": "./", "recordings": "recording.bin", "geometry": "geometry.npy"},
        "resources": {"max_memory": "200MB", "processes": 1},
        "recordings": {**recordings, **about},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def edit(config: Path, section: str, **keys: Any) -> Path:
    """Change keys of a section of a configuration file."""
    content = yaml.safe_load(config.read_text())
    content[section] = {**content.get(section, {}), **keys}
    config.write_text(yaml.safe_dump(content))
    return config


def found_chunks(log: str) -> dict[str, tuple[int, int]]:
    """Stage -> (chunks found, chunks in all), as a log tells."""
    lines = re.findall(r"(\w+): (\d+) of (\d+) chunks found", log)
    return {stage: (int(found), int(count)) for stage, found, count in lines}


def files_below(folder: Path) -> dict[str, tuple[int, int]]:
    """Path -> (inode, time of last change) of every file: what is written anew differs."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}
