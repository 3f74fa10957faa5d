"""`preprocess.run`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from yass_dask.compat.named import function_of
from yass_dask.compat.preprocess import batch, experimental
from yass_dask.compat.settings import read_config

FUNCTIONS: dict[str, Callable[..., Any]] = {"batch": batch.run, "experimental": experimental.run}


def run(
    if_file_exists: str = "skip", function: Callable[..., Any] | str = batch.run, **function_kwargs: Any
) -> tuple[str, dict[str, Any], np.ndarray]:
    """Filter and standardize the recording, and measure its whitening matrix.

    Parameters
    ----------
    if_file_exists : "overwrite", "abort" or "skip"
        With "skip" files are used that the same function made of the same recording with the same arguments.
    function : callable or name
        `preprocess.batch.run`, `preprocess.experimental.run`, or your own: called with the configuration,
        `if_file_exists` and `function_kwargs`, it returns the three values below.

    Returns
    -------
    standarized_path : path of the standardized recording
    standarized_params : mapping with dtype, n_channels, data_order
    whiten_filter : (n_channels, n_channels) array, whitened = traces @ whiten_filter

    Raises
    ------
    InputError
        No configuration, bad arguments, or a file is there and `if_file_exists` is "abort".
    """
    chosen = function_of(function, "preprocess", FUNCTIONS)
    path, params, whiten_filter = chosen(read_config(), if_file_exists, **function_kwargs)
    return path, params, whiten_filter
