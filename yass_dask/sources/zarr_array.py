"""Zarr arrays: with the store, the only place that knows zarr."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from dask.base import tokenize

from yass_dask.errors import InputError
from yass_dask.sources.protocol import check_dtype, check_shape, describe, fill


@dataclass(frozen=True, eq=False)
class ZarrSource:
    """A zarr array (n_samples, n_channels) in a folder of this file system, of zarr format 2 or 3."""

    path: str
    shape: tuple[int, int] = field(init=False)
    dtype: np.dtype[Any] = field(init=False)
    stamp: int = field(init=False)
    """Time of the metadata's last change in ns: an array written anew is another source."""

    def __post_init__(self) -> None:
        path = Path(self.path).expanduser().absolute()
        stamp = _stamp_zarr(path)
        array = _open_zarr(str(path), stamp)
        check_shape(array.shape, str(path))
        dtype = check_dtype(array.dtype, str(path)).newbyteorder("=")
        shape = (int(array.shape[0]), int(array.shape[1]))
        fill(self, path=str(path), shape=shape, dtype=dtype, stamp=stamp)

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.asarray(_open_zarr(self.path, self.stamp)[start:stop]).astype(self.dtype, copy=False)

    def identity(self) -> dict[str, Any]:
        return {"kind": "zarr", "name": Path(self.path).name, **describe(self), "mtime_ns": self.stamp}

    def __dask_tokenize__(self) -> str:
        return tokenize("ZarrSource", self.path, self.shape, self.dtype.str, self.stamp)


def _stamp_zarr(path: Path) -> int:
    for name in (".zarray", "zarr.json", ".zgroup", "."):
        if (path / name).exists():
            return (path / name).stat().st_mtime_ns
    raise InputError(f"{path}: does not exist; give the folder of a zarr array (samples, channels)")


@functools.lru_cache(maxsize=32)
def _open_zarr(path: str, stamp: int) -> Any:
    """Open once per process and version of the array: opening takes milliseconds, a read is often shorter."""
    import zarr

    try:
        found = zarr.open(path, mode="r")
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a zarr array ({error or type(error).__name__})") from error
    if not hasattr(found, "shape"):
        names = ", ".join(sorted(name for name, _ in found.arrays())) or "none"
        raise InputError(f"{path}: is a zarr group; give the path of an array in it (found: {names})")
    return found
