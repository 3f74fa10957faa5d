"""YASS's functions that make training sets out of templates and a noise model; all drawn from a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.augment import kinds
from yass_dask.augment.noise import NoiseModel, add_noise, measure_noise
from yass_dask.augment.standardized import mean_waveforms, spike_size, standardized
from yass_dask.errors import InputError
from yass_dask.geometry import make_channel_index
from yass_dask.templatesprocessor import TemplatesProcessor

if TYPE_CHECKING:
    from yass_dask.config import Config

NOISE_S = 10.0
"""Seconds of the recording that its noise is measured on."""


def load_templates(
    data_folder: str | Path, spike_train: np.ndarray, CONFIG: Config, chosen_templates_indexes: Sequence[int]
) -> np.ndarray:
    """Templates for training: mean waveforms of units of a spike train.

    Parameters
    ----------
    data_folder : results of a sort of CONFIG's recording; where there are none, it is preprocessed into this folder
    spike_train : (n_spikes, 2) int, sample and unit of each spike
    CONFIG : Config, see `config.load`
    chosen_templates_indexes : ids of the units wanted

    Returns
    -------
    (n_chosen, 8 * spike_size + 1, n_channels) float32, noise standard deviations; the spike's sample in the middle.

    Raises
    ------
    InputError
        Another shape of the spike train, a spike out of the recording, or a chosen unit without spikes.
    """
    reach = 4 * spike_size(CONFIG)
    return mean_waveforms(standardized(data_folder, CONFIG), spike_train, chosen_templates_indexes, reach)


def spikes(
    templates: np.ndarray, min_amplitude: float, max_amplitude: float, n_per_template: int, spatial_sig: np.ndarray,
    temporal_sig: np.ndarray, make_from_templates: bool = True, make_spatially_misaligned: bool = True,
    make_temporally_misaligned: bool = True, make_collided: bool = True, make_noise: bool = True,
    return_metadata: bool = True, templates_kwargs: Mapping[str, Any] | None = None,
    collided_kwargs: Mapping[str, Any] | None = None, temporally_misaligned_kwargs: Mapping[str, Any] | None = None,
    spatially_misaligned_kwargs: Mapping[str, Any] | None = None, add_noise_kwargs: Mapping[str, Any] | None = None,
    *, seed: int = 0,
) -> tuple[Any, ...]:  # fmt: skip
    """Make spikes of several kinds from templates, over a range of amplitudes.

    Parameters
    ----------
    templates : (n_templates, waveform_length, n_channels)
    min_amplitude, max_amplitude : of the spikes made from templates; linear in between
    n_per_template : spikes made of each template, and so many of every other kind
    spatial_sig, temporal_sig : roots of the noise's covariances, see `noise.measure_noise`
    make_from_templates, ..., make_noise : which kinds to return
    return_metadata : also give the amplitudes and the slices
    templates_kwargs : none so far
    collided_kwargs : `min_shift` (5), `max_shift` (half the waveform), `n_per_spike` (1)
    temporally_misaligned_kwargs : the same; by default shifts are a tenth to half of the waveform
    spatially_misaligned_kwargs : `force_first_channel_shuffle` (True), `n_per_spike` (1)
    add_noise_kwargs : `reject_cancelling_noise` (False)

    Returns
    -------
    x_all : (n, waveform_length, n_channels) float32, without noise
    x_all_noisy : the same with noise
    the_amplitudes : (n_templates * n_per_template,) of the spikes made from templates
    slices : "from templates", "spatially misaligned", "temporally misaligned", "collided", "noise" -> slice of x_all
    spatial_SIG, temporal_SIG : as given

    Raises
    ------
    InputError
        Shapes do not fit, or nothing is to be made.
    """
    model, draw = _model(templates, spatial_sig, temporal_sig), np.random.default_rng(seed)
    clean, amplitudes = kinds.sized(templates, min_amplitude, max_amplitude, n_per_template, **(templates_kwargs or {}))
    wanted = {
        "from templates": lambda: clean if make_from_templates else None,
        "spatially misaligned": lambda: _shuffled(clean, spatially_misaligned_kwargs, draw)
        if make_spatially_misaligned else None,
        "temporally misaligned": lambda: _moved(clean, kinds.shifted, _tenth(clean), temporally_misaligned_kwargs, draw)
        if make_temporally_misaligned else None,
        "collided": lambda: _moved(clean, kinds.collided, 5, collided_kwargs, draw) if make_collided else None,
        "noise": lambda: np.zeros_like(clean) if make_noise else None,
    }  # fmt: skip
    made = {kind: x for kind, make in wanted.items() if (x := make()) is not None}
    if not made:
        raise InputError("spikes: every kind is switched off; leave at least one of make_... True")
    x_all = np.concatenate(list(made.values()))
    x_noisy = add_noise(x_all, model, draw, **(add_noise_kwargs or {}))
    ends = np.cumsum([len(x) for x in made.values()])
    slices = {kind: slice(int(end) - len(x), int(end)) for (kind, x), end in zip(made.items(), ends, strict=True)}
    facts = (amplitudes, slices) if return_metadata else ()
    return (x_all, x_noisy, *facts, spatial_sig, temporal_sig)


def training_data_detect(
    templates: np.ndarray, minimum_amplitude: float, maximum_amplitude: float, n_clean_per_template: int,
    n_collided_per_spike: int, n_temporally_misaligned_per_spike: int, n_spatially_misaliged_per_spike: int,
    n_noise: int, spatial_SIG: np.ndarray, temporal_SIG: np.ndarray,
    from_templates_kwargs: Mapping[str, Any] | None = None, collided_kwargs: Mapping[str, Any] | None = None,
    temporally_misaligned_kwargs: Mapping[str, Any] | None = None, add_noise_kwargs: Mapping[str, Any] | None = None,
    *, seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Training data of the detector: spikes, clean or collided, are 1; misaligned ones and noise are 0.

    Parameters
    ----------
    templates : (n_templates, waveform_length, n_channels)
    minimum_amplitude, maximum_amplitude : of the clean spikes
    n_clean_per_template, ..., n_noise : how many of each kind; "per spike" means per clean spike
    spatial_SIG, temporal_SIG, ..._kwargs : as for `spikes`

    Returns
    -------
    x : (n, waveform_length, n_channels) float32 with noise; y : (n,) int8
    """
    model, draw = _model(templates, spatial_SIG, temporal_SIG), np.random.default_rng(seed)
    clean, _ = kinds.sized(
        templates, minimum_amplitude, maximum_amplitude, n_clean_per_template, **(from_templates_kwargs or {})
    )
    given = {"n_per_spike": n_collided_per_spike, **(collided_kwargs or {})}
    both = _moved(clean, kinds.collided, 5, given, draw)
    given = {"n_per_spike": n_temporally_misaligned_per_spike, **(temporally_misaligned_kwargs or {})}
    late = _moved(clean, kinds.shifted, _tenth(clean), given, draw)
    elsewhere = _shuffled(clean, {"n_per_spike": n_spatially_misaliged_per_spike}, draw)
    nothing = np.zeros((n_noise, *clean.shape[1:]), np.float32)
    x = add_noise(np.concatenate([clean, both, late, elsewhere, nothing]), model, draw, **(add_noise_kwargs or {}))
    return x, (np.arange(len(x)) < len(clean) + len(both)).astype(np.int8)


