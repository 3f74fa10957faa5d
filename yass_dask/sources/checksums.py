"""Checksums of the chunk files of an array in zarr's format 2: the store writes them, whoever reads checks them.

They lie in a file of their own in the array's folder, which zarr does not look at. Every process checks a chunk when
it reads it first: a pass over the file costs less than to decompress it.
"""

from __future__ import annotations

import functools
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.errors import InputError

FILE, METADATA = ".crc32", ".zarray"
NUMBERS = np.dtype("<u4")
"""The file holds one for the metadata, then one a chunk."""
WRONG, MISSING = "its checksum is not that of what was written", "the file is missing"


class DamagedError(InputError):
    """What is on the disk is not what was written there."""


class Checks:
    """Checksums of an array's chunks, as they were written.

    Parameters
    ----------
    folder : Path
        The array's folder, OUT/yass.zarr/STAGE/ARRAY.
    expected : (1 + n_chunks,) uint32
        What its checksum file holds.
    """

    def __init__(self, folder: Path, expected: np.ndarray) -> None:
        self._folder, self._expected = folder, expected
        self._sound = np.zeros(len(expected), bool)
        self._check(METADATA, self._bytes(METADATA), 0)

    def unseen(self, name: str, index: int) -> bytes | None:
        """Bytes of a chunk's file, checked; None if this process has checked it before.

        Raises
        ------
        DamagedError
            The file is missing, or is not what was written.
        """
        if self._sound[index + 1]:
            return None
        data = self._bytes(name)
        self._check(name, data, index + 1)
        return data

    def _bytes(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            raise self.damage(name, MISSING) from None

    def _check(self, name: str, data: bytes, row: int) -> None:
        if zlib.crc32(data) != self._expected[row]:
            raise self.damage(name, WRONG)
        self._sound[row] = True

    def damage(self, name: str, why: str) -> DamagedError:
        """What to say of a damaged file."""
        return DamagedError(
            f"{self._folder / name} is damaged: {why}. Run `yass verify {self._folder.parents[2]}`, then the same sort "
            "again: it computes what was damaged, and nothing else"
        )


def checks_of(folder: Path) -> Checks | None:
    """Checksums of the array in a folder; None where there are none: it is not the store's, or not finished."""
    try:
        found = os.stat(folder / FILE)
    except OSError:
        return None
    return _read(str(folder), found.st_mtime_ns, found.st_ino)


@functools.lru_cache(maxsize=256)
def _read(folder: str, changed_ns: int, inode: int) -> Checks:
    path = Path(folder)
    return Checks(path, np.frombuffer((path / FILE).read_bytes(), NUMBERS))


class CheckedArray:
    """A zarr array whose chunks are checked before rows of them are read.

    Parameters
    ----------
    array : zarr array, chunked along its first axis only
    checks : its checksums
    """

    def __init__(self, array: Any, checks: Checks) -> None:
        self._array, self._checks = array, checks

    def __getitem__(self, key: Any) -> Any:
        suffix = ".0" * (len(self._array.shape) - 1)
        for index in self._chunks(key[0] if isinstance(key, tuple) and key else key):
            self._checks.unseen(f"{index}{suffix}", index)
        return self._array[key]

    def _chunks(self, rows: Any) -> range:
        """Numbers of the chunks that hold these rows; of all for whatever is not a number or a slice."""
        n_rows, size = self._array.shape[0], self._array.chunks[0]
        if isinstance(rows, int | np.integer):
            rows = slice(int(rows) % max(n_rows, 1), int(rows) % max(n_rows, 1) + 1)
        start, stop, _ = rows.indices(n_rows) if isinstance(rows, slice) else (0, n_rows, 1)
        empty = stop <= start or 0 in self._array.shape
        return range(0) if empty else range(start // size, -(-stop // size))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def __len__(self) -> int:
        return int(self._array.shape[0])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # not while it is being unpickled, and has no array yet
            raise AttributeError(name)
        return getattr(self._array, name)
