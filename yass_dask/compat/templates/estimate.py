"""Templates of given spikes, by the stages `average` and `first_units`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from yass_dask import subsample
from yass_dask.compat.settings import Settings
from yass_dask.compat.traces import Standardized
from yass_dask.compat.work import whitened
from yass_dask.events import Events, evenly
from yass_dask.refine import first_units
from yass_dask.templates import Averages, StoredAverages, TemplatesParams, average


class Estimated(NamedTuple):
    """Templates, and the units that each stands for."""

    templates: np.ndarray
    """(n_templates, n_samples, n_channels) float32"""
    groups: list[list[int]]


def params_of(settings: Settings) -> TemplatesParams:
    """YASS's window, 4 spike_size + 1 samples around the spike, and its `max_shift`."""
    ms = 1e3 / settings.recordings.sampling_rate
    reach = 2 * settings.spike_size * ms
    window = {"before_ms": reach, "after_ms": reach, "align_ms": settings.templates.max_shift * ms}
    return settings.params.templates.model_copy(update=window)


def estimate(settings: Settings, file: Standardized, train: np.ndarray, channels: np.ndarray) -> Estimated:
    """Templates of a spike train.

    Parameters
    ----------
    train : (n, 3) sample, unit, weight, in order of time
    channels : (n_units,) main channel of each unit
    """
    params, fields = params_of(settings), _members(train, channels, params_of(settings).max_spikes)
    with whitened(settings, file, file.whitening()) as at:
        work = at.work
        members = work.given("members", fields, Events)
        means = work.keep("means", average(at.clean, members, params, work.backend))
        means = WeightedAverages.of(means, fields["unit_index"], fields["amplitude"].astype(np.float64))
        units = work.keep("templates", first_units(means, at.clean, at.matched, params))
    return Estimated(units.templates.dense(), groups_of(units.templates.ids.tolist(), units.audit))


def _members(train: np.ndarray, channels: np.ndarray, max_spikes: int) -> dict[str, np.ndarray]:
    """At most `max_spikes` of each unit as events to be averaged; a spike of no weight is none."""
    train = train[train[:, 2] > 0]
    train = train[evenly(train[:, 1].astype(np.int64), max_spikes)] if len(train) else train
    unit = train[:, 1].astype(np.int32)
    return {
        "sample_index": train[:, 0].astype(np.int64),
        "unit_index": unit,
        "shift": np.full(len(train), subsample.CENTER, np.int32),
        "amplitude": train[:, 2].astype(np.float32),
        "main_channel": channels[unit].astype(np.int32),
    }


@dataclass(frozen=True)
class WeightedAverages(StoredAverages):
    """Averages whose events weigh what they say: sum(a x) / sum(a) in place of sum(a x) / sum(a^2)."""

    factor: np.ndarray = field(default_factory=lambda: np.ones(0, np.float32))
    """(n_units,) sum(a^2) / sum(a)"""

    @classmethod
    def of(cls, stored: StoredAverages, unit: np.ndarray, weight: np.ndarray) -> WeightedAverages:
        """The same averages with weights as amplitudes."""
        sums, squares = (np.bincount(unit, w) for w in (weight, weight**2))
        factor = (squares / np.maximum(sums, 1e-9)).astype(np.float32)
        return cls(stored.table, stored.margin, factor=factor)

    def load(self) -> Averages:
        """The averages in memory."""
        averages = super().load()
        return replace(averages, waveforms=averages.waveforms * self.factor[:, None, None])


def groups_of(kept: list[int], audit: list[dict[str, Any]]) -> list[list[int]]:
    """For each kept unit, itself and those that were joined into it, directly or not."""
    into = {line["unit"]: line["into"] for line in audit if line["action"] == "merge"}
    groups: dict[int, list[int]] = {unit: [unit] for unit in kept}
    for unit in into:
        end = unit
        while end in into:
            end = into[end]
        if end in groups:
            groups[end].append(unit)
    return [sorted(groups[unit]) for unit in kept]
