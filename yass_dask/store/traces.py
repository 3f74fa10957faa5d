"""Traces: tasks write whole zarr chunks in place, and a mark beside them says which, with their checksums."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np
from dask.delayed import Delayed

from yass_dask.chunked import only, then
from yass_dask.store import zarrays
from yass_dask.store.disk import read_json, readable_errors, write_json
from yass_dask.store.stage import Stage

ARRAY = "traces"
_READERS = 4


@dataclass(frozen=True)
class Span:
    """Blocks [first, stop) that one task writes."""

    first: int
    stop: int

    @property
    def name(self) -> str:
        return f"{self.first:08d}-{self.stop:08d}"


def layout_of(traces: Any, block_samples: int) -> zarrays.Layout:
    """A zarr chunk is a block of all channels."""
    return zarrays.Layout(tuple(map(int, traces.shape)), block_samples, np.dtype(traces.dtype).str)


def spans(traces: Any, block_samples: int) -> list[Span]:
    """The blocks of every dask chunk; ValueError where two tasks would write to one block."""
    rows, columns = traces.chunks
    edges = [0, *np.cumsum(rows).tolist()]
    if len(columns) != 1 or any(edge % block_samples for edge in edges[:-1]):
        raise ValueError(f"traces need chunks of whole blocks ({block_samples} samples) and all channels")
    return [Span(a // block_samples, -(-b // block_samples)) for a, b in itertools.pairwise(edges)]


def write_chunk(traces: np.ndarray, stage: Stage, layout: zarrays.Layout, span: Span) -> None:
    """Write a dask chunk's blocks, then its mark. The task that computed them runs this."""
    array, size = stage.path / ARRAY, layout.chunk_rows
    expected = min(span.stop * size, layout.shape[0]) - span.first * size
    if traces.shape[0] != expected:
        raise ValueError(f"{stage.name}: blocks {span.name} have {expected} samples, not {traces.shape[0]}")
    with readable_errors(stage.path):
        stage.check()
        checksums = [
            zarrays.put_chunk(array, layout, span.first + i, traces[i * size : (i + 1) * size], stage.scratch)
            for i in range(span.stop - span.first)
        ]
        write_json(stage.scratch / f"{span.name}.json", {"first": span.first, "checksums": checksums})


def write_tasks(traces: Any, stage: Stage, layout: zarrays.Layout, missing: Collection[Span]) -> dict[str, Delayed]:
    """One task per missing chunk that computes it and writes it."""
    (traces,) = dask.optimize(traces)
    graph = dict(traces.__dask_graph__())
    tasks = {}
    for i, span in enumerate(spans(traces, layout.chunk_rows)):
        key = (traces.name, i, 0)
        if span in missing:
            tasks[span.name] = then(write_chunk, only(graph, key), stage, layout, span)
    return tasks


def found(stage: Stage, layout: zarrays.Layout, wanted: Sequence[Span]) -> set[Span]:
    """Chunks whose blocks all lie on the disk as their marks say, whatever the chunk length was then."""
    _, sound = marked(stage, layout)
    return {span for span in wanted if sound.issuperset(range(span.first, span.stop))}


def marked(stage: Stage, layout: zarrays.Layout) -> tuple[int, set[int]]:
    """Number of blocks that have marks, and which of them lie on the disk as these say."""
    marks = _marks(stage)
    blocks = list(marks)
    with ThreadPoolExecutor(_READERS) as readers:
        present = readers.map(lambda block: zarrays.checksum(stage.path / ARRAY, layout, block), blocks)
        return len(blocks), {block for block, value in zip(blocks, present, strict=True) if value in marks[block]}


def put_checksums(stage: Stage, layout: zarrays.Layout) -> int:
    """Gather the checksums that the marks give, when all chunks are there; see `zarrays.put_checksums`."""
    array, marks = stage.path / ARRAY, _marks(stage)

    def of(block: int) -> int:
        known = marks.get(block, set())
        # Of two tasks that wrote a block, which differ only where the codec's version does, the last one's file stands.
        found = next(iter(known)) if len(known) == 1 else zarrays.checksum(array, layout, block)
        if found is None:
            raise FileNotFoundError(f"{zarrays.chunk_file(array, layout, block)} is gone")
        return found

    return zarrays.put_checksums(array, [of(block) for block in range(layout.n_chunks)], stage.scratch)


def mark(stage: Stage, sound: Mapping[int, int]) -> None:
    """Write marks of these blocks and their checksums, as the tasks that wrote them did."""
    blocks = sorted(sound)
    starts = [i for i, block in enumerate(blocks) if i == 0 or block != blocks[i - 1] + 1]
    for a, b in itertools.pairwise([*starts, len(blocks)]):
        span = Span(blocks[a], blocks[b - 1] + 1)
        content = {"first": span.first, "checksums": [sound[block] for block in blocks[a:b]]}
        write_json(stage.scratch / f"{span.name}.json", content)


def _marks(stage: Stage) -> dict[int, set[int]]:
    """Checksums that the marks give for every block."""
    marks: dict[int, set[int]] = defaultdict(set)
    for path in stage.scratch.glob("[0-9]*.json"):
        mark = read_json(path)
        for offset, value in enumerate(mark.get("checksums", [])):
            marks[mark["first"] + offset].add(value)
    return dict(marks)
