"""Blocks of the clean traces, spread over the recording: what lies in them before and after spikes are subtracted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from yass_dask.backends import kernel
from yass_dask.detect import SIGNS, DetectParams, neighbor_lists
from yass_dask.errors import InputError
from yass_dask.evaluate.trains import evenly
from yass_dask.events import Events
from yass_dask.geometry import Probe
from yass_dask.preprocess import COUNTS_PER_SD, Clean, Scale
from yass_dask.readers import read_zarr
from yass_dask.residual import Residual
from yass_dask.sources import ZarrSource
from yass_dask.store.recipe import hash_of
from yass_dask.store.stage import UNSTORED, Stage
from yass_dask.templates import StoredTemplates

if TYPE_CHECKING:
    from yass_dask.sorting import Sorting
    from yass_dask.store import Store

BACKEND = "numba"
MOST_BLOCKS = 60
MOST_SPIKES = 200
"""Waveforms of a unit that its spread is measured on"""
MOST_DOTS = 9000
"""Peaks of the raster"""
CENTRE_RADIUS_UM = 75.0
EXAMPLE_MS = 40.0


class Example(NamedTuple):
    """A short stretch with many spikes."""

    start_s: float
    before: np.ndarray
    """(n_samples, n_channels) noise standard deviations"""
    after: np.ndarray


@dataclass
class Sampled:
    """What was seen in the blocks."""

    seconds: float
    threshold: float
    n_before: np.ndarray
    """(n_channels,) peaks above the threshold"""
    n_after: np.ndarray
    """(n_channels,) those of them that are left"""
    power_before: np.ndarray
    """(n_channels,) mean squares, noise variances"""
    power_after: np.ndarray
    n_waveforms: np.ndarray
    """(n_units,) spikes that the spread was measured on"""
    spread: np.ndarray
    """(n_units, n_template_samples, n_local) standard deviation of waveforms, in the templates' unit"""
    channels: np.ndarray
    """(n_units, n_local) channels of each unit, the largest first"""
    peaks: dict[str, np.ndarray] = field(default_factory=dict)
    """seconds, depth_um (centre of mass) and height_sd of peaks"""
    example: Example | None = None


def look(sorting: Sorting, store: Store, n_local: int) -> Sampled:
    """Look at up to MOST_BLOCKS blocks of a finished sort.

    Raises
    ------
    InputError
        The sort's traces or spikes are not in the store.
    """
    residual = residual_of(sorting, store)
    params = DetectParams(**{k: v for k, v in store.params_of("detect").items() if k in DetectParams.model_fields})
    looking = _Looking(sorting, residual, params, n_local, traces_of(store)[-1])
    recording = residual.recording
    numbers = np.unique(np.linspace(0, recording.n_blocks - 1, min(MOST_BLOCKS, recording.n_blocks)).astype(int))
    for number in numbers:
        looking.block(int(number) * recording.block_samples)
    return looking.result()


def residual_of(sorting: Sorting, store: Store) -> Residual:
    """The clean traces less the sorting's spikes, as they were pursued.

    Raises
    ------
    InputError
        The sort's traces or spikes are not in the store.
    """
    if sorting.trace_gain is None:
        raise InputError("the sorting does not say what its clean traces' counts are")
    spikes, stages = Events(store.open("deconvolve")), lineage(store)
    traces = traces_of(store)[0]
    recording = read_zarr(traces.path, sorting.sampling_rate, sorting.probe).with_chunks(1)
    sd = sorting.trace_gain * COUNTS_PER_SD
    clean = Clean(recording, Scale(np.zeros_like(sd), sd, sd <= 0), BACKEND)
    templates = StoredTemplates(store.open(next(name for name in stages if name.startswith("templates"))))
    return Residual(clean, templates, Standing(spikes, sorting.sample_index), BACKEND)


