"""`deconvolute.run`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.compat.batch.outputs import name_of
from yass_dask.compat.deconvolute.legacy import legacy
from yass_dask.compat.detect.inputs import as_train
from yass_dask.compat.files import StepFiles, array_of, digest
from yass_dask.compat.named import function_of
from yass_dask.compat.settings import output_in, read_config
from yass_dask.compat.traces import Standardized

FUNCTIONS: dict[str, Callable[..., Any]] = {"legacy": legacy}
FILES = ("spike_train.npy",)


def run(
    spike_index: np.ndarray | str | Path, templates: np.ndarray | str | Path,
    recordings_filename: str = "standarized.bin", function: Callable[..., Any] | str = legacy,
    output_directory: str | Path | None = None, if_file_exists: str = "skip", save_results: bool = True,
) -> np.ndarray:  # fmt: skip
    """Find the spikes of the templates.

    Parameters
    ----------
    spike_index : (n, 2) sample and channel, or a .npy file
        Where spikes may be: see `deconvolute.legacy`.
    templates : (n_channels, n_samples, n_templates), or a .npy file
        As `templates.run` returns them, with the extremum in the middle.
    recordings_filename : standardized recording in the output folder, or in its folder preprocess
    function : callable or name
        `deconvolute.legacy`, or your own: called with the first three arguments, it returns the spike train.
    output_directory : in place of that of `set_config`
    if_file_exists : "overwrite", "abort" or "skip"
        With "skip" a file is used that was made of the same arguments.
    save_results : write spike_train.npy into the output folder

    Returns
    -------
    (n_spikes, 2) int64: sample and template, in order of time

    Raises
    ------
    InputError
        No configuration, bad arguments, or the file is there and `if_file_exists` is "abort".
    """
    chosen = function_of(function, "deconvolute", FUNCTIONS)
    train, waveforms = as_train(spike_index, "spike_index"), array_of(templates, "templates", 3)
    with output_in(output_directory):
        settings = read_config()
        file = Standardized.named(recordings_filename, settings)
        params = settings.params.deconvolve.model_dump()
        recipe = {"function": name_of(chosen), "params": params, "radius": settings.recordings.spatial_radius}
        recipe |= {"spike_index": digest(train), "templates": digest(waveforms), **file.identity()}
        files = StepFiles(settings.folder, FILES, recipe)

        def compute() -> dict[str, np.ndarray]:
            return {FILES[0]: np.asarray(chosen(train, waveforms, recordings_filename))}

        found: np.ndarray = files.results(compute, if_file_exists, save_results)[FILES[0]]
    return found
