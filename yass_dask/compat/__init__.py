"""The programming interface of YASS 0.10: `import yass_dask.compat as yass`.

Thin adapters: every step runs the stages of yass_dask as lazy dask work over chunks, and writes YASS's files.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from yass_dask.compat.device import set_tensorflow_config
from yass_dask.compat.settings import read_config, reset_config, set_config

MODULES = (
    "augment",
    "batch",
    "cluster",
    "deconvolute",
    "detect",
    "geometry",
    "neuralnetwork",
    "pipeline",
    "preprocess",
    "templates",
)
__all__ = [*MODULES, "read_config", "reset_config", "set_config", "set_tensorflow_config"]


def __getattr__(name: str) -> Any:
    """Import a step's module when it is first asked for."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted([*globals(), *MODULES])
