"""Zarr arrays: with the store, the only place that knows zarr."""

from __future__ import annotations

import functools
import json
import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from dask.base import tokenize

from yass_dask.errors import InputError
from yass_dask.sources.checksums import MISSING, checks_of
from yass_dask.sources.codecs import refuse_pickles
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
        rows = open_rows(self.path, self.stamp)
        if rows is not None:
            return rows.read(start, stop)
        try:
            read = np.asarray(_open_zarr(self.path, self.stamp)[start:stop])
        except Exception as error:  # each codec, and each version of zarr, raises its own
            raise _unreadable(self.path, error) from error
        return read.astype(self.dtype, copy=False)

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

    refuse_pickles(Path(path))
    try:
        found = zarr.open(path, mode="r")
    except Exception as error:  # the description is anybody's JSON: what zarr raises about it has no end
        why = error if str(error) else type(error).__name__
        raise InputError(
            f"{path}: not a zarr array ({why}); give the folder of an array (samples, channels) of format 2 or 3"
        ) from error
    if not hasattr(found, "shape"):
        names = ", ".join(sorted(name for name, _ in found.arrays())) or "none"
        raise InputError(f"{path}: is a zarr group; give the path of an array in it (found: {names})")
    return found


BLOSC_HEADER, BLOSC_COPIED = struct.Struct("<2xBxIII"), 0x2
"""Flags, bytes of the chunk, of one of its pieces, and compressed; the flag of chunks that are only copied."""


@dataclass(frozen=True)
class BloscRows:
    """An array of format 2 in Blosc-compressed chunks of whole rows; read without the library's copies.

    Of a chunk at the edge only the pieces that hold wanted rows are decompressed, where numcodecs can: a halo costs
    what it is long.
    """

    folder: Path
    shape: tuple[int, int]
    chunk_rows: int
    dtype: np.dtype[Any]
    fill_value: int | float
    suffix: str
    codec: Any

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop)."""
        start, stop = max(start, 0), min(stop, self.shape[0])
        result = np.empty((max(stop - start, 0), self.shape[1]), self.dtype)
        for index in range(start // self.chunk_rows, -(-stop // self.chunk_rows) if result.size else 0):
            first = index * self.chunk_rows
            low, high = max(start, first), min(stop, first + self.chunk_rows)
            self._fill(result[low - start : high - start], index, low - first)
        return result

    def _fill(self, rows: np.ndarray, index: int, offset: int) -> None:
        """Fill `rows` with those of a chunk from `offset` on."""
        name = f"{index}{self.suffix}"
        path, checks = self.folder / name, checks_of(self.folder)
        data = None if checks is None else checks.unseen(name, index)
        try:
            if len(rows) == self.chunk_rows:
                self.codec.decode(self._checked(data or path.read_bytes()), out=rows)
            elif hasattr(self.codec, "decode_partial"):
                self.codec.decode_partial(
                    self._checked(data or _mapped(path)), offset * self.shape[1], rows.size, out=rows
                )
            else:  # gone since numcodecs 0.16
                whole = np.empty((self.chunk_rows, self.shape[1]), self.dtype)
                self.codec.decode(self._checked(data or path.read_bytes()), out=whole)
                rows[:] = whole[offset : offset + len(rows)]
        except FileNotFoundError:
            if checks is not None:
                raise checks.damage(name, MISSING) from None
            rows[:] = self.fill_value  # as in any zarr array: nothing but the fill value was written there
        except Exception as error:  # whatever a codec says about bytes that are not its own
            raise _unreadable(path, error) from error

    def _checked(self, data: Any) -> Any:
        """A chunk's bytes, if they are as many as they say: Blosc believes them, and would read on behind their end."""
        expected = self.chunk_rows * self.shape[1] * self.dtype.itemsize
        if len(data) < BLOSC_HEADER.size:
            raise ValueError(f"{len(data)} bytes are too few for a chunk")
        flags, n_bytes, piece, compressed = BLOSC_HEADER.unpack_from(data)
        if n_bytes != expected or compressed != len(data):
            raise ValueError(
                f"{len(data)} bytes that say they are {compressed}, of {n_bytes} where {expected} should be"
            )
        if not flags & BLOSC_COPIED:
            n_pieces = -(-n_bytes // max(piece, 1))
            end = BLOSC_HEADER.size + 4 * n_pieces
            starts = np.frombuffer(data[BLOSC_HEADER.size : end], "<i4")
            if not piece or len(starts) < n_pieces or (starts < end).any() or (starts > compressed - 4).any():
                raise ValueError("its table of pieces points out of it")
        return data


def _unreadable(path: str | Path, error: Exception) -> InputError:
    why = error if str(error) else type(error).__name__
    return InputError(f"{path}: damaged, cannot be read ({why}); bring it back from where it came, or make it anew")


def _mapped(path: Path) -> mmap.mmap:
    """Of a file at the edge only the pages are read that hold wanted rows."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


@functools.lru_cache(maxsize=32)
def open_rows(path: str, stamp: int) -> BloscRows | None:
    """The array's rows, where its metadata say that they can be read so."""
    import numcodecs

    try:
        about = json.loads((Path(path) / ".zarray").read_bytes())
        codec = numcodecs.get_codec(about["compressor"])
        shape, chunks, dtype = tuple(about["shape"]), tuple(about["chunks"]), np.dtype(about["dtype"])
        plain = about["order"] == "C" and not about["filters"] and about["fill_value"] is not None
        whole_rows = len(shape) == len(chunks) == 2 and chunks[1] == shape[1] and min(chunks) > 0
        suffix = about.get("dimension_separator", ".") + "0"
    except (OSError, ValueError, KeyError, TypeError):
        return None
    known = isinstance(codec, numcodecs.Blosc) and dtype.isnative
    if not (plain and whole_rows and known and dtype.kind in "iuf" and isinstance(about["fill_value"], int | float)):
        return None
    return BloscRows(Path(path), (shape[0], shape[1]), chunks[0], dtype, about["fill_value"], suffix, codec)
