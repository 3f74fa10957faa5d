"""Flat binary files."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from dask.base import tokenize

from yass_dask.errors import InputError
from yass_dask.sources.protocol import PIECE_BYTES, check_dtype, checksum_of, fill, spread

ORDERS = ("samples", "channels")
SAME_TIME_NS = 2 * 10**9
"""Some shared file systems tell the time of a change less exactly on one host than on another."""


@dataclass(frozen=True, eq=False)
class BinarySource:
    """A flat binary file, opened anew by each read.

    Parameters
    ----------
    path : file
    file_dtype : number type of the file, byte order included
    n_channels : int
    order : "samples" (all channels of a sample lie together) or "channels" (all samples of a channel do)
    offset : bytes of header before the first sample
    """

    path: str
    file_dtype: np.dtype[Any]
    n_channels: int
    order: str = "samples"
    offset: int = 0
    shape: tuple[int, int] = field(init=False)
    stat: tuple[int, int] = field(init=False)
    """Size in bytes and time of last change in ns."""

    def __post_init__(self) -> None:
        path = Path(self.path).expanduser().absolute()
        if self.order not in ORDERS:
            raise InputError(f"{path}: order must be 'samples' or 'channels', found {self.order!r}")
        size, mtime_ns = _stat_file(path)
        dtype = check_dtype(self.file_dtype, str(path))
        n_samples = _count_samples(path, size, dtype, self.n_channels, self.offset)
        fill(self, path=str(path), file_dtype=dtype, shape=(n_samples, self.n_channels), stat=(size, mtime_ns))

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.file_dtype.newbyteorder("=")

    def read(self, start: int, stop: int) -> np.ndarray:
        try:
            with open(self.path, "rb", buffering=0) as file:
                found = os.fstat(file.fileno())
                if found.st_size != self.stat[0] or abs(found.st_mtime_ns - self.stat[1]) > SAME_TIME_NS:
                    raise InputError(
                        f"{self.path} changed while it was sorted: it had {self.stat[0]} bytes and now has "
                        f"{found.st_size}, last written {_when(found.st_mtime_ns)}, before {_when(self.stat[1])}. "
                        "Sort a file that nobody writes to; for the new one, start over with --clean"
                    )
                rows = self._rows(file, start, stop) if self.order == "samples" else self._columns(file, start, stop)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(
                f"{self.path} cannot be read any more ({reason}). Bring it back, and the same sort goes on"
            ) from error
        return rows.astype(self.dtype, order="C", copy=False)

    # Read rather than mapped: a mapped page costs more than what lies on it, and where the file is cut off or its disk
    # is gone, touching one ends the process.

    def _rows(self, file: Any, start: int, stop: int) -> np.ndarray:
        n_rows = max(stop - start, 0)
        return self._values(file, start * self.n_channels, n_rows * self.n_channels).reshape(n_rows, self.n_channels)

    def _columns(self, file: Any, start: int, stop: int) -> np.ndarray:
        columns = np.empty((self.n_channels, max(stop - start, 0)), self.file_dtype)
        for channel, column in enumerate(columns):
            column[:] = self._values(file, channel * self.shape[0] + start, len(column))
        return columns.T

    def _values(self, file: Any, first: int, count: int) -> np.ndarray:
        file.seek(self.offset + first * self.file_dtype.itemsize)
        values = np.fromfile(file, self.file_dtype, count)
        if len(values) < count:
            raise OSError(f"{count} values expected, {len(values)} found")
        return values

    def identity(self) -> dict[str, Any]:
        def read(start: int, stop: int) -> bytes:
            file.seek(start)
            return file.read(stop - start)

        with open(self.path, "rb") as file:
            checksum = checksum_of(read, spread(self.stat[0], PIECE_BYTES))
        return {
            "kind": "binary",
            "name": Path(self.path).name,
            "size": self.stat[0],
            "mtime_ns": self.stat[1],
            "dtype": self.file_dtype.str,
            "n_channels": self.n_channels,
            "order": self.order,
            "offset": self.offset,
            "checksum": checksum,
        }

    def __dask_tokenize__(self) -> str:
        return tokenize(
            "BinarySource",
            self.path,
            self.file_dtype.str,
            self.n_channels,
            self.order,
            self.offset,
            self.stat,
        )


def _when(ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ns / 1e9))


def _stat_file(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: the recording cannot be opened ({reason}); check the path") from error
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a binary file (for zarr use read_zarr)")
    return found.st_size, found.st_mtime_ns


def _count_samples(path: Path, size: int, dtype: np.dtype[Any], n_channels: int, offset: int) -> int:
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in (n_channels, offset))
    if not whole or n_channels < 1 or offset < 0:
        raise InputError(
            f"{path}: n_channels must be >= 1 and offset >= 0, found {n_channels!r} and {offset!r}; give whole numbers"
        )
    row = n_channels * dtype.itemsize
    data = size - offset
    if data < row:
        raise InputError(
            f"{path}: the file is empty: {size} bytes with a header of {offset}, and one sample "
            f"of {n_channels} channels of {dtype} takes {row}; record again, or correct offset"
        )
    if data % row:
        raise InputError(
            f"{path}: {data} bytes of data ({size} less a header of {offset}) is not a multiple of {row}, "
            f"one sample of {n_channels} channels of {dtype}: {data % row} bytes are left over; the file is "
            "truncated, or n_channels, dtype or offset is wrong"
        )
    return data // row
