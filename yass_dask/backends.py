"""A kernel's name and a backend's name -> the function; nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from yass_dask.errors import InputError

BACKENDS = ("numpy", "numba")
PLANNED = ("jax", "cupy")


def resolve(backend: str) -> str:
    """Name of the backend that runs: `auto` is numba; a backend asked for by name never falls back.

    Raises
    ------
    InputError
        For a backend that is unknown or has no kernels yet.
    """
    if backend == "auto":
        return "numba"
    if backend in PLANNED:
        raise InputError(f"backend {backend!r} has no kernels yet; use one of auto, {', '.join(BACKENDS)}")
    if backend not in BACKENDS:
        raise InputError(f"backend {backend!r} is unknown; use one of auto, {', '.join(BACKENDS)}")
    return backend


@cache
def kernel(name: str, backend: str) -> Callable[..., Any]:
    """Kernel `name` for a CPU backend.

    Kernels that NumPy already runs as compiled whole-array code have one file for both CPU backends: where there
    is no `<name>_numba.py`, the `numba` backend takes `<name>_numpy.py`.
    """
    for candidate in (backend, "numpy"):
        module = f"yass_dask.kernels.{name}_{candidate}"
        if find_spec(module) is not None:
            return getattr(import_module(module), name)
    raise InputError(f"there is no kernel {name!r}")
