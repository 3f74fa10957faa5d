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


def written_bytes(folder: Path, stages: Iterable[Path], apart: Iterable[str] = ()) -> int:
    """Bytes in a folder less those of some stages; complete traces count as they were reckoned with, uncompressed.

    Or a finished sort of a nearly full disk would be refused when it is opened again.
    """
    leave_out = set(apart)
    saved = sum(_saved_by(path) for path in stages if path.name not in leave_out)
    return _size_of(folder) + saved - sum(_size_of(folder / name) for name in leave_out)


def _saved_by(stage: Path) -> int:
    """Bytes that compression has saved of complete traces."""
    layout = zarrays.read_layout(stage / traces.ARRAY)
    if layout is None or not Stage(stage, "").is_complete():
        return 0
    whole = math.prod(layout.shape) * np.dtype(layout.dtype).itemsize
    return max(0, whole - _size_of(stage / traces.ARRAY))


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
