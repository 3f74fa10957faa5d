"""Matching pursuit of given templates near given spikes."""

from __future__ import annotations

import numpy as np

from yass_dask.compat.scores import check_inside
from yass_dask.compat.settings import Settings, read_config
from yass_dask.compat.traces import Standardized
from yass_dask.compat.work import whitened
from yass_dask.errors import InputError
from yass_dask.events import Events
from yass_dask.geometry import n_steps_neigh_channels
from yass_dask.likely import fit_units
from yass_dask.pipeline import pursue
from yass_dask.recording import Recording
from yass_dask.refine import Units, levels
from yass_dask.templates import StoredTemplates, Templates, local_channels


def legacy(spike_index: np.ndarray, templates: np.ndarray, recordings_filename: str = "standarized.bin") -> np.ndarray:
    """Find the spikes of the templates by matching pursuit, overlapping ones too.

    Parameters
    ----------
    spike_index : (n, 2) sample and channel
        A spike is taken if one of these lies within `spike_size` samples of it, on a channel that is the template's
        main one or a neighbour's neighbour of it.
    templates : (n_channels, n_samples, n_templates), with the extremum in the middle
    recordings_filename : standardized recording in the output folder, or in its folder preprocess

    Returns
    -------
    (n_spikes, 2) int64: sample and template, in order of time

    Raises
    ------
    InputError
        Templates of another shape, or candidates that are not in the recording.
    """
    settings = read_config()
    waveforms = _by_unit(templates, settings)
    file = Standardized.named(recordings_filename, settings)
    with whitened(settings, file, file.whitening()) as at:
        work, n_samples = at.work, at.work.recording.n_samples
        check_inside(spike_index, n_samples, work.recording.n_channels)
        how = work.params.templates
        given = _as_templates(waveforms, work.recording, how.max_channels, how.max_spikes)
        stored = work.given("given_templates", _fields(given), StoredTemplates)
        units = Units(given, levels(given, at.matched), len(given), [], stored)
        spikes: Events = pursue(work.keep, "", at.clean, at.matched, units, work.params, work.backend)
        found = spikes.load()
    fits = fit_units(found, units.levels, settings.params.deconvolve.log_odds, n_samples)
    sure = found["log_odds"] >= fits.least[found["unit_index"]]
    train = np.stack([found["sample_index"], given.ids[found["unit_index"]]], axis=1)[sure]
    return train[near_candidates(train, spike_index, waveforms, settings)]


def near_candidates(train: np.ndarray, candidates: np.ndarray, waveforms: np.ndarray, settings: Settings) -> np.ndarray:
    """(n_spikes,) bool: a candidate lies within `spike_size` samples, near the template's main channel.

    Parameters
    ----------
    train : (n_spikes, 2) sample and template, in order of time
    candidates : (n, 2) sample and channel
    waveforms : (n_templates, n_samples, n_channels)
    """
    main = np.abs(waveforms).max(axis=1, initial=0).argmax(axis=1)
    near = n_steps_neigh_channels(settings.neigh_channels, 2)
    kept = np.zeros(len(train), bool)
    for unit in np.unique(train[:, 1]):
        mine = np.flatnonzero(train[:, 1] == unit)
        times = np.sort(candidates[near[main[unit], candidates[:, 1]], 0])
        low = np.searchsorted(times, train[mine, 0] - settings.spike_size, side="left")
        kept[mine] = np.searchsorted(times, train[mine, 0] + settings.spike_size, side="right") > low
    return kept


def _by_unit(templates: np.ndarray, settings: Settings) -> np.ndarray:
    """(n_templates, n_samples, n_channels) of templates as the step takes them.

    Raises
    ------
    InputError
        Not the recording's number of channels, or an even number of samples, which has no middle.
    """
    n_channels = settings.recordings.n_channels
    if templates.ndim != 3 or templates.shape[0] != n_channels or templates.shape[1] % 2 == 0:
        raise InputError(
            f"templates have shape {templates.shape}; give ({n_channels} channels, an odd number of samples, "
            "n_templates), as templates.run returns them"
        )
    return np.ascontiguousarray(templates.transpose(2, 1, 0), np.float32)


def _as_templates(waveforms: np.ndarray, recording: Recording, max_channels: int, n_spikes: int) -> Templates:
    """Templates on the channels around their main one, those that are zero left out.

    How many spikes they are means of is not known: they are taken for means of `n_spikes`.
    """
    ids = np.flatnonzero(waveforms.any(axis=(1, 2)))
    main = np.abs(waveforms[ids]).max(axis=1, initial=0).argmax(axis=1)
    channels = local_channels(recording, max_channels)[main]
    padded = np.pad(waveforms[ids], ((0, 0), (0, 0), (0, 1)))
    local = np.take_along_axis(padded, channels[:, None, :].astype(np.int64), axis=2)
    counts = np.full(len(ids), n_spikes, np.int64)
    return Templates(local, channels, counts, ids, waveforms.shape[1] // 2, recording.n_channels)


def _fields(templates: Templates) -> dict[str, np.ndarray]:
    return {
        "waveforms": templates.waveforms,
        "channels": templates.channels,
        "n_spikes": templates.n_spikes,
        "ids": templates.ids,
        "peak": np.array([templates.peak]),
        "n_channels": np.array([templates.n_channels]),
    }
