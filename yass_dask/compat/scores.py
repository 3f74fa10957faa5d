"""Features of given spikes: what detection writes as scores, and clustering works on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from yass_dask import subsample
from yass_dask.compat.work import Whitened
from yass_dask.errors import InputError
from yass_dask.events import Events
from yass_dask.features import Cutter, Features, choose_peaks, measure_basis, measure_features
from yass_dask.projector import Basis

FEWEST_PEAKS = 100
"""`FeatureParams.max_peaks` is no less."""


def features_of(at: Whitened, spike_index: np.ndarray, n_components: int | None = None) -> tuple[Basis, Features]:
    """Basis of the spikes' waveforms, and the features of all of them in order of time, then of channel.

    Parameters
    ----------
    spike_index : (n, 2) sample and channel
    n_components : of each channel; None: as the parameters say
    """
    work, params = at.work, at.work.params.features
    every = max(len(spike_index), FEWEST_PEAKS)
    params = params.model_copy(update={"max_peaks": every, "n_components": n_components or params.n_components})
    peaks = work.given("peaks", peaks_of(spike_index, work.recording.n_samples, work.recording.n_channels), Events)
    basis = work.keep("basis", measure_basis(at.clean, at.matched, peaks, params, work.backend))
    chosen = work.keep("chosen", choose_peaks(peaks, params))
    features = measure_features(at.clean, at.matched, chosen, basis, params, work.backend)
    return basis, work.keep("features", features)


def peaks_of(spike_index: np.ndarray, n_samples: int, n_channels: int) -> dict[str, np.ndarray]:
    """Spikes as clear peaks, in order of time.

    Raises
    ------
    InputError
        A spike that is not in the recording.
    """
    check_inside(spike_index, n_samples, n_channels)
    ordered = spike_index[np.lexsort((spike_index[:, 1], spike_index[:, 0]))]
    return {
        "sample_index": ordered[:, 0],
        "channel_index": ordered[:, 1].astype(np.int32),
        "amplitude": np.ones(len(ordered), np.float32),
        "is_clear": np.ones(len(ordered), bool),
    }


def check_inside(spike_index: np.ndarray, n_samples: int, n_channels: int) -> None:
    """Refuse spikes that are not in the recording.

    Raises
    ------
    InputError
    """
    if not ((spike_index >= 0) & (spike_index < (n_samples, n_channels))).all():
        raise InputError(f"spike_index holds spikes outside of {n_samples} samples and {n_channels} channels")


def as_scores(table: Mapping[str, Any]) -> np.ndarray:
    """(n_spikes, n_features, n_channels) of a table of features, main channel first."""
    return np.asarray(table["features"][:]).transpose(0, 2, 1)


def given_scores(at: Whitened, spike_index: np.ndarray, scores: np.ndarray) -> Features:
    """Features out of scores that the caller gives.

    Raises
    ------
    InputError
        Not one for each spike, or more channels than a neighbourhood has.
    """
    work = at.work
    channels = Cutter.of(at.clean, at.matched, work.params.features, work.backend).channels
    if len(scores) != len(spike_index) or scores.shape[2] > channels.shape[1]:
        raise InputError(
            f"scores have shape {scores.shape}; give ({len(spike_index)}, n_features, at most {channels.shape[1]}), "
            "one for each spike, on its main channel and its neighbours by distance"
        )
    order = np.lexsort((spike_index[:, 1], spike_index[:, 0]))
    fields = peaks_of(spike_index, work.recording.n_samples, work.recording.n_channels)
    table = {
        "sample_index": fields["sample_index"],
        "channel_index": fields["channel_index"],
        "shift": np.full(len(order), subsample.CENTER, np.int32),
        "features": scores[order].transpose(0, 2, 1).astype(np.float32),
    }
    kept, every = channels[:, : scores.shape[2]], max(len(scores), FEWEST_PEAKS)
    result: Features = work.given("scores", table, lambda stored: Features(stored, kept, every))
    return result
