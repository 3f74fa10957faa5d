"""Stage: events of units -> averages of their waveforms; and templates, which are cut out of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from yass_dask import subsample
from yass_dask.backends import kernel
from yass_dask.chunked import Arrays, Chunk, LazyParts, Rows, blocks, chunk_tasks
from yass_dask.errors import InputError
from yass_dask.events import Events
from yass_dask.geometry import nearest_channels
from yass_dask.preprocess import StandardTraces
from yass_dask.recording import Recording


class TemplatesParams(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    before_ms: float = Field(1.3, gt=0)
    """Start of a template before its peak."""
    after_ms: float = Field(2.3, gt=0)
    """End of a template after its peak."""
    max_channels: int = Field(64, ge=1)
    """A template lives on at most so many channels, the nearest to its main one."""
    max_spikes: int = Field(500, ge=10)
    """Spikes averaged per unit, spread evenly over the recording."""
    align_ms: float = Field(0.5, ge=0)
    """A template's peak may be moved so far to lie at its place."""
    min_peak_sd: float = Field(2.5, ge=0)
    """Templates whose peak is lower are dropped."""
    duplicate_sd: float = Field(2.5, ge=0)
    """Templates nearer to each other than this, in whitened noise standard deviations, are one unit ..."""
    duplicate_share: float = Field(0.15, ge=0, lt=1)
    """... or nearer than this share of the smaller one's norm."""


ABOVE_NOISE, LEAST_SHARE = 2.0, 1e-4
"""A template is zero on channels with less energy than so many times the noise's, or than this share of its largest."""


@dataclass(frozen=True)
class Templates:
    """Templates of units, each on the channels around its main one."""

    waveforms: np.ndarray
    """(n_units, n_samples, n_local) float32, noise standard deviations of the clean traces"""
    channels: np.ndarray
    """(n_units, n_local) int32; padded with n_channels (waveform 0 there)"""
    n_spikes: np.ndarray
    """(n_units,) spikes averaged"""
    ids: np.ndarray
    """(n_units,) int64, ascending; a unit keeps its id from round to round"""
    peak: int
    """Sample at which a spike's time lies"""
    n_channels: int

    def __len__(self) -> int:
        return len(self.waveforms)

    def load(self) -> Templates:
        """Itself: they are in memory."""
        return self

    @property
    def n_samples(self) -> int:
        return int(self.waveforms.shape[1])

    def without_noise(self) -> Templates:
        """The same with zeros on channels that hold little more than an average of so many spikes would of noise."""
        energy = (self.waveforms**2).sum(axis=1)
        noise = self.n_samples / np.maximum(self.n_spikes, 1)[:, None]
        signal = energy > np.maximum(ABOVE_NOISE * noise, LEAST_SHARE * energy.max(axis=1, initial=0)[:, None])
        return replace(self, waveforms=np.where(signal[:, None], self.waveforms, np.float32(0)))

    def packed(self) -> Templates:
        """The same on as few channels as are not zero: for sums, as the order of the channels is lost."""
        used = (self.waveforms != 0).any(axis=1)
        order = np.argsort(~used, axis=1, kind="stable")[:, : max(1, int(used.sum(axis=1).max(initial=0)))]
        channels = np.where(used, self.channels, self.n_channels)
        waveforms = np.take_along_axis(self.waveforms.transpose(0, 2, 1), order[:, :, None], axis=1).transpose(0, 2, 1)
        return replace(self, waveforms=waveforms, channels=np.take_along_axis(channels, order, axis=1))

    def dense(self) -> np.ndarray:
        """(n_units, n_samples, n_channels) float32."""
        full = np.zeros((len(self), self.n_samples, self.n_channels + 1), np.float32)
        np.put_along_axis(full, np.broadcast_to(self.channels[:, None, :], self.waveforms.shape).astype(np.int64),
                          self.waveforms, axis=2)  # fmt: skip
        return full[:, :, : self.n_channels]

    def select(self, units: np.ndarray) -> Templates:
        """Templates of some units."""
        names = ("waveforms", "channels", "n_spikes", "ids")
        chosen: dict[str, Any] = {name: getattr(self, name)[units] for name in names}
        return replace(self, **chosen)

    def joined(self, other: Templates) -> Templates:
        """These units, then the other's."""
        names = ("waveforms", "channels", "n_spikes", "ids")
        stacked: dict[str, Any] = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in names}
        return replace(self, **stacked)

    def main_channels(self, unit_per_sd: np.ndarray) -> np.ndarray:
        """(n_units,) channel of the largest extremum in the recording's unit."""
        scaled = np.abs(self.waveforms).max(axis=1) * np.append(unit_per_sd, 0)[self.channels]
        return np.take_along_axis(self.channels, scaled.argmax(axis=1)[:, None], axis=1)[:, 0]


