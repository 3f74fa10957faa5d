"""Traces that are made anew whenever they are read, in place of those that a stage would have stored."""

from __future__ import annotations

import sys
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from yass_dask.chunked import Chunk
from yass_dask.recording.overlap import Boundary, UnreadRows
from yass_dask.recording.recording import Recording

N_RECENT = 4
"""Blocks that each thread remembers: stages read block after block, each with a little of its neighbours."""


class _Recent(threading.local):
    """The blocks that this thread read last."""

    def __init__(self) -> None:
        self.blocks: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()


_recent = _Recent()


@dataclass(frozen=True, eq=False)
class ComputedSource:
    """What a stage makes of another recording's traces, block by block as the stage would: the same bytes.

    Parameters
    ----------
    make : array function
        Takes the rows of a chunk, the chunk and the inputs, as tasks of `chunked.chunk_tasks` do; gives int16.
    halo, boundary : as for `Recording.overlapped`
    """

    recording: Recording
    make: Callable[..., np.ndarray]
    halo: int
    inputs: tuple[Any, ...] = ()
    boundary: Boundary = "zero"
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def shape(self) -> tuple[int, int]:
        return self.recording.source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.int16)

    def read(self, start: int, stop: int) -> np.ndarray:
        size = self.recording.block_samples
        numbers = range(start // size, -(-stop // size))
        parts = [self._block(k)[max(start - k * size, 0) : stop - k * size] for k in numbers]
        return np.concatenate(parts) if parts else np.empty((0, self.shape[1]), self.dtype)

    def _block(self, number: int) -> np.ndarray:
        key, blocks = (self.token, number), _recent.blocks
        if key not in blocks:
            chunk = Chunk(number, number + 1, self.recording.block_samples, self.recording.n_samples)
            made = self.make(UnreadRows(self.recording.source, self.boundary), chunk, *self.inputs)
            while len(blocks) >= N_RECENT:
                blocks.popitem(last=False)
            blocks[key] = made
        blocks.move_to_end(key)
        return blocks[key]

    def identity(self) -> dict[str, Any]:
        return {"kind": "computed", "of": self.recording.identity(), "by": self.token}

    def __sizeof__(self) -> int:
        return sys.getsizeof(self.recording.source)

    def __dask_tokenize__(self) -> str:
        return self.token
