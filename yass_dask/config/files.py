"""The files a configuration names: are they there, and do they fit what it says of them?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.config.models import Config, Recordings
from yass_dask.errors import InputError

if TYPE_CHECKING:
    from yass_dask.recording import Recording

Values = Mapping[str, Any]
SIZING = {"dtype", "n_channels", "offset_bytes"}
"""Keys that decide how many samples a file holds."""


def find_problems(data: Values, recordings: Values) -> list[str]:
    """What is wrong with the files, a line each.

    Parameters
    ----------
    data, recordings : values of the sections, without those that are wrong in themselves
        What cannot be checked without them is left unchecked.
    """
    if "root_folder" not in data:
        return []
    root = Path(data["root_folder"])
    if not root.is_dir():
        return [f"data.root_folder: {root}: no such folder; make it, or correct the path"]
    names = data.get("recordings", ())
    names = [names] if isinstance(names, str) else list(names)
    found = [problem for name in names if (problem := _file_problem("data.recordings", root, name))]
    if names and not found and recordings.keys() >= SIZING:
        found = _size_problems(root, names, recordings)
    return found + _geometry_problems(root, data.get("geometry"), recordings.get("n_channels"))


def _file_problem(key: str, root: Path, name: str) -> str | None:
    path = root / name
    if path.is_file():
        return None
    if path.is_dir():
        return f"{key}: found {name!r}: {path} is a folder; a file is needed"
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = get_close_matches(path.name, beside, n=1)
    hint = f"did you mean {close[0]}?" if close else "files are looked for in data.root_folder"
    return f"{key}: found {name!r}: no such file: {path}; {hint}"


def _size_problems(root: Path, names: list[str], recordings: Values) -> list[str]:
    n_channels, header = recordings["n_channels"], recordings["offset_bytes"]
    sample_bytes = n_channels * np.dtype(recordings["dtype"]).itemsize
    found, n_samples = [], 0
    for name in names:
        size = (root / name).stat().st_size
        rest = (size - header) % sample_bytes
        n_samples += (size - header) // sample_bytes
        if size <= header:
            found.append(f"data.recordings: {name}: {size} bytes, so nothing after a header of {header} bytes")
        elif rest:
            found.append(
                f"recordings.n_channels: found {n_channels}: a sample is {sample_bytes} bytes in "
                f"{recordings['dtype']}, and the {size - header} bytes of {name} after a header of {header} "
                f"bytes are no multiple of it ({rest} left over); correct n_channels, dtype or offset_bytes, "
                "or complete the file if it was cut short"
            )
    return found or _period_problems(recordings, n_samples)


def _period_problems(recordings: Values, n_samples: int) -> list[str]:
    duration_s = n_samples / recordings.get("sampling_rate", np.nan)
    return [
        f"recordings.excluded_periods_s: found [{start:g}, {stop:g}]: the recording ends at {duration_s:g} s"
        for start, stop in recordings.get("excluded_periods_s", ())
        if start >= duration_s
    ]


def _geometry_problems(root: Path, name: str | None, n_channels: int | None) -> list[str]:
    from yass_dask.geometry import read_probe

    missing = _file_problem("data.geometry", root, name) if name else None
    if missing or not name or n_channels is None:
        return [missing] if missing else []
    try:
        read_probe(root / name, n_channels)
    except InputError as error:
        return [f"data.geometry: {error} (recordings.n_channels is {n_channels})"]
    return []


def open_recording(config: Config) -> Recording:
    """The recording of a configuration, without its bad channels and excluded periods."""
    from yass_dask.readers import read_binary

    about = config.recordings
    gains = about.gain_to_uv
    recording = read_binary(
        config.recording_paths,
        sampling_rate=about.sampling_rate,
        n_channels=about.n_channels,
        dtype=about.dtype,
        order=about.order,
        geometry=config.geometry_path,
        offset=about.offset_bytes,
        gain_to_uv=None if gains is None else np.broadcast_to(gains, about.n_channels).astype(np.float64),
    )
    return with_left_out(recording, about)


def with_left_out(recording: Recording, about: Recordings) -> Recording:
    """The recording without its bad channels and excluded periods."""
    return dataclasses.replace(
        recording,
        bad_channels=about.bad_channels,
        excluded_samples=_excluded_samples(about, recording.n_samples, recording.sampling_rate),
    )


def _excluded_samples(about: Recordings, n_samples: int, rate: float) -> tuple[tuple[int, int], ...]:
    """Periods as sample ranges [start, stop), in order, overlapping ones joined, cut at the end."""
    joined: list[tuple[int, int]] = []
    for start_s, stop_s in about.excluded_periods_s:
        start, stop = round(start_s * rate), min(round(stop_s * rate), n_samples)
        if joined and start <= joined[-1][1]:
            start, stop = joined[-1][0], max(stop, joined[-1][1])
            joined.pop()
        joined.append((start, stop))
    return tuple(joined)
