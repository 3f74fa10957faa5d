"""The threshold detector: extrema of the whitened traces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.compat.detect.inputs import DetectInputs
from yass_dask.compat.files import StepFiles
from yass_dask.compat.scores import as_scores, features_of
from yass_dask.compat.settings import Settings, read_config
from yass_dask.compat.work import whitened
from yass_dask.detect import DetectParams, detect
from yass_dask.errors import InputError
from yass_dask.features import FeatureParams

FILES = ("spike_index_clear.npy", "spike_index_all.npy", "rotation.npy", "scores_clear.npy")


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
    params = _params(settings, std_factor)
    features = {"features": settings.params.features.model_dump(), "temporal_features": temporal_features}
    recipe = {"function": "detect.threshold.run", "params": params.model_dump(), **features, **inputs.identity()}
    files = StepFiles(settings.folder / "detect", FILES, recipe)

    def compute() -> dict[str, np.ndarray]:
        return _compute(settings, inputs, params, temporal_features, save_results)

    values = files.results(compute, if_file_exists, save_results)
    return values["spike_index_clear.npy"], values["spike_index_all.npy"]


def _params(settings: Settings, std_factor: float) -> DetectParams:
    try:
        return DetectParams.model_validate(settings.params.detect.model_dump() | {"threshold_sd": std_factor})
    except ValueError as error:
        raise InputError(f"detect.threshold: {error}") from None


def _compute(
    settings: Settings, inputs: DetectInputs, params: DetectParams, n_components: int, with_scores: bool
) -> dict[str, np.ndarray]:
    with whitened(settings, inputs.file, inputs.whiten_filter) as at:
        work = at.work.branch()
        found = work.keep("detect", detect(at.clean, at.noise, params, work.backend)).load()
        train = np.stack([found["sample_index"], found["channel_index"].astype(np.int64)], axis=1)
        room = has_room(train[:, 0], work.recording.n_samples, settings)
        values = {"spike_index_clear.npy": train[room & found["is_clear"]], "spike_index_all.npy": train[room]}
        if with_scores:
            basis, features = features_of(at, values["spike_index_clear.npy"], n_components)
            values |= {"rotation.npy": basis.project, "scores_clear.npy": as_scores(features.table)}
    return values


def has_room(samples: np.ndarray, n_samples: int, settings: Settings) -> np.ndarray:
    """(n,) bool: a waveform, and a shift of it, lies within the recording."""
    room = settings.spike_size + settings.templates.max_shift
    return (samples >= room) & (samples < n_samples - room)
