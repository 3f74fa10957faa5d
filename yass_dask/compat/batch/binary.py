"""Arrays in flat binary files that are read when they are indexed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from yass_dask.errors import InputError

SHORT_LINE_BYTES, SLAB_BYTES = 2**16, 2**22
"""Lines of at most so many bytes are read whole, as to seek in each takes longer; so many bytes of them at once."""


class MemoryMap:
    """A `numpy.memmap` that is opened anew for every index, so that no page of the file stays in memory.

    Parameters are those of `numpy.memmap`; what is read is a copy.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._args, self._kwargs = args, kwargs
        mapped = self._open()
        self.shape, self.dtype = mapped.shape, mapped.dtype

    def _open(self) -> np.memmap:
        return np.memmap(*self._args, **self._kwargs)

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.array(self._open()[key])

    def __len__(self) -> int:
        return int(self.shape[0])


class BinaryReader:
    """A two-dimensional array in a flat binary file, read by seeking: `reader[rows, columns]`.

    Parameters
    ----------
    path_to_file : file
    dtype : numpy type
    shape : (n_rows, n_columns)
    order : "C" (the numbers of a row lie together) or "F" (those of a column do)

    Raises
    ------
    InputError
        Another order, or a shape that the file does not have.
    """

    def __init__(self, path_to_file: str | os.PathLike[str], dtype: Any, shape: tuple[int, int], order: str = "F"):
        if order not in ("C", "F"):
            raise InputError(f"BinaryReader: order is {order!r}; give 'C' (rows together) or 'F' (columns together)")
        self.path, self.dtype, self.order = os.fspath(path_to_file), np.dtype(dtype), order
        self.shape = (int(shape[0]), int(shape[1]))
        expected, found = self.shape[0] * self.shape[1] * self.dtype.itemsize, os.path.getsize(self.path)
        if expected != found:
            raise InputError(f"{self.path}: {found} bytes, but shape {self.shape} of {self.dtype} takes {expected}")

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read `[rows, columns]`.

        Raises
        ------
        ValueError
            A slice with a step.
        NotImplementedError
            A list on the axis whose numbers lie together.
        IndexError
            An index outside of the array.
        """
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        across, along = (rows, columns) if self.order == "C" else (columns, rows)
        lines, length = self.shape if self.order == "C" else self.shape[::-1]
        if not isinstance(along, slice | int | np.integer):
            raise NotImplementedError("BinaryReader: give an index or a slice on the axis whose numbers lie together")
        start, stop = _span(along, length)
        picked = _indices(across, lines)
        if isinstance(across, slice) and length * self.dtype.itemsize <= SHORT_LINE_BYTES:
            read = self._lines(picked, length, start, stop)
        else:
            read = self._pieces(picked, length, start, stop)
        whole = read if self.order == "C" else read.T
        return whole[tuple(0 if isinstance(k, int | np.integer) else slice(None) for k in (rows, columns))]

    def _lines(self, picked: list[int], length: int, start: int, stop: int) -> np.ndarray:
        """Values [start, stop) of lines that follow each other, which are read whole, many at a time."""
        read = np.empty((len(picked), stop - start), self.dtype)
        many = max(1, SLAB_BYTES // max(1, length * self.dtype.itemsize))
        with open(self.path, "rb") as file:
            file.seek(sum(picked[:1]) * length * self.dtype.itemsize)
            for first in range(0, len(picked), many):
                some = read[first : first + many]
                some[:] = np.fromfile(file, self.dtype, len(some) * length).reshape(-1, length)[:, start:stop]
        return read

    def _pieces(self, picked: list[int], length: int, start: int, stop: int) -> np.ndarray:
        """Values [start, stop) of some lines, by a read each."""
        read = np.empty((len(picked), stop - start), self.dtype)
        with open(self.path, "rb") as file:
            for line, values in zip(picked, read, strict=True):
                file.seek((line * length + start) * self.dtype.itemsize)
                values[:] = np.fromfile(file, self.dtype, stop - start)
        return read

    def __len__(self) -> int:
        return self.shape[0]


def _span(key: Any, length: int) -> tuple[int, int]:
    """Start and stop of an index or a slice."""
    if isinstance(key, slice):
        start, stop, step = key.indices(length)
        if step != 1:
            raise ValueError(f"BinaryReader: slices must have no step, found {key}")
        return start, max(start, stop)
    (index,) = _indices(key, length)
    return index, index + 1


def _indices(key: Any, length: int) -> list[int]:
    """All indices that are meant, none of them negative."""
    if isinstance(key, slice):
        return list(range(*_span(key, length)))
    given = list(key) if isinstance(key, Iterable) else [key]
    for index in given:
        if not -length <= index < length:
            raise IndexError(f"BinaryReader: index {index} is outside of an axis of {length}")
    return [int(index) % length for index in given]
