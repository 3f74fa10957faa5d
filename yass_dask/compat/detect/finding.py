"""Detection by the stage `detect`, whichever way its parameters say; its files."""

from __future__ import annotations

import numpy as np

from yass_dask.compat.detect.inputs import DetectInputs
from yass_dask.compat.files import StepFiles
from yass_dask.compat.scores import as_scores, features_of
from yass_dask.compat.settings import Settings
from yass_dask.compat.work import whitened
from yass_dask.detect import DetectParams, detect
from yass_dask.errors import InputError

FILES = ("spike_index_clear.npy", "spike_index_all.npy", "rotation.npy", "scores_clear.npy")


def run_stage(
    function: str, settings: Settings, inputs: DetectInputs, params: DetectParams, temporal_features: int,
    if_file_exists: str, save_results: bool,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Clear and all spikes, found anew or on the disk.

    Parameters
    ----------
    function : name that the files are recorded under
    temporal_features : principal components of a waveform on each channel, for the scores
    """
    features = {"features": settings.params.features.model_dump(), "temporal_features": temporal_features}
    recipe = {"function": function, "params": params.model_dump(), **features, **inputs.identity()}

    def compute() -> dict[str, np.ndarray]:
        return _compute(settings, inputs, params, temporal_features, save_results)

    values = StepFiles(settings.folder / "detect", FILES, recipe).results(compute, if_file_exists, save_results)
    return values["spike_index_clear.npy"], values["spike_index_all.npy"]


def params_with(settings: Settings, **changes: object) -> DetectParams:
    """The configuration's parameters with some changed.

    Raises
    ------
    InputError
        A value that cannot be.
    """
    try:
        return DetectParams.model_validate(settings.params.detect.model_dump() | changes)
    except ValueError as error:
        raise InputError(f"detect: {error}") from None


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
