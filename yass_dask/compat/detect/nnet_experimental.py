"""The experimental neural network detector: that of `nnet`, recorded under its own name."""

from __future__ import annotations

from typing import Any

import numpy as np

from yass_dask.compat.detect import nnet


def run(*args: Any, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
    """The same as `nnet.run`; parameters and results are its."""
    return nnet.run(*args, **{**kwargs, "function": "detect.nnet_experimental.run"})
