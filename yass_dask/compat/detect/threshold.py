"""The threshold detector: extrema of the whitened traces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.compat.detect.finding import params_with, run_stage
from yass_dask.compat.detect.inputs import DetectInputs
from yass_dask.compat.settings import read_config
from yass_dask.detect import DetectParams
from yass_dask.features import FeatureParams


def run(
    standarized_path: str | Path, standarized_params: Mapping[str, Any] | str | Path,
    whiten_filter: np.ndarray | str | Path, if_file_exists: str = "skip", save_results: bool = False,
    temporal_features: int = FeatureParams().n_components, std_factor: float = DetectParams().threshold_sd,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Detect extrema of the whitened traces; parameters not named here are those of `detect.run`.

    Parameters
    ----------
    temporal_features : principal components of a waveform on each channel
    std_factor : least height of a spike, in noise standard deviations of the whitened channel

    Returns
    -------
    spike_index_clear, spike_index_all : (n_spikes, 2) int64
        Clear is what no larger spike lies within `detect.clear_ms` of, nearby. Spikes without room for a whole
        waveform at either end of the recording are left out.
    """
    settings, inputs = read_config(), DetectInputs.of(standarized_path, standarized_params, whiten_filter)
    params = params_with(settings, method="threshold", threshold_sd=std_factor)
    return run_stage("detect.threshold.run", settings, inputs, params, temporal_features, if_file_exists, save_results)
