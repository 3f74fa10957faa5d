"""Sources made of other sources: one after the other, or a part of one."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.base import tokenize

from yass_dask.errors import InputError
from yass_dask.sources.arrays import DaskSource
from yass_dask.sources.protocol import Source


@dataclass(frozen=True, eq=False)
class ConcatSource:
    """Sources one after the other: the files of one recording."""

    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        first = self.sources[0]
        for index, source in enumerate(self.sources):
            if (source.shape[1], source.dtype) != (first.shape[1], first.dtype):
                raise InputError(
                    f"recording {index}: {source.shape[1]} channels of {source.dtype}, but recording 0 has "
                    f"{first.shape[1]} of {first.dtype}; recordings sorted together must agree"
                )

    @property
    def shape(self) -> tuple[int, int]:
        return (sum(source.shape[0] for source in self.sources), self.sources[0].shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.sources[0].dtype

    def read(self, start: int, stop: int) -> np.ndarray:
        pieces = [source.read(a, b) for source, a, b in self._pieces(start, stop)]
        if not pieces:
            return np.empty((0, self.shape[1]), self.dtype)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[Source, int, int]]:
        first = 0
        for source in self.sources:
            length = source.shape[0]
            a, b = max(start - first, 0), min(stop - first, length)
            if a < b:
                yield source, a, b
            first += length

    def identity(self) -> dict[str, Any]:
        return {"kind": "concat", "sources": [source.identity() for source in self.sources]}

    def __sizeof__(self) -> int:
        return sum(sys.getsizeof(source) for source in self.sources)

    def __dask_tokenize__(self) -> str:
        return tokenize("ConcatSource", self.sources)


@dataclass(frozen=True, eq=False)
class SlicedSource:
    """Samples [start, stop) and some channels (None: all) of another source."""

    source: Source
    start: int
    stop: int
    channels: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        n_channels = self.source.shape[1] if self.channels is None else len(self.channels)
        return (self.stop - self.start, n_channels)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.source.dtype

    def read(self, start: int, stop: int) -> np.ndarray:
        rows = self.source.read(self.start + start, self.start + stop)
        return rows if self.channels is None else rows[:, list(self.channels)]

    def identity(self) -> dict[str, Any]:
        channels = None if self.channels is None else list(self.channels)
        inner = self.source.identity()
        return {"kind": "slice", "of": inner, "start": self.start, "stop": self.stop, "channels": channels}

    def __sizeof__(self) -> int:
        return sys.getsizeof(self.source)

    def __dask_tokenize__(self) -> str:
        return tokenize("SlicedSource", self.source, self.start, self.stop, self.channels)


def files_of(source: Source) -> list[str]:
    """Paths that a source reads from, wherever it is read; none for arrays in memory."""
    path = getattr(source, "path", None)
    if path is not None:
        return [str(path)]
    inner = source.sources if isinstance(source, ConcatSource) else ()
    inner = (source.source,) if hasattr(source, "source") else inner  # a part of it, or it with something added
    return [path for one in inner for path in files_of(one)]


def slice_source(source: Source, start: int, stop: int, channels: Sequence[int] | None = None) -> Source:
    """Give samples [start, stop) and some channels (None: all) of a source, unread; slices compose."""
    if (start, stop) == (0, source.shape[0]) and channels is None:
        return source
    if isinstance(source, DaskSource):
        rows = source.array[start:stop]
        return DaskSource(rows if channels is None else rows[:, list(channels)])
    picked = None if channels is None else tuple(int(c) for c in channels)
    if not isinstance(source, SlicedSource):
        return SlicedSource(source, start, stop, picked)
    if picked is None:
        picked = source.channels
    elif source.channels is not None:
        picked = tuple(source.channels[c] for c in picked)
    return SlicedSource(source.source, source.start + start, source.start + stop, picked)