def training_data_triage(
    templates: np.ndarray, minimum_amplitude: float, maximum_amplitude: float, n_clean_per_template: int,
    n_collided_per_spike: int, max_shift: int, min_shift: int, spatial_SIG: np.ndarray, temporal_SIG: np.ndarray,
    from_templates_kwargs: Mapping[str, Any] | None = None, collided_kwargs: Mapping[str, Any] | None = None,
    *, seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Training data of the triage: clean spikes are 1, collided ones 0.

    Returns
    -------
    x : (n, waveform_length, n_channels) float32 with noise; y : (n,) int8
    """
    model, draw = _model(templates, spatial_SIG, temporal_SIG), np.random.default_rng(seed)
    clean, _ = kinds.sized(
        templates, minimum_amplitude, maximum_amplitude, n_clean_per_template, **(from_templates_kwargs or {})
    )
    given = {"n_per_spike": n_collided_per_spike, "min_shift": min_shift, "max_shift": max_shift}
    both = _moved(clean, kinds.collided, min_shift, {**given, **(collided_kwargs or {})}, draw)
    x = add_noise(np.concatenate([clean, both]), model, draw)
    return x, (np.arange(len(x)) < len(clean)).astype(np.int8)


def training_data(
    CONFIG: Config, templates_uncropped: np.ndarray, min_amp: float, max_amp: float, n_isolated_spikes: int,
    path_to_standarized: str | Path, noise_ratio: int = 10, collision_ratio: int = 1, misalign_ratio: int = 1,
    misalign_ratio2: int = 1, multi_channel: bool = True, return_metadata: bool = False, *, seed: int = 0,
) -> tuple[Any, ...]:  # fmt: skip
    """Make training sets for detector, triage and autoencoder.

    Parameters
    ----------
    CONFIG : Config, see `config.load`
    templates_uncropped : (n_templates, n_samples, n_channels), see `load_templates`
    min_amp, max_amp : of the isolated spikes on their main channel
    n_isolated_spikes : clean spikes to make; the others are so many times as many:
    noise_ratio, collision_ratio, misalign_ratio (in time), misalign_ratio2 (in space)
    path_to_standarized : as `data_folder` of `load_templates`
    multi_channel : False: waveforms of the main channel only, (n, waveform_length)
    return_metadata : also return a mapping with the noise model

    Returns
    -------
    x_detect, y_detect : spikes, clean or collided, are 1; misaligned ones and noise 0
    x_triage, y_triage : clean spikes are 1, collided ones 0
    x_ae, y_ae : (n, waveform_length) isolated spikes on their main channel, with noise and without
    """
    reach, model, cropped = _material(CONFIG, templates_uncropped, path_to_standarized, multi_channel, seed)
    per_template = -(-n_isolated_spikes // len(cropped))
    n_clean, draw = min(n_isolated_spikes, per_template * len(cropped)), np.random.default_rng([seed, 1])
    all_clean, _ = kinds.sized(cropped, min_amp, max_amp, per_template)
    clean = all_clean[np.sort(draw.permutation(len(all_clean))[:n_clean])]
    both = _moved(clean, kinds.collided, 5, {"n_per_spike": collision_ratio}, draw)
    late = _moved(clean, kinds.shifted, max(1, reach // 5), {"n_per_spike": misalign_ratio}, draw)
    elsewhere = _shuffled(clean, {"n_per_spike": misalign_ratio2 if multi_channel else 0}, draw)
    nothing = np.zeros((noise_ratio * n_clean, *clean.shape[1:]), np.float32)
    x_detect = add_noise(np.concatenate([clean, both, late, elsewhere, nothing]), model, draw)
    n_spikes = n_clean + len(both)
    y_detect = (np.arange(len(x_detect)) < n_spikes).astype(np.int8)
    y_triage = (np.arange(n_spikes) < n_clean).astype(np.int8)
    of_windows = (slice(None),) * 3 if multi_channel else (slice(None), slice(None), 0)
    sets = (x_detect[of_windows], y_detect, x_detect[:n_spikes][of_windows], y_triage)
    facts = ({"spatial_SIG": model.spatial_SIG, "temporal_SIG": model.temporal_SIG},) if return_metadata else ()
    return (*sets, x_detect[:n_clean, :, 0], clean[:, :, 0], *facts)


def _material(
    CONFIG: Config, templates: np.ndarray, folder: str | Path, multi_channel: bool, seed: int
) -> tuple[int, NoiseModel, np.ndarray]:
    """Half length of a waveform, noise model, and templates on their main channel and its neighbours."""
    reach, clean = spike_size(CONFIG), standardized(folder, CONFIG)
    recording = clean.recording
    near, positions = recording.neighbors(CONFIG.recordings.spatial_radius), recording.probe.positions
    cropped = TemplatesProcessor(templates).crop_temporally(reach, reach).crop_spatially(near, positions).values
    index = make_channel_index(near, positions)
    if not multi_channel:
        cropped, index = cropped[:, :, :1], index[:, :1]
    stop = min(recording.n_samples, recording.samples(1e3 * NOISE_S))
    traces = clean.to_sd(np.asarray(recording.source.read(0, stop)))
    return reach, measure_noise(traces, index, 2 * reach + 1, seed), cropped


def _model(templates: np.ndarray, spatial: np.ndarray, temporal: np.ndarray) -> NoiseModel:
    found = np.asarray(templates)
    if found.ndim != 3 or spatial.shape != (found.shape[2],) * 2 or temporal.shape != (found.shape[1],) * 2:
        raise InputError(
            f"templates have shape {found.shape}, spatial_SIG {spatial.shape}, temporal_SIG {temporal.shape}: give "
            "(n_templates, n_samples, n_channels), (n_channels, n_channels), (n_samples, n_samples)"
        )
    return NoiseModel(spatial, temporal)


def _tenth(x: np.ndarray) -> int:
    return max(1, x.shape[1] // 10)


def _moved(
    x: np.ndarray, make: Any, min_shift: int, given: Mapping[str, Any] | None, draw: np.random.Generator
) -> np.ndarray:
    """`n_per_spike` of each waveform, by a function that shifts; its shifts by default min_shift to half the length."""
    options = {"n_per_spike": 1, "min_shift": min_shift, "max_shift": max(min_shift, x.shape[1] // 2), **(given or {})}
    several = np.repeat(x, options.pop("n_per_spike"), axis=0)
    moved: np.ndarray = make(several, draw=draw, **options)
    return moved


def _shuffled(x: np.ndarray, given: Mapping[str, Any] | None, draw: np.random.Generator) -> np.ndarray:
    options = {"n_per_spike": 1, **(given or {})}
    return kinds.shuffled(np.repeat(x, options.pop("n_per_spike"), axis=0), draw, **options)
