"""`set_tensorflow_config`: how much of a GPU's memory the neural networks may take."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from yass_dask.errors import InputError

_log = logging.getLogger("yass_dask")

MEMORY_SHARE = "XLA_PYTHON_CLIENT_MEM_FRACTION"
"""JAX reads it when it starts, in this process and in those started from it."""


def set_tensorflow_config(config: Any) -> None:
    """Limit the share of a GPU's memory that the networks take; there is no TensorFlow here, they run on JAX.

    Parameters
    ----------
    config : a share (above 0, at most 1; 1 is no limit), a mapping with `per_process_gpu_memory_fraction`, or
        TensorFlow's own ConfigProto, of which `gpu_options.per_process_gpu_memory_fraction` is read

    Raises
    ------
    InputError
        There is no such share in it.
    """
    share = _share_of(config)
    if share == 1:
        os.environ.pop(MEMORY_SHARE, None)
    else:
        os.environ[MEMORY_SHARE] = f"{share:g}"
    if "jax" in sys.modules:
        _log.warning("JAX is loaded already: the limit on GPU memory holds for processes that start from now on")


def _share_of(config: Any) -> float:
    found = config
    for name in ("gpu_options", "per_process_gpu_memory_fraction"):
        found = found.get(name, found) if isinstance(found, Mapping) else getattr(found, name, found)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found <= 1:
        raise InputError(f"GPU memory: found {config!r}; give a share above 0 and at most 1")
    return float(found)
