"""Batches of a file: which samples and channels, and what a function makes of each, as dask tasks over chunks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from dask.delayed import Delayed

from yass_dask import chunked
from yass_dask.compat.batch.reader import Columns, RecordingsReader
from yass_dask.errors import InputError

_log = logging.getLogger("yass_dask")

Index = tuple[slice, Any]


class Batch(NamedTuple):
    """One batch that is not read yet."""

    columns: Columns
    start: int
    stop: int
    buffer: int

    @property
    def local(self) -> Index:
        """Where the batch lies in what `read` gives."""
        return slice(self.buffer, self.buffer + self.stop - self.start), slice(0, self.columns.shape[1])

    @property
    def absolute(self) -> Index:
        """Where the batch lies in the file."""
        return slice(self.start, self.stop), self.columns.channels

    def read(self) -> np.ndarray:
        """(stop - start + 2 buffer, n_channels), zeros where the file has no samples."""
        return self.columns.within(self.start - self.buffer, self.stop + self.buffer)


def cut(columns: Columns, from_time: int | None, to_time: int | None, max_bytes: int, buffer: int = 0) -> list[Batch]:
    """Cut samples [from_time, to_time) into chunks of as many samples as `max_bytes` hold of these channels.

    Raises
    ------
    InputError
        Not even one sample fits, or the times are not in the file.
    """
    start, stop = span_of(columns.shape[0], from_time, to_time)
    row_bytes = columns.shape[1] * columns.dtype.itemsize
    length = max_bytes // row_bytes
    if length < 1:
        raise InputError(
            f"max_memory: {max_bytes} bytes hold less than one sample of {columns.shape[1]} channels of "
            f"{columns.dtype} ({row_bytes} bytes); give more"
        )
    chunks = chunked.chunks(stop - start, length, 1)
    return [Batch(columns, start + chunk.start, start + chunk.stop, buffer) for chunk in chunks]


def span_of(observations: int, from_time: int | None, to_time: int | None) -> tuple[int, int]:
    """First sample and the one after the last.

    Raises
    ------
    InputError
        They are not in the file.
    """
    start, stop = from_time or 0, observations if to_time is None else to_time
    if not 0 <= start < stop <= observations:
        raise InputError(
            f"from_time {from_time} and to_time {to_time}: the file has samples 0 to {observations}; "
            "give 0 <= from_time < to_time <= observations"
        )
    return start, stop


def channels_of(channels: Any, reader: RecordingsReader) -> slice | list[int]:
    """'all', one channel or several, as an index.

    Raises
    ------
    InputError
        A channel that is not in the file.
    """
    if isinstance(channels, str) and channels == "all":
        return slice(0, reader.channels)
    listed = [int(c) for c in (channels if isinstance(channels, Sequence | np.ndarray) else [channels])]
    if not listed or not all(0 <= c < reader.channels for c in listed):
        raise InputError(f"channels is {channels!r}; give 'all' or channels of 0 ... {reader.channels - 1}")
    return listed


def n_processes(processes: int | str) -> int:
    """Number of batches worked on at once.

    Raises
    ------
    InputError
        Neither 'max' nor a whole number of at least 1.
    """
    if processes == "max":
        from yass_dask.runtime import available_cores

        return available_cores()
    if isinstance(processes, str) or processes < 1:
        raise InputError(f"processes is {processes!r}; give 'max' or a whole number of at least 1")
    return int(processes)


def computed(tasks: Iterable[Delayed], processes: int, show_progress: bool, label: str) -> Iterator[Any]:
    """Results of the tasks in their order; never more of them in memory than are worked on at once."""
    import dask

    tasks, scheduler = list(tasks), "sync" if processes == 1 else "threads"
    with _progress(len(tasks), show_progress, label) as advance:
        for first in range(0, len(tasks), processes):
            for result in dask.compute(
                *tasks[first : first + processes], scheduler=scheduler, num_workers=processes, optimize_graph=False
            ):
                yield result
                advance()


@contextmanager
def timed(function: Callable[..., Any]) -> Iterator[None]:
    """Log how long it took."""
    began = time.monotonic()
    yield
    seconds = time.monotonic() - began
    name = getattr(function, "__name__", repr(function))
    spent = f"{seconds:.2f} seconds" if seconds < 60 else f"{int(seconds // 60)} minutes {seconds % 60:.0f} seconds"
    _log.info("%s took %s", name, spent)


@contextmanager
def _progress(total: int, shown: bool, label: str) -> Iterator[Callable[[], None]]:
    """A bar on stderr, or nothing."""
    if not shown:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task(label, total=total)
        yield lambda: progress.advance(bar)
