"""The memory plan: how long chunks may be and how many workers fit, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from yass_dask.errors import InputError

if TYPE_CHECKING:
    from yass_dask.recording import Recording

LONGEST_CHUNK_BLOCKS, MOST_BLOCKS, CHUNK_VALUES = 10, 60, 10_000_000
"""Some seconds, of few channels more, so that tasks are long against what starting one takes: a longer chunk gains no
speed, and makes a kill lose more."""

CHUNKS_PER_WORKER = 4
"""At least, where blocks are that many: workers should end together."""

PROCESS_BYTES = 300 * 2**20
"""A Python process with the libraries loaded: 160 MB are its own, and glibc keeps up to as much of what was freed."""

WORK_BYTES_PER_VALUE = 20
"""Arrays for the block a kernel works on, per sample and channel (measured): the filter's or the whitening's float32
copies take 12 to 14, the spectra of the noise 18; pursuit adds 6 times the units per channel to its 12, as
correlations (float32) and closed rows (int16) of every unit."""

READ_COPIES = 2
"""A chunk at an edge of the recording is held twice: as read, and filled up to whole blocks."""

DECODE_BYTES_PER_VALUE = 6
"""Preprocessed traces while they are read: compressed, decoded and filled up."""

TRACE_BYTES_PER_VALUE = 2
"""Preprocessed traces are int16, in memory and (before compression) on disk."""

ANEW_BYTES_PER_VALUE = 10
"""Where preprocessed traces are not stored: the blocks that a thread remembers, and what it reads of them."""


@dataclass(frozen=True)
class Plan:
    """What a sort will take.

    Attributes
    ----------
    chunk_blocks : int
        Blocks that one task reads at once.
    part_blocks : int
        Blocks that one task goes through where it reads them one at a time.
    n_workers : int
        Tasks at the same time.
    bytes_per_task : int
        Array bytes alive in one task.
    peak_bytes : int
        The whole process tree: interpreters and tasks.
    """

    chunk_blocks: int
    part_blocks: int
    n_workers: int
    bytes_per_task: int
    peak_bytes: int


def plan(
    recording: Recording,
    max_memory: int | None,
    memory_limit: int | None,
    n_workers: int,
    *,
    processes: bool = False,
    store_traces: bool = True,
) -> Plan:
    """Find the longest chunks, with as many workers as asked for if they fit at all.

    Neither changes a result. Short of memory, chunks get shorter first, then workers fewer.

    Parameters
    ----------
    max_memory : int, optional
        Bytes of arrays alive in one task.
    memory_limit : int, optional
        Bytes of the whole process tree.
    processes : bool
        Each worker is a process of its own, beside this one.
    store_traces : bool
        As for `Store`.

    Raises
    ------
    InputError
        A single block does not fit; the message tells the number that would do.
    """
    block = task_bytes(recording, 1, store_traces)
    if max_memory is not None and block > max_memory:
        raise InputError(
            f"resources.max_memory is {_megabytes(max_memory)}, but one block of {recording.block_samples} "
            f"samples x {recording.n_channels} channels takes {_megabytes(block)}; "
            f"set it to at least {_megabytes(block)}."
        )
    workers = n_workers
    while memory_limit is not None and workers > 1 and tree_bytes(block, workers, processes) > memory_limit:
        workers -= 1
    if memory_limit is not None and tree_bytes(block, workers, processes) > memory_limit:
        needed = _megabytes(tree_bytes(block, workers, processes))
        raise InputError(
            f"resources.memory_limit is {_megabytes(memory_limit)}, but one worker with one block of "
            f"{recording.n_channels} channels takes {needed}; set it to at least {needed}."
        )
    chunk_blocks = _longest(recording, max_memory, memory_limit, workers, processes, store_traces)
    in_task = task_bytes(recording, chunk_blocks, store_traces)
    part_blocks = max(chunk_blocks, min(MOST_BLOCKS, _even_share(recording, workers)))
    return Plan(chunk_blocks, part_blocks, workers, in_task, tree_bytes(in_task, workers, processes))


def _longest(
    recording: Recording, max_memory: int | None, memory_limit: int | None, workers: int, processes: bool,
    store_traces: bool,
) -> int:  # fmt: skip
    """Most blocks per chunk that fit, with some chunks for every worker."""
    longest = CHUNK_VALUES // (recording.block_samples * recording.n_channels)
    longest = max(LONGEST_CHUNK_BLOCKS, min(longest, MOST_BLOCKS))
    chunk_blocks = min(longest, _even_share(recording, workers))
    while chunk_blocks > 1:
        in_task = task_bytes(recording, chunk_blocks, store_traces)
        fits_task = max_memory is None or in_task <= max_memory
        if fits_task and (memory_limit is None or tree_bytes(in_task, workers, processes) <= memory_limit):
            break
        chunk_blocks -= 1
    return chunk_blocks


def _even_share(recording: Recording, workers: int) -> int:
    """Blocks of a chunk if every worker gets CHUNKS_PER_WORKER."""
    n_blocks = max(1, -(-recording.n_samples // recording.block_samples))
    return max(1, -(-n_blocks // (CHUNKS_PER_WORKER * workers)))


def task_bytes(recording: Recording, chunk_blocks: int, store_traces: bool = True) -> int:
    """Bytes of arrays alive in a task: while its chunk is read, or the chunk, what is written, the work on a block."""
    values, size = recording.block_samples * recording.n_channels, recording.dtype.itemsize
    reading = chunk_blocks * max(READ_COPIES * size, DECODE_BYTES_PER_VALUE)
    working = chunk_blocks * (size + TRACE_BYTES_PER_VALUE) + WORK_BYTES_PER_VALUE
    return int(values * (max(reading, working) + (0 if store_traces else ANEW_BYTES_PER_VALUE)))


def tree_bytes(bytes_per_task: int, n_workers: int, processes: bool) -> int:
    """Bytes of the whole process tree."""
    interpreters = 1 + (n_workers if processes else 0)
    return interpreters * PROCESS_BYTES + n_workers * bytes_per_task


def _megabytes(size: int) -> str:
    """Rounded up, in the unit of the configuration file (MB = 1024 x 1024 bytes)."""
    return f"{-(-size // 2**20)}MB"
