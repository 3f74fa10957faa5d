"""The neural network detector, and its triage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.compat.detect.finding import params_with, run_stage
from yass_dask.compat.detect.inputs import DetectInputs
from yass_dask.compat.settings import read_config
from yass_dask.detect import DetectParams
from yass_dask.errors import InputError
from yass_dask.features import FeatureParams


def run(
    standarized_path: str | Path, standarized_params: Mapping[str, Any] | str | Path,
    whiten_filter: np.ndarray | str | Path, if_file_exists: str = "skip", save_results: bool = False,
    detector: str | Path | None = None, detector_threshold: float = 0.5, triage: str | Path | bool | None = None,
    triage_threshold: float = 0.5, temporal_features: int = FeatureParams().n_components,
    function: str = "detect.nnet.run",
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Detect what a network takes for spikes; parameters not named here are those of `detect.run`.

    Parameters
    ----------
    detector : folder of networks, as `yass train` writes them, or the detector's file in it; None: the package's
    detector_threshold : least probability of a spike
    triage : the same folder, or the triage's file in it, or None; False: no triage
    triage_threshold : least probability of a single spike: others are no clear ones
    temporal_features : principal components of a waveform on each channel; there is no autoencoder
    function : name that the files are recorded under

    Returns
    -------
    spike_index_clear, spike_index_all : (n_spikes, 2) int64

    Raises
    ------
    InputError
        The networks are not there, or are in two folders.
    """
    if "method" not in DetectParams.model_fields:
        raise InputError("detect.nnet: this version of yass_dask has no networks; use detect.threshold.run")
    settings, inputs = read_config(), DetectInputs.of(standarized_path, standarized_params, whiten_filter)
    folders = {_folder(model) for model in (detector, triage) if not isinstance(model, bool) and model is not None}
    if len(folders) > 1:
        raise InputError(f"detector and triage are in two folders, {' and '.join(sorted(folders))}; give one")
    params = params_with(
        settings, method="nnet", model=next(iter(folders), None), probability=detector_threshold,
        triage=triage is not False, clean_probability=triage_threshold,
    )  # fmt: skip
    return run_stage(function, settings, inputs, params, temporal_features, if_file_exists, save_results)


def _folder(model: str | Path) -> str:
    """Folder of a model that is named by itself or by one of its files."""
    path = Path(model).expanduser().absolute()
    return str(path if path.is_dir() else path.parent)
