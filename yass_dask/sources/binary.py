"""Flat binary files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from dask.base import tokenize

from yass_dask.errors import InputError
from yass_dask.sources.protocol import PIECE_BYTES, check_dtype, checksum_of, fill, spread

ORDERS = ("samples", "channels")


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
            rows = self._rows(start, stop) if self.order == "samples" else self._columns(start, stop)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path}: was {self.stat[0]} bytes when opened, cannot be read: {error}") from error
        return rows.astype(self.dtype, order="C", copy=False)

    def _rows(self, start: int, stop: int) -> np.ndarray:
        """Read rather than mapped: a mapped page costs more than what lies on it."""
        first = self.offset + start * self.n_channels * self.file_dtype.itemsize
        shape = (max(stop - start, 0), self.n_channels)
        values = np.fromfile(self.path, self.file_dtype, shape[0] * shape[1], offset=first)
        return values.reshape(shape)

    def _columns(self, start: int, stop: int) -> np.ndarray:
        mapped = np.memmap(self.path, self.file_dtype, "r", self.offset, self.shape[::-1])
        return np.array(mapped[:, start:stop].T, dtype=self.dtype, order="C")

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
    whole = isinstance(n_channels, int | np.integer) and isinstance(offset, int | np.integer)
    if not whole or n_channels < 1 or offset < 0:
        raise InputError(
            f"{path}: n_channels must be a whole number >= 1 and offset one >= 0, found {n_channels!r} and {offset!r}"
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
