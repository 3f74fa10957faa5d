"""Cores, and libraries kept from starting threads of their own."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
_M_ARENA_MAX = -8
"""Option of glibc's mallopt."""

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


def one_arena() -> None:
    """Let glibc's threads share one pool of memory, where this is glibc.

    By default each thread keeps what it freed for itself: with 2 workers and zarr's threads that doubles the memory
    of a sort. Arrays are large and allocations few, so that sharing costs no time. Threads that run already are
    not changed.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def available_cores() -> int:
    """Cores that this process may use: an affinity mask or a batch system may allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