@dataclass(frozen=True)
class StoredTemplates:
    """Templates on disk: a small handle that travels to tasks."""

    table: Mapping[str, Any]

    def load(self) -> Templates:
        """The templates in memory."""
        names = ("waveforms", "channels", "n_spikes", "ids")
        arrays: dict[str, Any] = {name: np.asarray(self.table[name][:]) for name in names}
        peak, n_channels = (int(self.table[name][0]) for name in ("peak", "n_channels"))
        return Templates(**arrays, peak=peak, n_channels=n_channels)


def refuse_too_short(recording: Recording, params: TemplatesParams) -> None:
    """InputError for a recording in which not even one template fits."""
    length = recording.samples(params.before_ms) + recording.samples(params.after_ms) + 1
    if recording.n_samples < length:
        raise InputError(
            f"the recording has {recording.n_samples} samples, fewer than a template ({length} samples: "
            f"templates.before_ms + after_ms = {params.before_ms + params.after_ms:g} ms): there is nothing to sort"
        )


def local_channels(recording: Recording, limit: int) -> np.ndarray:
    """(n_channels, <= limit) channels of a template with each main channel, nearest first, never across shanks."""
    return nearest_channels(recording.neighbors(np.inf), recording.probe.positions, limit).astype(np.int32)


# --- averages ---

FIXED_POINT = 1024
"""Sums are kept in whole 1/1024 sd: integer sums do not depend on the order of the chunks' borders."""


def average(traces: StandardTraces, events: Events, params: TemplatesParams, backend: str) -> LazyParts:
    """Weighted mean waveform of each unit's events, with `align_ms` more on both sides than a template has.

    Parameters
    ----------
    events : Events with fields sample_index, unit_index, shift, amplitude, main_channel
        The mean is sum(a x) / sum(a^2), a the amplitude: the least-squares template of x = a w.

    Returns
    -------
    LazyParts that opens as StoredAverages.
    """
    recording = traces.recording
    margin = recording.samples(params.align_ms) + subsample.REACH
    before = recording.samples(params.before_ms) + margin
    n_samples = before + recording.samples(params.after_ms) + margin + 1
    averager = _Averager(traces, before, n_samples, local_channels(recording, params.max_channels), backend)
    parts = chunk_tasks("templates", averager.sums, recording, averager.halo, events)
    return LazyParts(parts, params, 2, lambda table: StoredAverages(table, margin), reduce=_means, reads_traces=True)


