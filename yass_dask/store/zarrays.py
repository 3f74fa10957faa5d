"""Zarr arrays on disk, in zarr's format 2, which zarr 2.18 and zarr 3 both open.

Chunks are written straight into the (frozen, simple) format rather than through the library, because a
checkpoint needs what neither library promises: each chunk file appears whole or not at all, is written even
where all its values are zero, and the checksum is that of the very bytes written. Reading goes through zarr.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.sources.checksums import FILE as CHECKSUMS_FILE
from yass_dask.sources.checksums import METADATA, NUMBERS, CheckedArray, checks_of
from yass_dask.sources.codecs import refuse_pickles
from yass_dask.store.disk import write_whole

TARGET_CHUNK_BYTES = 4 * 2**20
GROUP_FILE = ".zgroup"
ARRAY_FILE = METADATA
ATTRIBUTES_FILE = ".zattrs"


@dataclass(frozen=True)
class Layout:
    """Shape, chunk shape and dtype of an array that is chunked along its first axis only."""

    shape: tuple[int, ...]
    chunk_rows: int
    dtype: str

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        return (self.chunk_rows, *(max(1, size) for size in self.shape[1:]))

    @property
    def n_chunks(self) -> int:
        return -(-self.shape[0] // self.chunk_rows) if all(self.shape[1:]) else 0


def layout_for(n_rows: int, row_shape: tuple[int, ...], dtype: np.dtype) -> Layout:
    """Layout of a table's field: chunks of about 4 MB, whatever the parts were, so that they never show."""
    row_bytes = max(1, dtype.itemsize * int(np.prod(row_shape, dtype=np.int64)))
    chunk_rows = max(1, min(max(n_rows, 1), TARGET_CHUNK_BYTES // row_bytes))
    return Layout((n_rows, *row_shape), chunk_rows, dtype.str)


@lru_cache(maxsize=1)
def _codec() -> Any:
    from numcodecs import Blosc, blosc

    # With several threads Blosc stores a chunk's pieces in the order they get ready: other bytes each time.
    blosc.use_threads = False
    # Measured on preprocessed traces, against zstd at level 1: a third of the time both ways, and smaller.
    return Blosc(cname="lz4", clevel=5, shuffle=Blosc.BITSHUFFLE)


def make_group(folder: Path) -> None:
    """Make `folder` a zarr group, unless it is one."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / GROUP_FILE).exists():
        write_whole(folder / GROUP_FILE, lambda file: _dump(file, {"zarr_format": 2}), folder)


def make_array(folder: Path, layout: Layout) -> None:
    """Make an array without chunks yet; what lay in `folder` before is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    put_metadata(folder, layout)


def put_metadata(folder: Path, layout: Layout) -> None:
    """Write the file that tells what an array is."""
    description = {
        "zarr_format": 2,
        "shape": list(layout.shape),
        "chunks": list(layout.chunk_shape),
        "dtype": layout.dtype,
        "compressor": _codec().get_config(),
        "fill_value": 0 if np.dtype(layout.dtype).kind in "iuf" else None,
        "order": "C",
        "filters": None,
        "dimension_separator": ".",
    }
    write_whole(folder / ARRAY_FILE, lambda file: _dump(file, description), folder)


def _dump(file: Any, content: Any) -> None:
    file.write(json.dumps(content, indent=4).encode())


def read_layout(folder: Path) -> Layout | None:
    """Layout of the array in `folder`, None where there is none."""
    try:
        found = json.loads((folder / ARRAY_FILE).read_bytes())
        return Layout(tuple(found["shape"]), int(found["chunks"][0]), str(found["dtype"]))
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def chunk_file(folder: Path, layout: Layout, index: int) -> Path:
    """File of the chunk that begins at row `index * chunk_rows`."""
    return folder / ".".join([str(index)] + ["0"] * (len(layout.shape) - 1))


def put_chunk(folder: Path, layout: Layout, index: int, rows: np.ndarray, scratch: Path) -> int:
    """Write one whole chunk (the last one is filled up with zeros); give the checksum of what was written."""
    expected = min(layout.chunk_rows, layout.shape[0] - index * layout.chunk_rows)
    if rows.shape != (expected, *layout.shape[1:]):
        raise ValueError(f"chunk {index} of {folder} has shape {(expected, *layout.shape[1:])}, not {rows.shape}")
    if rows.dtype.newbyteorder("=") != np.dtype(layout.dtype).newbyteorder("="):
        raise ValueError(f"{folder} holds {layout.dtype}, chunk {index} is {rows.dtype}")
    full = np.ascontiguousarray(rows, layout.dtype)
    if len(rows) < layout.chunk_rows:
        full = np.zeros(layout.chunk_shape, layout.dtype)
        full[: len(rows)] = rows
    data = _codec().encode(full)
    write_whole(chunk_file(folder, layout, index), lambda file: file.write(data), scratch)
    return zlib.crc32(data)


def checksum(folder: Path, layout: Layout, index: int) -> int | None:
    """Checksum of a chunk as it lies on the disk, None where it is missing."""
    try:
        return zlib.crc32(chunk_file(folder, layout, index).read_bytes())
    except OSError:
        return None


def put_rows(folder: Path, layout: Layout, pieces: Iterable[np.ndarray], scratch: Path) -> int:
    """Make an array and fill it from consecutive pieces, holding one piece and one chunk at a time.

    Returns
    -------
    What `put_checksums` does.
    """
    make_array(folder, layout)
    checksums = []
    for index, rows in enumerate(_rechunked(pieces, layout.chunk_rows)):
        if index < layout.n_chunks:  # none where a row has no values
            checksums.append(put_chunk(folder, layout, index, rows, scratch))
    return put_checksums(folder, checksums, scratch)


def put_checksums(folder: Path, chunks: Sequence[int], scratch: Path) -> int:
    """Write the checksum file of a finished array; give the checksum of that file."""
    metadata = zlib.crc32((folder / ARRAY_FILE).read_bytes())
    data = np.array([metadata, *chunks], NUMBERS).tobytes()
    write_whole(folder / CHECKSUMS_FILE, lambda file: file.write(data), scratch)
    return zlib.crc32(data)


def read_checksums(folder: Path, checksum: int) -> np.ndarray | None:
    """What `put_checksums` wrote: of the metadata, then of every chunk; None where the file is not what it was."""
    try:
        data = (folder / CHECKSUMS_FILE).read_bytes()
    except OSError:
        return None
    return np.frombuffer(data, NUMBERS) if zlib.crc32(data) == checksum else None


def _rechunked(pieces: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Cut consecutive pieces anew into pieces of `size` rows, the last one shorter."""
    waiting: list[np.ndarray] = []
    n_waiting = 0
    for piece in pieces:
        start = 0
        while n_waiting + len(piece) - start >= size:
            stop = start + size - n_waiting
            yield np.concatenate([*waiting, piece[start:stop]])
            waiting, n_waiting, start = [], 0, stop
        if start < len(piece):
            waiting.append(piece[start:])
            n_waiting += len(piece) - start
    if waiting:
        yield np.concatenate(waiting)


def footprint(folder: Path) -> tuple[int, int]:
    """Number of files and bytes of an array (0, 0 where it is missing): a cheap sign that none was lost."""
    try:
        sizes = [entry.stat().st_size for entry in _files(folder)]
    except OSError:
        return 0, 0
    return len(sizes), sum(sizes)


def _files(folder: Path) -> Iterator[Any]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if entry.is_file())


def open_array(folder: Path) -> Any:
    """The zarr array in `folder`, read only; its chunks are checked when they are read."""
    import zarr

    refuse_pickles(folder)
    checks = checks_of(folder)
    array = zarr.open_array(str(folder), mode="r")
    return array if checks is None else CheckedArray(array, checks)
