"""Cores, and libraries kept from starting threads of their own."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

_MAPPED_FROM, _KEPT = 2**30, 2**29
KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(_MAPPED_FROM),
    "MALLOC_TRIM_THRESHOLD_": str(_KEPT),
}
"""What `keep_memory` does, for processes not started yet."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Options of glibc's mallopt."""

WORKER_SETTINGS: dict[str, object] = {
    # A job holds its data until they are written: nothing can be spilled, a paused worker pauses for ever.
    **{f"distributed.worker.memory.{action}": False for action in ("target", "spill", "pause")},
    # dask looks at clocks and memory up to 50 times a second: with its sampling of stacks, 100 times a second, a tenth
    # of a sort's CPU time.
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "2s",
    "distributed.worker.memory.monitor-interval": "500ms",
}
"""Settings of dask for workers that are started for a sort."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS and OpenMP use one thread, in libraries loaded already and in those loaded inside.

    Sums depend on the number of threads in the last bit, and workers are threads enough.
    """
    from threadpoolctl import threadpool_limits

    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def keep_memory() -> None:
    """Let glibc, where this is glibc, use again what was freed, and its threads share one pool of memory.

    By default a freed array of some MB goes back to the system, and the next one costs a page fault for each 4 kB of it
    (measured: five times what it takes to fill the array). And each thread keeps what it freed for itself: with
    2 workers and zarr's threads that doubles the memory of a sort. Threads that run already are not changed. It holds
    for the life of the process; `give_memory_back` returns what lies unused.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another system's library
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)


def give_memory_back() -> None:
    """Return what was freed and kept to the system."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def memory_used() -> int:
    """Bytes of memory that this process holds, what it freed and keeps included."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def available_cores() -> int:
    """Cores that this process may use: an affinity mask or a batch system may allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
