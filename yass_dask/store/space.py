"""How much of the disk a sort has used already of what it was said to need."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from yass_dask.errors import InputError
from yass_dask.store import traces, zarrays
from yass_dask.store.stage import Stage


def check_space(path: Path, needed: int, written: int) -> int:
    """Free bytes where an output folder is, or will be; InputError where what is not written yet does not fit."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if max(0, needed - written) > free:
        raise InputError(
            f"The sort needs about {(needed - written) / 2**20:.0f} MB of disk in {path}, but {free / 2**20:.0f} "
            "MB are free. Free some space or choose another output folder."
        )
    return free


def written_bytes(folder: Path, stages: Iterable[Path]) -> int:
    """Bytes in a folder; complete traces count as they were reckoned with, before compression.

    Or a finished sort of a nearly full disk would be refused when it is opened again.
    """
    saved = 0
    for path in stages:
        layout = zarrays.read_layout(path / traces.ARRAY)
        if layout is not None and Stage(path, "").is_complete():
            whole = math.prod(layout.shape) * np.dtype(layout.dtype).itemsize
            saved += max(0, whole - _size_of(path / traces.ARRAY))
    return _size_of(folder) + saved


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
