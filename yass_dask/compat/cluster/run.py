"""`cluster.run`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.compat.batch.outputs import name_of
from yass_dask.compat.cluster.legacy import location, neigh_channels
from yass_dask.compat.detect.inputs import as_train
from yass_dask.compat.files import StepFiles, array_of, digest
from yass_dask.compat.named import function_of
from yass_dask.compat.settings import output_in, read_config
from yass_dask.compat.traces import RECORDINGS, Standardized

FUNCTIONS: dict[str, Callable[..., Any]] = {"location": location, "neigh_channels": neigh_channels}
FILES = ("spike_train_cluster.npy", "tmp_loc.npy", "vbPar.npz")


def run(
    spike_index: np.ndarray | str | Path, if_file_exists: str = "skip", save_results: bool = False,
    function: Callable[..., Any] | str = location, *, scores: np.ndarray | str | Path | None = None,
    recordings_filename: str = RECORDINGS, output_directory: str | Path | None = None,
) -> tuple[np.ndarray, np.ndarray, Any]:  # fmt: skip
    """Sort spikes into units.

    Parameters
    ----------
    spike_index : (n, 2) sample and main channel, or a .npy file
    if_file_exists : "overwrite", "abort" or "skip"
        With "skip" files are used that the same function made of the same spikes.
    save_results : write cluster/{spike_train_cluster.npy, tmp_loc.npy, vbPar.npz}
    function : callable or name
        `cluster.legacy.location`, `cluster.legacy.neigh_channels`, or your own: called with spike_index (and `scores`
        and `recordings_filename` if they are given), it returns the three values below.
    scores : (n, n_features, n_channels) features of these spikes, or a .npy file; None: made of the standardized
        recording
    recordings_filename : that recording, in the output folder or in its folder preprocess
    output_directory : in place of that of `set_config`

    Returns
    -------
    spike_train : (n_kept, 3) float64: sample, unit, weight, in order of time
    tmp_loc : (n_units,) channel that each unit was found on
    vbParam : what is known of the units' features, see `cluster.legacy.location`

    Raises
    ------
    InputError
        No configuration, bad arguments, or a file is there and `if_file_exists` is "abort".
    """
    chosen = function_of(function, "cluster", FUNCTIONS)
    train = as_train(spike_index, "spike_index")
    given: dict[str, Any] = {} if scores is None else {"scores": array_of(scores, "scores", 3)}
    if recordings_filename != RECORDINGS:
        given["recordings_filename"] = recordings_filename
    with output_in(output_directory):
        settings = read_config()
        file = Standardized.named(recordings_filename, settings)
        recipe = {
            "function": name_of(chosen), "params": settings.params.cluster.model_dump(),
            "features": settings.params.features.model_dump(), "spike_index": digest(train),
            "scores": digest(given["scores"]) if "scores" in given else None,
            **file.identity(),
        }  # fmt: skip
        files = StepFiles(settings.folder / "cluster", FILES, recipe)

        def compute() -> dict[str, Any]:
            return dict(zip(FILES, chosen(train, **given), strict=True))

        values = files.results(compute, if_file_exists, save_results)
    return values[FILES[0]], values[FILES[1]], values[FILES[2]]
