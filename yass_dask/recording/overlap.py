"""Chunks with their halo: the tasks that read and trim them, and the way round for dask arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from yass_dask import chunked
from yass_dask.errors import InputError
from yass_dask.sources import Source

if TYPE_CHECKING:
    import dask.array as da

Boundary = Literal["edge", "zero"]
BOUNDARIES = ("edge", "zero")


def check_overlap(halo: int, boundary: str) -> None:
    if halo < 0 or int(halo) != halo:
        raise InputError(f"halo: must be a whole number of samples >= 0, found {halo!r}")
    if boundary not in BOUNDARIES:
        raise InputError(f"boundary: must be 'edge' or 'zero', found {boundary!r}")


def read_core(table: np.ndarray, source: Source) -> np.ndarray:
    chunk = _chunk_of(table)
    return source.read(chunk.start, chunk.stop)


def read_overlapped(table: np.ndarray, source: Source, halo: int, boundary: Boundary) -> np.ndarray:
    """Read a chunk and its halo."""
    chunk = _chunk_of(table)
    rows = UnreadRows(source, boundary)
    return rows.read(chunk.start - halo, chunk.stop_block * chunk.block_samples + halo)


@dataclass(frozen=True)
class UnreadRows:
    """Rows of a source, and what lies outside of it."""

    source: Source
    boundary: Boundary

    def read(self, first: int, last: int) -> np.ndarray:
        """Samples [first, last), as far as the recording goes, the rest filled up."""
        start, stop = max(first, 0), min(last, self.source.shape[0])
        rows = self.source.read(start, stop)
        if (start, stop) == (first, last):
            return rows
        filled = np.zeros((last - first, rows.shape[1]), dtype=rows.dtype)
        filled[start - first : stop - first] = rows
        if self.boundary == "edge":
            filled[: start - first] = rows[0]
            filled[stop - first :] = rows[-1]
        return filled


def map_blocks(
    table: np.ndarray,
    overlapped: np.ndarray,
    function: Callable[[np.ndarray], np.ndarray],
    depth: int,
    result_dtype: np.dtype[Any],
) -> np.ndarray:
    """Run a function on each block of a chunk and join what it makes of their cores."""
    cores = []
    for block in chunked.blocks(overlapped, _chunk_of(table), depth):
        # A copy, because blocks share their halos and the function may work in place.
        result = function(block.traces.copy())
        if np.shape(result) != block.traces.shape:
            raise ValueError(
                f"map_overlap: func was given {block.traces.shape} and must return that shape, "
                f"returned {np.shape(result)}"
            )
        cores.append(result[depth : depth + block.stop - block.start])
    return np.concatenate(cores).astype(result_dtype, copy=False)


def overlap_dask(array: da.Array, chunks: list[chunked.Chunk], halo: int, boundary: Boundary) -> da.Array:
    """Overlap a dask array by its own graph, to the values that reading would give."""
    import dask.array as da

    block = chunks[0].block_samples
    lengths = tuple(chunk.n_blocks * block for chunk in chunks)
    missing = sum(lengths) - len(array)
    mode = "edge" if boundary == "edge" else "constant"
    array = array.rechunk({1: -1})
    if halo <= min(lengths):
        full = da.pad(array, ((0, missing), (0, 0)), mode=mode) if missing else array
        full = full.rechunk((lengths, array.chunks[1]))
        outside = "nearest" if boundary == "edge" else 0
        return da.overlap.overlap(full, {0: halo, 1: 0}, {0: outside, 1: "none"}, allow_rechunk=False)
    # A halo longer than a chunk reaches beyond the next one, which dask's overlap does not do.
    full = da.pad(array, ((halo, missing + halo), (0, 0)), mode=mode)
    starts = [chunk.first_block * block for chunk in chunks]
    pieces = [full[a : a + n + 2 * halo].rechunk(-1) for a, n in zip(starts, lengths, strict=True)]
    return da.concatenate(pieces)


def _chunk_of(table: np.ndarray) -> chunked.Chunk:
    return chunked.Chunk(*(int(value) for value in table[0]))
