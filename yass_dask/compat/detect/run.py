"""`detect.run`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from dask.base import tokenize

from yass_dask.compat.batch.outputs import name_of
from yass_dask.compat.detect import nnet, nnet_experimental, threshold
from yass_dask.compat.detect.inputs import DetectInputs, as_train
from yass_dask.compat.files import StepFiles
from yass_dask.compat.named import function_of
from yass_dask.compat.settings import read_config

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "threshold": threshold.run,
    "nnet": nnet.run,
    "nnet_experimental": nnet_experimental.run,
}
FILES = ("spike_index_clear.npy", "spike_index_all.npy")


def run(
    standarized_path: str | Path, standarized_params: Mapping[str, Any] | str | Path,
    whiten_filter: np.ndarray | str | Path, if_file_exists: str = "skip", save_results: bool = False,
    function: Callable[..., Any] | str = threshold.run, **function_kwargs: Any,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Detect spikes.

    Parameters
    ----------
    standarized_path : standardized recording, a flat binary file
    standarized_params : mapping with dtype, n_channels, data_order, or a YAML file
    whiten_filter : (n_channels, n_channels) array, or a .npy file
    if_file_exists : "overwrite", "abort" or "skip"
        With "skip" files are used that the same function made of the same recording with the same arguments.
    save_results : write detect/{spike_index_clear, spike_index_all, rotation, scores_clear}.npy
    function : callable or name
        `detect.threshold.run`, `detect.nnet.run`, `detect.nnet_experimental.run`, or your own: called with the first
        five arguments and `function_kwargs`, it returns the two values below.

    Returns
    -------
    spike_index_clear, spike_index_all : (n_spikes, 2) int64, sample and main channel, in order of time
        The first holds those that stand clear of other spikes.

    Raises
    ------
    InputError
        No configuration, bad arguments, or a file is there and `if_file_exists` is "abort".
    """
    chosen = function_of(function, "detect", FUNCTIONS)
    arguments = (standarized_path, standarized_params, whiten_filter, if_file_exists, save_results)
    if chosen in FUNCTIONS.values():
        found: tuple[np.ndarray, np.ndarray] = chosen(*arguments, **function_kwargs)
        return found
    inputs = DetectInputs.of(standarized_path, standarized_params, whiten_filter)
    recipe = {"function": name_of(chosen), "arguments": tokenize(function_kwargs), **inputs.identity()}

    def compute() -> dict[str, np.ndarray]:
        trains = chosen(*arguments, **function_kwargs)
        return {name: as_train(train, name) for name, train in zip(FILES, trains, strict=True)}

    values = StepFiles(read_config().folder / "detect", FILES, recipe).results(compute, if_file_exists, save_results)
    return values[FILES[0]], values[FILES[1]]
