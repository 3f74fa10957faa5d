"""What `yass train` may be told, and one function from whitened traces to training sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from yass_dask.augment.examples import Examples, Windows, examples
from yass_dask.augment.plant import Bank, Planted, plant
from yass_dask.neuralnetwork.architecture import resampling
from yass_dask.neuralnetwork.scan import WINDOW_UM, candidates, window_channels
from yass_dask.neuralnetwork.settings import Settings

if TYPE_CHECKING:
    from yass_dask.recording import Recording


class TrainParams(BaseModel):
    """The keys of config_train.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filters_detect: tuple[int, ...] = (16, 8, 32)
    """Sizes of the detector: filters along time, mixtures of them, and a hidden layer over channels (may be left
    out: YASS's network)."""
    filters_triage: tuple[int, ...] = (96, 32, 128)
    """Sizes of the triage network."""
    filters_denoise: tuple[int, ...] = (256, 256, 31)
    """Sizes of the denoiser; with a third number, the samples that the first filters see, it is a dense network."""
    waveform_length: int = Field(31, ge=17)
    """Samples of a window at `sampling_rate`; recordings are resampled to it."""
    n_neighbors: int = Field(9, ge=1)
    """Channels of a window: the spike's and the nearest."""
    waveform_length_triage: int = Field(45, ge=1)
    """Samples of the triage's window, and ..."""
    n_neighbors_triage: int = Field(12, ge=1)
    """... its channels: more, to see where the other spike of a collision comes from."""
    sampling_rate: float = Field(20000.0, gt=0)
    """Samples per second of a window."""
    background_s: float = Field(60.0, gt=0)
    """Seconds of the recording, in pieces from all of it, that spikes are planted into."""
    spikes_per_s: float = Field(4.0, gt=0)
    """Spikes planted on each channel and in each second."""
    min_amplitude: float = Field(2.5, gt=0)
    """Smallest planted spike, in noise standard deviations of the whitened traces."""
    max_amplitude: float = Field(40.0, gt=0)
    """Largest one; in between the logarithm is uniform."""
    collided: float = Field(0.35, ge=0, le=1)
    """Share of planted spikes beside which a second one is planted."""
    min_template: float = Field(4.0, gt=0)
    """Least peak of a template to be planted, in the same unit."""
    l2_triage: float = Field(1e-3, ge=0)
    """Weight of the squared weights in the loss of the triage, in place of the setting's: it has fewer examples."""
    settings: Settings = Settings(train_step_size=2e-3)
    """How the networks are trained."""


def planted_in(
    background: np.ndarray, templates: np.ndarray, peak: int, recording: Recording, params: TrainParams, seed: int
) -> Planted:
    """Spikes planted into a whitened background (n_samples, n_channels); templates (n_units, n_samples, n_channels)."""
    return plant(
        background, Bank.of(templates, peak), recording.neighbors(WINDOW_UM), sampling_rate=recording.sampling_rate,
        per_second=params.spikes_per_s * recording.n_channels, amplitudes=(params.min_amplitude, params.max_amplitude),
        collided=params.collided, seed=seed,
    )  # fmt: skip


def examples_of(planted: Planted, recording: Recording, params: TrainParams, backend: str, seed: int) -> Examples:
    """Training sets out of planted spikes, as windows of the networks' rate."""
    rate = recording.sampling_rate
    windows, triage = (
        windows_of(recording, length, n_neighbors, params.sampling_rate)
        for length, n_neighbors in (
            (params.waveform_length, params.n_neighbors),
            (params.waveform_length_triage, params.n_neighbors_triage),
        )
    )
    rows, channels = candidates(planted.traces, rate, 0, 0, len(planted.traces), backend)
    return examples(planted, rows, channels, windows, sampling_rate=rate, seed=seed, triage=triage)


def windows_of(recording: Recording, length: int, n_neighbors: int, rate: float) -> Windows:
    """How a network of these sizes and this rate sees a recording."""
    matrix, before = resampling(length, rate, recording.sampling_rate)
    return Windows(window_channels(recording, n_neighbors), before, matrix)
