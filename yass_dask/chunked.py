"""Blocks, chunks and halos: the only halo arithmetic in the house.

The grid of blocks is part of the science: every kernel sees one block of one shape (core plus halo, the last
block padded), so that results never depend on how blocks are grouped. A *chunk* is a group of whole blocks: the
piece one task reads, and the only thing that the memory budget may change.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from dask._task_spec import Alias, Task, TaskRef
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph

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


class Stride(NamedTuple):
    """Every `step`-th block of the grid, from block `first` on: what a stage looks at of a recording."""

    step: int = 1
    first: int = 0

    def n_samples(self, n_samples: int, block: int) -> int:
        """Samples of a recording that are looked at."""
        starts = np.arange(self.first * block, n_samples, self.step * block)
        return int(np.minimum(n_samples - starts, block).sum())


EVERY_BLOCK = Stride()


class Chunk(NamedTuple):
    """A group of whole blocks, [first_block, stop_block), of a recording's grid."""

    first_block: int
    stop_block: int
    block_samples: int
    n_samples: int
    """Length of the whole recording: samples from here on are padding."""
    step: int = 1
    first: int = 0
    """The blocks that are looked at, as in Stride"""

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

    @property
    def numbers(self) -> range:
        """Numbers of the blocks that are looked at."""
        return range(self.first_block + (self.first - self.first_block) % self.step, self.stop_block, self.step)


class Rows(Protocol):
    """A chunk with its halo that is not read yet."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows of samples [start, stop), filled up where the recording has none."""


class Block(NamedTuple):
    """One block of an overlapped chunk, and where its core lies in the recording."""

    overlapped: np.ndarray | Rows
    chunk: Chunk
    halo: int
    number: int

    @property
    def start(self) -> int:
        """First sample of the core."""
        return self.number * self.chunk.block_samples

    @property
    def stop(self) -> int:
        """First sample after the core, never past the recording's end."""
        return min(self.start + self.chunk.block_samples, self.chunk.n_samples)

    @property
    def traces(self) -> np.ndarray:
        """(block_samples + 2 halo, n_channels), read when asked for."""
        length = self.chunk.block_samples + 2 * self.halo
        if isinstance(self.overlapped, np.ndarray):
            first = self.start - self.chunk.start
            return self.overlapped[first : first + length]
        return self.overlapped.read(self.start - self.halo, self.start - self.halo + length)