@dataclass(frozen=True)
class _Averager:
    traces: StandardTraces
    before: int
    n_samples: int
    channels: np.ndarray
    backend: str

    @property
    def halo(self) -> int:
        return self.n_samples + subsample.REACH

    def sums(self, overlapped: np.ndarray | Rows, chunk: Chunk, events: Events) -> dict[str, np.ndarray]:
        """Sums over a chunk's events, for the units that have any."""
        mine = events.within(chunk.start, chunk.stop)
        units, first, index = np.unique(mine["unit_index"], return_index=True, return_inverse=True)
        sums = np.zeros((len(units), self.channels.shape[1], self.n_samples), np.int64).transpose(0, 2, 1)
        power = np.zeros(len(units), np.int64)
        traces = self.traces.within(chunk.start - self.halo, chunk.stop + self.halo)
        for block in blocks(overlapped, chunk, self.halo):
            low, high = np.searchsorted(mine["sample_index"], [block.start, block.stop])
            if low == high:
                continue
            x = traces.to_sd(block.traces, block.start - self.halo)
            a = mine["amplitude"][low:high]
            here, groups = np.unique(index[low:high], return_inverse=True)
            added = kernel("accumulate", self.backend)(
                x, rows=mine["sample_index"][low:high] - block.start + self.halo, groups=groups,
                channels=self.channels[mine["main_channel"][low:high]], weights=a * FIXED_POINT, before=self.before,
                n_samples=self.n_samples, n_groups=len(here), shifts=subsample.opposite(mine["shift"][low:high]),
                filters=subsample.shift_filters(),
            )  # fmt: skip
            for unit, more in zip(here, added, strict=True):
                sums[unit] += more
            np.add.at(power, index[low:high], np.rint(a * a * FIXED_POINT).astype(np.int64))
        return {
            "unit_index": units.astype(np.int32),
            "main_channel": mine["main_channel"][first].astype(np.int32),
            "count": np.bincount(index, minlength=len(units)).astype(np.int64),
            "power": power,
            "sums": _narrowed(sums),
        }


def _narrowed(sums: np.ndarray) -> np.ndarray:
    """The same numbers in half the bytes, where they fit."""
    fits = max(sums.max(initial=0), -sums.min(initial=0)) <= np.iinfo(np.int32).max
    return sums.astype(np.int32) if fits else sums


@dataclass(frozen=True)
class Averages:
    """Mean waveforms on a window longer than a template's, before alignment."""

    waveforms: np.ndarray
    """(n_units, n_long, n_local) float32; zeros for a unit without events"""
    main_channels: np.ndarray
    n_spikes: np.ndarray
    margin: int
    """Samples more on both sides than a template has"""


@dataclass(frozen=True)
class StoredAverages:
    """Averages on disk, of some units: a small handle that travels to tasks."""

    table: Mapping[str, Any]
    margin: int
    first: int = 0
    stop: int | None = None

    def parted(self, n: int) -> tuple[StoredAverages, StoredAverages]:
        """The first n units, and the others."""
        return replace(self, stop=n), replace(self, first=n)

    def load(self) -> Averages:
        """The averages in memory."""
        names = ("waveforms", "main_channel", "count")
        waveforms, main, count = (np.asarray(self.table[name][self.first : self.stop]) for name in names)
        return Averages(waveforms, main, count, self.margin)


def _means(parts: Iterator[Arrays]) -> dict[str, np.ndarray]:
    """Mean waveform, main channel and number of events of each unit, from the sums of all chunks."""
    totals: dict[str, np.ndarray] = {}
    for part in parts:
        units = part["unit_index"]
        for name in ("sums", "power", "count"):
            totals[name] = _with_rows(totals.get(name), units, part[name], np.int64)
            for unit, row in zip(units, part[name], strict=True):
                totals[name][unit] += row
        totals["main_channel"] = _with_rows(totals.get("main_channel"), units, part["main_channel"], np.int32)
        totals["main_channel"][units] = part["main_channel"]
    waveforms = (totals["sums"] / np.maximum(totals["power"], 1)[:, None, None]).astype(np.float32)
    return {"waveforms": waveforms, "main_channel": totals["main_channel"], "count": totals["count"]}


def _with_rows(total: np.ndarray | None, units: np.ndarray, rows: np.ndarray, dtype: Any) -> np.ndarray:
    """A total with a row for each of these units; zeros where there was none."""
    if total is None:
        total = np.zeros((0, *rows.shape[1:]), dtype)
    missing = int(units.max(initial=-1)) + 1 - len(total)
    return total if missing <= 0 else np.concatenate([total, np.zeros((missing, *total.shape[1:]), dtype)])
