"""What the CuPy kernels share: compiled CUDA sources.

Sources take shared memory by SHARED(type, name, length), and wait with PAUSE, so that the tests can run them on a CPU.
"""

from functools import cache
from typing import Any

import cupy

PRELUDE = """
#ifndef SHARED
#define SHARED(type, name, length) __shared__ type name[length]
#define PAUSE()
#endif
"""

THREADS = 256


@cache
def compiled(source: str, name: str, *, together: bool = False) -> Any:
    """A kernel of a CUDA source; `together`: all its blocks run at the same time, so they may wait for one another."""
    return cupy.RawKernel(PRELUDE + source, name, enable_cooperative_groups=together)


def over(n: int) -> tuple[tuple[int], tuple[int]]:
    """(grid, block) of one thread for each of n."""
    return (-(-n // THREADS),), (THREADS,)


def as_float(array: Any) -> Any:
    """On the device, float32, in C order."""
    return cupy.ascontiguousarray(cupy.asarray(array), dtype=cupy.float32)


def as_int(array: Any) -> Any:
    """On the device, int32, in C order."""
    return cupy.ascontiguousarray(cupy.asarray(array), dtype=cupy.int32)


def finds_gpu() -> bool:
    """Whether there is a GPU."""
    return bool(cupy.cuda.runtime.getDeviceCount() > 0)