@dataclass(frozen=True)
class Standing:
    """Spikes of the last pursuit that stood: some were left out of the sorting at the end."""

    pursued: Events
    samples: np.ndarray
    """of the sorting's spikes, ascending"""

    def within(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Fields of those with start <= sample < stop."""
        found = self.pursued.within(start, stop)
        first, last = np.searchsorted(self.samples, (start, stop))
        stands = np.isin(found["sample_index"], self.samples[first:last])
        return {name: values[stands] for name, values in found.items()}


def lineage(store: Store) -> list[str]:
    """Stages that the last pursuit came from, itself first: others may lie there from sorts with other parameters."""
    found_there = {path.parent.name: Stage(path.parent, "").attributes() for path in store.zarr_path.glob("*/.zattrs")}
    recipes = {name: it["recipe"] for name, it in found_there.items() if it.keys() & {"complete", UNSTORED}}
    names = {hash_of(recipe): name for name, recipe in recipes.items()}
    found, name = [], names.get(hash_of(recipes["deconvolve"]))
    while name is not None:
        found.append(name)
        name = names.get(recipes[name]["previous"])
    return found


def traces_of(store: Store) -> list[ZarrSource]:
    """Traces that were kept: those that the last pursuit read, and what they were made from."""
    opened = [store.open(name) for name in lineage(store)]
    return [source for source in opened if isinstance(source, ZarrSource)]


class _Looking:
    """Sums over blocks."""

    def __init__(
        self, sorting: Sorting, residual: Residual, params: DetectParams, n_local: int, unmoved: ZarrSource
    ) -> None:
        self.sorting, self.residual = sorting, residual
        self.unmoved = unmoved
        self.recording = residual.recording
        self.channels = main_channels(sorting, n_local)
        self.heights = np.array([np.abs(template).max() for template in sorting.templates])
        n_channels, shape = sorting.n_channels, (sorting.n_units, sorting.templates.shape[1], self.channels.shape[1])
        self.sums, self.squares = np.zeros(shape), np.zeros(shape)
        self.seen = np.zeros(sorting.n_units, np.int64)
        self.counts = np.zeros((2, n_channels), np.int64)
        self.power, self.n_samples = np.zeros((2, n_channels)), 0
        self.peaks: list[np.ndarray] = []
        self.example: Example | None = None
        self.most = 0
        near = neighbor_lists(residual.clean, params.radius_um)
        exclusion = self.recording.samples(params.exclusion_ms)
        self.rule: dict[str, Any] = {
            "threshold": params.threshold_sd, "sign": SIGNS[params.sign], "exclusion": exclusion, "neighbors": near,
        }  # fmt: skip
        self.per_sd = sorting.trace_gain * COUNTS_PER_SD if sorting.trace_gain is not None else np.ones(n_channels)

    def block(self, start: int) -> None:
        """Add what a block holds."""
        stop = min(start + self.recording.block_samples, self.recording.n_samples)
        counts = self.recording.source.read(start, stop)
        before = np.asarray(self.residual.clean.to_sd(counts))
        after = np.asarray(self.residual.within(start, stop).to_sd(counts, start))
        self.n_samples += stop - start
        for row, traces in enumerate((before, after)):
            self.power[row] += (traces.astype(np.float64) ** 2).sum(axis=0)
            channels = kernel("find_peaks", BACKEND)(traces, first=0, stop=len(traces), **self.rule)[1]
            self.counts[row] += np.bincount(channels, minlength=self.sorting.n_channels)
        self._peaks(start, stop)
        self._waveforms(after, start)
        self._example(before, after, start)

    def _peaks(self, start: int, stop: int) -> None:
        """Peaks where the probe saw them, for the raster: drift must show that is followed later."""
        traces = np.asarray(self.residual.clean.to_sd(self.unmoved.read(start, stop)))
        rows, channels, heights = kernel("find_peaks", BACKEND)(traces, first=0, stop=len(traces), **self.rule)
        placed = _placed(traces, rows, channels, heights, self.sorting.probe)
        placed[:, 0] = (placed[:, 0] + start) / self.recording.sampling_rate
        self.peaks.append(placed)

    def _waveforms(self, after: np.ndarray, start: int) -> None:
        """Cleaned waveforms: each spike's own template, at its size, with what is left around it."""
        s, length = self.sorting, self.sorting.templates.shape[1]
        first, last = np.searchsorted(s.sample_index, (start + s.template_peak, start + len(after)))
        rows = np.searchsorted(s.unit_ids, s.unit_index[first:last])
        at = s.sample_index[first:last] - start - s.template_peak
        for unit in np.unique(rows):
            mine = np.flatnonzero((rows == unit) & (at + length <= len(after)))[: MOST_SPIKES - self.seen[unit]]
            channels = self.channels[unit]
            left = after[(at[mine, None] + np.arange(length))[:, :, None], channels] * self.per_sd[channels]
            size = np.abs(s.amplitudes[first:last][mine]) / (self.heights[unit] or 1.0)
            waves = left + size[:, None, None] * s.templates[unit][:, channels]
            self.sums[unit] += waves.sum(axis=0)
            self.squares[unit] += (waves.astype(np.float64) ** 2).sum(axis=0)
            self.seen[unit] += len(mine)

    def _example(self, before: np.ndarray, after: np.ndarray, start: int) -> None:
        length = self.recording.samples(EXAMPLE_MS)
        edges = np.arange(0, len(before) + 1, length)
        if len(edges) < 2:
            return
        counts = np.diff(np.searchsorted(self.sorting.sample_index, start + edges))
        if counts.max() > self.most:
            self.most, at = int(counts.max()), int(edges[counts.argmax()])
            stretch = slice(at, at + length)
            begin = (start + at) / self.recording.sampling_rate
            self.example = Example(begin, before[stretch].copy(), after[stretch].copy())

    def result(self) -> Sampled:
        n = np.maximum(self.seen, 1)[:, None, None]
        spread = np.sqrt(np.maximum(self.squares / n - (self.sums / n) ** 2, 0))
        placed = np.concatenate([*self.peaks, np.zeros((0, 3))])
        some = placed[evenly(len(placed), MOST_DOTS)]
        columns = dict(zip(("seconds", "depth_um", "height_sd"), some.T, strict=True))
        power = self.power / max(self.n_samples, 1)
        return Sampled(
            seconds=self.n_samples / self.recording.sampling_rate,
            threshold=self.rule["threshold"],
            n_before=self.counts[0],
            n_after=self.counts[1],
            power_before=power[0],
            power_after=power[1],
            n_waveforms=self.seen,
            spread=spread,
            channels=self.channels,
            peaks=columns,
            example=self.example,
        )


def main_channels(sorting: Sorting, n_local: int) -> np.ndarray:
    """(n_units, <= n_local) channels where each unit's template is largest, the largest first."""
    n_local = min(n_local, sorting.n_channels)
    if not sorting.n_units:
        return np.zeros((0, n_local), int)
    sizes = np.stack([np.ptp(template, axis=0) for template in sorting.templates])
    return np.argsort(-sizes, axis=1, kind="stable")[:, :n_local]


def _placed(
    traces: np.ndarray, rows: np.ndarray, channels: np.ndarray, heights: np.ndarray, probe: Probe
) -> np.ndarray:
    """(n, 3): row; depth by the centre of mass of the squared traces around the peak's channel; height."""
    near = probe.neighbors(CENTRE_RADIUS_UM)
    depth = np.empty(len(rows))
    for channel in np.unique(channels):
        mine, around = channels == channel, np.flatnonzero(near[channel])
        weights = traces[rows[mine]][:, around].astype(np.float64) ** 2
        depth[mine] = weights @ probe.positions[around, 1] / np.maximum(weights.sum(axis=1), 1e-12)
    return np.stack([np.asarray(rows, float), depth, np.abs(heights)], axis=1)