def chunks(n_samples: int, block: int, chunk_blocks: int, stride: Stride = EVERY_BLOCK) -> list[Chunk]:
    """Cut the grid of blocks into chunks of `chunk_blocks` blocks; the last one may be shorter."""
    n_blocks = max(1, -(-n_samples // block))
    return [
        Chunk(first, min(first + chunk_blocks, n_blocks), block, n_samples, *stride)
        for first in range(0, n_blocks, chunk_blocks)
    ]


class _Read(NamedTuple):
    """Rows that were read already."""

    traces: np.ndarray

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.traces


def read_ahead(some: Iterable[Block], ahead: bool) -> Iterator[Block]:
    """The same blocks; if `ahead`, the traces of the next one are read meanwhile: while a GPU computes."""
    if not ahead:
        yield from some
        return

    def read(block: Block) -> Block:
        return block._replace(overlapped=_Read(block.traces))

    with ThreadPoolExecutor(1) as reader:
        coming = None
        for block in some:
            coming, ready = reader.submit(read, block), coming
            if ready is not None:
                yield ready.result()
        if coming is not None:
            yield coming.result()


def blocks(overlapped: np.ndarray | Rows, chunk: Chunk, halo: int) -> Iterator[Block]:
    """Yield the blocks of an overlapped chunk that are looked at, each of `block_samples + 2 * halo` rows.

    Parameters
    ----------
    overlapped : (chunk.n_blocks * block_samples + 2 * halo, n_channels) array, or Rows
        What `Recording.overlapped(halo)` gives for this chunk; or what reads a block of it when asked for.
    """
    for number in chunk.numbers:
        yield Block(overlapped, chunk, halo, number)


def lazy_call(name: str, func: Callable[..., Any], *args: Any) -> Delayed:
    """`delayed(func)(*args)`, where none of the arguments holds a dask collection: `delayed` searches them all for one,
    which takes longer than the rest of a long recording's plan.
    """
    key = f"{name}-{uuid.uuid4().hex}"
    return Delayed(key, HighLevelGraph({key: {key: Task(key, func, *args)}}, {key: set()}))


def then(func: Callable[..., Any], before: Delayed, *args: Any) -> Delayed:
    """A task that takes another one's result, then arguments that hold no dask collection."""
    key = f"{before.key}-{func.__name__}"
    layer: Any = {key: {key: Task(key, func, TaskRef(before.key), *args)}}
    graph = before.__dask_graph__()
    return Delayed(key, HighLevelGraph.merge(graph, HighLevelGraph(layer, {key: set(before.__dask_layers__())})))


def chunk_tasks(
    name: str, func: Callable[..., Any], recording: Any, halo: int, *inputs: Any, boundary: str = "zero"
) -> dict[str, Delayed]:
    """One task a chunk of which any block is looked at, by its name: `func(overlapped chunk, Chunk, *inputs)`.

    The inputs are handles and plain things, no dask collections.
    """
    tasks = {}
    for chunk, piece in recording.pieces(halo, boundary):
        if len(chunk.numbers) and isinstance(piece, Delayed):
            tasks[chunk.name] = delayed(func, name=name, pure=False)(piece, chunk, *inputs)
        elif len(chunk.numbers):
            tasks[chunk.name] = lazy_call(name, func, piece, chunk, *inputs)
    return tasks


def joined_traces(tasks: Mapping[str, Delayed], recording: Any, dtype: Any) -> Any:
    """Dask array (n_samples, n_channels) of tasks that each give the traces of a chunk, in order."""
    import dask.array as da

    name = f"traces-{uuid.uuid4().hex}"
    aliases: dict[Any, Any] = {(name, i, 0): Alias((name, i, 0), t.key) for i, t in enumerate(tasks.values())}
    inputs = merged(tasks.values())
    graph = HighLevelGraph.merge(inputs, HighLevelGraph({name: aliases}, {name: set(inputs.layers)}))
    lengths = tuple(chunk.stop - chunk.start for chunk in recording.chunks)
    return da.Array(graph, name, chunks=(lengths, (recording.n_channels,)), dtype=dtype)


def needed_for(graph: Mapping[Any, Any], key: Any) -> dict[Any, Any]:
    """The part of a graph that a key depends on."""
    needed, pending = {}, [key]
    while pending:
        found = pending.pop()
        if found not in needed and found in graph:  # a key that is not there is a future of a cluster
            needed[found] = graph[found]
            pending += getattr(graph[found], "dependencies", ())
    return needed


def only(graph: Mapping[Any, Any], key: Any) -> Delayed:
    """One key of a graph, with what it depends on."""
    name = f"only-{uuid.uuid4().hex}"
    return Delayed(key, HighLevelGraph({name: needed_for(graph, key)}, {name: set()}), layer=name)


def merged(tasks: Iterable[Delayed]) -> HighLevelGraph:
    """The graphs of tasks as one layer; a layer that many share is looked at once."""
    layers: dict[str, Mapping] = {}
    for task in tasks:
        layers.update(HighLevelGraph.merge(task.__dask_graph__()).layers)
    graph: dict[Any, Any] = {}
    for layer in layers.values():
        graph.update(layer)
    name = f"merged-{uuid.uuid4().hex}"
    return HighLevelGraph({name: graph}, {name: set()})


@dataclass(frozen=True)
class LazyTraces:
    """Traces not yet computed: what a stage hands to the store.

    `traces` is a dask array (n_samples, n_channels) whose chunks along time are the recording's chunks;
    `open` turns the finished zarr array, or `unstored`, into what the next stage takes.
    """

    traces: Any
    params: Any
    version: int
    open: Callable[[Any], Any]
    reads_traces: bool = True
    """As in LazyParts"""
    unstored: Any = None
    """A source of the same traces, which are made anew whenever they are read"""


@dataclass(frozen=True)
class LazyParts:
    """A result in parts not yet computed: each part is one task and one resumable file.

    A part is a Delayed that gives a mapping of field name to array. When all are there, each field is the
    concatenation of the parts along the first axis, in the order of the mapping; or `reduce` makes the fields of the
    parts, given one at a time. `open` takes the mapping of the joined (zarr) arrays, and gives what the next stage
    takes. Stages that `reads_traces` run on GPUs where there are any; the others never do.
    """

    parts: Mapping[str, Delayed]
    params: Any
    version: int
    open: Callable[[Mapping[str, Any]], Any]
    reduce: Callable[[Iterator[Arrays]], Arrays] | None = None
    reads_traces: bool = False

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
