"""Blocks, chunks and halos: the only halo arithmetic in the house.

The grid of blocks is part of the science: every kernel sees one block of one shape (core plus halo, the last
block padded), so that results never depend on how blocks are grouped. A *chunk* is a group of whole blocks: the
piece one task reads, and the only thing that the memory budget may change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from dask.delayed import Delayed, delayed

Arrays = Mapping[str, np.ndarray]

MAX_BLOCK_SECONDS = 1.0
MIN_BLOCK_SECONDS = 0.1
MAX_BLOCK_VALUES = 4_000_000
"""A float32 copy of a block stays below 16 MB, whatever the channel count."""


def block_samples(sampling_rate: float, n_channels: int) -> int:
    """Length of a block in samples: one second, less where many channels would make it too large."""
    longest = round(MAX_BLOCK_SECONDS * sampling_rate)
    shortest = max(1, round(MIN_BLOCK_SECONDS * sampling_rate))
    return max(shortest, min(longest, MAX_BLOCK_VALUES // max(n_channels, 1)))


class Chunk(NamedTuple):
    """A group of whole blocks, [first_block, stop_block), of a recording's grid."""

    first_block: int
    stop_block: int
    block_samples: int
    n_samples: int
    """Length of the whole recording: samples from here on are padding."""

    @property
    def start(self) -> int:
        return self.first_block * self.block_samples

    @property
    def stop(self) -> int:
        """First sample after the chunk, never past the recording's end."""
        return min(self.stop_block * self.block_samples, self.n_samples)

    @property
    def name(self) -> str:
        return f"{self.first_block:08d}-{self.stop_block:08d}"

    @property
    def n_blocks(self) -> int:
        return self.stop_block - self.first_block


class Block(NamedTuple):
    """One block of an overlapped chunk: its traces with halo, and where its core lies in the recording."""

    traces: np.ndarray
    number: int
    start: int
    stop: int
    """Core is [start, stop) in recording samples; stop never passes the recording's end."""


def chunks(n_samples: int, block: int, chunk_blocks: int) -> list[Chunk]:
    """Cut the grid of blocks into chunks of `chunk_blocks` blocks; the last one may be shorter."""
    n_blocks = max(1, -(-n_samples // block))
    return [
        Chunk(first, min(first + chunk_blocks, n_blocks), block, n_samples)
        for first in range(0, n_blocks, chunk_blocks)
    ]


def blocks(overlapped: np.ndarray, chunk: Chunk, halo: int) -> Iterator[Block]:
    """Yield the blocks of an overlapped chunk, each of `block_samples + 2 * halo` rows.

    Parameters
    ----------
    overlapped : (chunk.n_blocks * block_samples + 2 * halo, n_channels) array
        What `Recording.overlapped(halo)` gives for this chunk.
    """
    size = chunk.block_samples
    for offset in range(chunk.n_blocks):
        number = chunk.first_block + offset
        rows = overlapped[offset * size : (offset + 1) * size + 2 * halo]
        start = number * size
        yield Block(rows, number, start, min(start + size, chunk.n_samples))


def chunk_tasks(
    name: str, func: Callable[..., Any], recording: Any, halo: int, *inputs: Any, boundary: str = "zero"
) -> dict[str, Delayed]:
    """One task a chunk, by the chunk's name: `func(overlapped chunk, Chunk, *inputs)`."""
    task = delayed(func, name=name, pure=False)
    pieces = recording.overlapped(halo, boundary).to_delayed()[:, 0]
    return {chunk.name: task(piece, chunk, *inputs) for chunk, piece in zip(recording.chunks, pieces, strict=True)}


@dataclass(frozen=True)
class LazyTraces:
    """Traces not yet computed: what a stage hands to the store.

    `traces` is a dask array (n_samples, n_channels) whose chunks along time are the recording's chunks;
    `open` turns the finished zarr array into what the next stage takes.
    """

    traces: Any
    params: Any
    version: int
    open: Callable[[Any], Any]


@dataclass(frozen=True)
class LazyParts:
    """A result in parts not yet computed: each part is one task and one resumable file.

    A part is a Delayed that gives a mapping of field name to array. When all are there, each field is the
    concatenation of the parts along the first axis, in the order of the mapping; or `reduce` makes the fields of the
    parts, given one at a time. `open` takes the mapping of the joined (zarr) arrays, and gives what the next stage
    takes.
    """

    parts: Mapping[str, Delayed]
    params: Any
    version: int
    open: Callable[[Mapping[str, Any]], Any]
    reduce: Callable[[Iterator[Arrays]], Arrays] | None = None

    @classmethod
    def one(
        cls,
        name: str,
        make: Callable[..., Arrays],
        *inputs: Any,
        params: Any,
        version: int,
        open: Callable[..., Any],
    ) -> LazyParts:
        """A result of a single task, `make(*inputs)`."""
        task = delayed(make, name=name, pure=False)(*inputs)
        return cls({name: task}, params, version, open)
