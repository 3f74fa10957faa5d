"""A kernel's name and a backend's name -> the function; nothing else.

A backend for GPUs has kernels for what pays there; for the others its stages take numba's. Its kernels take arrays of
the host or the device and leave their results on the device, so that a block travels there and back once.
"""

from __future__ import annotations

import inspect
import logging
import os
import platform
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from yass_dask.errors import InputError

CPU, GPU = ("numpy", "numba"), ("cupy", "jax")
BACKENDS = (*CPU, *GPU)

Where = Literal["any", "gpu", "cpu"]
"""Which workers a stage's tasks are for, where there are both kinds."""

LEAST_MEMORY = 2**20
"""A GPU that has not even this left is not worth asking again."""

_log = logging.getLogger("yass_dask")


def checked(backend: str) -> str:
    """The name, if it is `auto` or a backend's.

    Raises
    ------
    InputError
        For a backend that is unknown.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise InputError(f"backend {backend!r} is unknown; use one of auto, {', '.join(BACKENDS)}")
    return backend


def installed(backend: str) -> bool:
    """Whether this process can run a backend; JAX runs without a GPU too."""
    if backend in CPU:
        return True
    return find_spec(backend) is not None and (backend == "jax" or on_gpu(backend))


@cache
def on_gpu(backend: str) -> bool:
    """Whether a backend finds a GPU in this process."""
    if backend in CPU or find_spec(backend) is None:
        return False
    _prepare()
    try:
        found: bool = import_module(f"yass_dask.kernels.{'xla' if backend == 'jax' else 'cuda'}").finds_gpu()
    except Exception as error:  # a driver that does not fit, a library that lacks: as good as no GPU
        _log.info("%s finds no GPU: %s", backend, error, extra={"file_only": True})
        return False
    return found


@cache
def kernel(name: str, backend: str) -> Callable[..., Any]:
    """Kernel `name` for a backend.

    Kernels that NumPy already runs as compiled whole-array code have one file for both CPU backends: where there
    is no `<name>_numba.py`, the `numba` backend takes `<name>_numpy.py`. Where a GPU's backend has none, it takes
    numba's, and what lies on the device is fetched for it.
    """
    for candidate in (backend, "numba" if backend in GPU else "numpy", "numpy"):
        module = f"yass_dask.kernels.{name}_{candidate}"
        if find_spec(module) is None:
            continue
        if candidate in GPU:
            _prepare()
        found: Callable[..., Any] = getattr(import_module(module), name)
        if backend in CPU:
            return found
        return _from_host(found) if candidate in CPU else _within_memory(found, name, candidate)
    raise InputError(f"there is no kernel {name!r}")


def on_host(result: Any) -> Any:
    """NumPy arrays of what a kernel gave: an array, or a tuple of such."""
    if isinstance(result, tuple):
        parts = [on_host(part) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
    return result.get() if hasattr(result, "get") else np.asarray(result)


# --- memory of the device ---


class DeviceMemory:
    """Bytes that kernels of this process may use at once on its GPU; halved where that was too much."""

    def __init__(self) -> None:
        self.limit, self.bytes = 2**30, 2**28

    def allow(self, limit: int) -> None:
        """Take a quarter of a new limit for batches; traces, spectra and results need the rest."""
        if limit != self.limit:  # else what was found to fit stands
            self.limit, self.bytes = limit, max(limit // 4, LEAST_MEMORY)


MEMORY = DeviceMemory()


def _within_memory(compute: Callable[..., Any], name: str, backend: str) -> Callable[..., Any]:
    """The kernel in batches that fit; where not even a small one does, numba's."""
    takes_memory = "memory" in inspect.signature(compute).parameters

    def run(*arrays: Any, **options: Any) -> Any:
        while True:
            batch = {"memory": MEMORY.bytes} if takes_memory else {}
            try:
                return _settled(compute(*arrays, **options, **batch))
            except Exception as error:
                if not _is_out_of_memory(error):
                    raise
            if not takes_memory or MEMORY.bytes // 2 < LEAST_MEMORY:
                _log.warning("the GPU's memory does not hold a block in %s: computed by the CPU", name)
                return _from_host(kernel(name, "numba"))(*arrays, **options)
            MEMORY.bytes //= 2
            _log.warning("the GPU's memory is full in %s: batches of %d MB from here", name, MEMORY.bytes >> 20)

    return run


def _settled(result: Any) -> Any:
    """The result when it is there: JAX tells of full memory no earlier."""
    for part in result if isinstance(result, tuple) else (result,):
        if hasattr(part, "block_until_ready"):
            part.block_until_ready()
    return result


def _is_out_of_memory(error: Exception) -> bool:
    return type(error).__name__ == "OutOfMemoryError" or "RESOURCE_EXHAUSTED" in str(error)


def _from_host(compute: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arrays: Any, **options: Any) -> Any:
        return compute(*(on_host(array) for array in arrays), **options)

    return run


@cache
def _prepare() -> None:
    """Before JAX is imported: take memory as it is needed, and keep what was compiled for the next process."""
    cache_root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_root / "yass_dask" / f"jax-{platform.node()}"))
