"""Stage: features of pursued spikes, each cleaned of all other spikes, in the frames of the units they may belong to.

The frame of a unit is its channels and its time. A spike of unit u seen in the frame of v is what a feature of v
would be if the spike were v's: so spikes of two units are compared like with like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from yass_dask.backends import GPU
from yass_dask.chunked import Block, Chunk, LazyParts, Rows, blocks, chunk_tasks, read_ahead
from yass_dask.detect import Finder
from yass_dask.events import Events, Fields, evenly
from yass_dask.features import Cutter, FeatureParams, Features
from yass_dask.geometry import nearest_channels
from yass_dask.matching import distances, low_rank, pair_overlaps, pairs
from yass_dask.noise import Noise
from yass_dask.projector import Basis, Projector
from yass_dask.recording import Recording
from yass_dask.residual import Residual
from yass_dask.templates import StoredTemplates, Templates


class Frames(NamedTuple):
    """Which units are seen in which frames; every unit is seen in its own."""

    unit: np.ndarray
    """(n_frames,) int32, sorted"""
    other: np.ndarray
    """(n_frames,) int32, whose frame"""
    lag: np.ndarray
    """(n_frames,) int32: the other's time is that many samples after the unit's"""
    distance: np.ndarray
    """(n_frames,) float32 between the two templates, in whitened noise standard deviations"""
    channels: np.ndarray
    """(n_units, n_local) int32 channels of each unit's frame, padded with n_channels"""
    own: np.ndarray
    """(n_frames, n_local, n_components) float32 features of the unit's template in the frame"""


@dataclass(frozen=True)
class StoredFrames:
    """Frames on disk: a small handle that travels to tasks."""

    table: Mapping[str, Any]

    def load(self) -> Frames:
        """The frames in memory."""
        return Frames(**{name: np.asarray(self.table[name][:]) for name in self.table})


MAX_OTHERS = 4
MAX_SHARE = 0.7
MAX_LAG_MS = 1.0
MOST_SUPPORT = 512
"""No whitened template reaches so many channels."""
MAX_SCALE = 3.0
"""Units are compared whose templates are alike up to a factor: a bursting cell's spikes become smaller."""


def find_frames(
    templates: Templates | StoredTemplates,
    noise: Noise,
    basis: Basis,
    recording: Recording,
    params: FeatureParams,
    max_distance: float,
) -> LazyParts:
    """Frames of the templates; opens as StoredFrames. See `frames_of`."""
    near = nearest_channels(recording.neighbors(params.radius_um), recording.probe.positions, params.max_channels)
    lag = recording.samples(MAX_LAG_MS)
    return LazyParts.one(
        "frames", _frame_fields, templates, noise, basis, near.astype(np.int32), max_distance, lag,
        params={"features": params.model_dump(), "max_distance": max_distance}, version=2, open=StoredFrames,
    )  # fmt: skip


def _frame_fields(templates: Templates | StoredTemplates, *inputs: Any) -> dict[str, np.ndarray]:
    return frames_of(templates.load(), *inputs)._asdict()


def frames_of(
    templates: Templates, noise: Noise, basis: Basis, near: np.ndarray, max_distance: float, max_lag: int
) -> Frames:
    """Frames of each unit: its own, and those of the few units whose templates are most alike.

    Parameters
    ----------
    near : (n_channels, n_local) channels around each channel, padded with n_channels
    max_distance : whitened noise standard deviations; beyond, two units are never compared
    max_lag : samples
    """
    ranked = low_rank(templates, noise, 5, min(templates.n_channels, MOST_SUPPORT))
    start, other = pairs(ranked, templates.n_channels)
    overlaps = pair_overlaps(ranked, start, other, templates.n_channels)
    distance, lag = distances(ranked, start, other, overlaps, max_lag, MAX_SCALE)
    unit = np.repeat(np.arange(len(templates)), np.diff(start)).astype(np.int32)
    same = unit == other
    distance, lag = np.where(same, 0, distance), np.where(same, 0, lag)
    smaller = np.sqrt(np.minimum(ranked.norms[unit], ranked.norms[other]))
    likely = same | ((distance < max_distance) & (distance < MAX_SHARE * smaller))
    order = np.lexsort((distance, ~same, unit))
    order = order[likely[order]]
    rank = np.arange(len(order)) - np.searchsorted(unit[order], unit[order])
    kept = order[rank <= MAX_OTHERS]
    main = templates.main_channels(np.ones(templates.n_channels))
    channels = near[main] if len(main) else near[:0]
    matrix = noise.sparse_matrix()
    own = np.stack([_seen(templates, noise, matrix, basis, u, channels[v], d) for u, v, d in zip(
        unit[kept], other[kept], lag[kept], strict=True)]) if len(kept) else np.zeros(
        (0, near.shape[1], basis.project.shape[1]), np.float32)  # fmt: skip
    return Frames(unit[kept], other[kept], lag[kept].astype(np.int32), distance[kept].astype(np.float32), channels, own)


def _seen(
    templates: Templates, noise: Noise, matrix: Any, basis: Basis, unit: int, channels: np.ndarray, lag: int
) -> np.ndarray:
    """(n_local, n_components) features of a unit's template on other channels, `lag` samples later."""
    local = templates.channels[unit] < templates.n_channels
    mixing = np.pad(matrix[templates.channels[unit][local]].toarray(), ((0, 0), (0, 1)))
    white = templates.waveforms[unit][:, local] @ mixing[:, channels]
    white = noise.along_time(np.pad(white, ((noise.reach, noise.reach), (0, 0))))
    times = noise.reach + templates.peak + lag - basis.before + np.arange(len(basis.project))
    inside = (times >= 0) & (times < len(white))
    window = np.zeros((len(times), white.shape[1]), np.float32)
    window[inside] = white[times[inside]]
    return (window.T @ basis.project).astype(np.float32)


def choose_spikes(spikes: Events, max_spikes: int) -> LazyParts:
    """At most `max_spikes` spikes of each unit, spread evenly over the recording."""
    params = {"max_spikes": max_spikes}
    return LazyParts.one("chosen", _choose, spikes, max_spikes, params=params, version=1, open=Events)


def _choose(spikes: Events, max_spikes: int) -> dict[str, np.ndarray]:
    fields = spikes.load()
    kept = evenly(fields["unit_index"], max_spikes)
    return {name: values[kept] for name, values in fields.items()}


def look_at_residual(
    residual: Residual, noise: Noise, basis: Basis, chosen: Events, frames: StoredFrames, finder: Finder,
    params: FeatureParams, backend: str,
) -> LazyParts:  # fmt: skip
    """Features of chosen spikes in their units' frames, and of clear peaks of what all spikes leave: one pass.

    Opens as a pair: spikes, Events with fields sample_index, unit_index, other_index (whose frame), shift, amplitude,
    features; and peaks, see `Features`.
    """
    cutter = Cutter.of(residual, noise, params, backend)
    reach = len(basis.project) + residual.recording.samples(2 * MAX_LAG_MS) + noise.reach
    halo = max(reach, finder.halo, cutter.halo)
    look = _Look(residual, noise, basis, finder, cutter, params.max_peaks, halo, backend)
    parts = chunk_tasks("residual", look.chunk, residual.recording, look.halo, chosen, frames)
    return LazyParts(parts, params, 4, look.open, reads_traces=True)


SPIKE, PEAK = "spike_", "peak_"


@dataclass(frozen=True)
class _Look:
    residual: Residual
    noise: Noise
    basis: Basis
    finder: Finder
    cutter: Cutter
    max_peaks: int
    halo: int
    backend: str

    def chunk(
        self, overlapped: np.ndarray | Rows, chunk: Chunk, chosen: Events, stored: StoredFrames
    ) -> dict[str, np.ndarray]:
        """Rows of one chunk's spikes, spike by spike, frame by frame; and its peaks."""
        traces = self.residual.within(chunk.start - self.halo, chunk.stop + self.halo)
        seen = _Seen.of(chosen.within(chunk.start, chunk.stop), stored.load())
        projector = Projector.of(self.noise, self.basis, seen.frames.channels, self.backend)
        of_peaks = self.cutter.projector(self.basis)
        features, peaks = [np.zeros((0, *seen.frames.own.shape[1:]), np.float32)], []
        for block in read_ahead(blocks(overlapped, chunk, self.halo), self.backend in GPU):
            x = traces.to_sd(block.traces, block.start - self.halo)
            features.append(seen.features(x, block, projector))
            peaks.append(self._peaks(x, block, of_peaks))
        spikes = seen.fields() | {"features": np.concatenate(features).astype(np.float32)}
        named = {SPIKE: spikes, PEAK: self.cutter.joined(peaks, self.basis)}
        return {prefix + name: values for prefix, fields in named.items() for name, values in fields.items()}

    def _peaks(self, x: np.ndarray, block: Block, projector: Projector) -> dict[str, np.ndarray]:
        """Clear peaks of a block, with their features."""
        found = self.finder.block(x, block.start, block.stop, self.halo)
        samples, main = (found[name][found["is_clear"]] for name in ("sample_index", "channel_index"))
        return self.cutter.features(x, samples, block.start - self.halo, main, projector)

    def open(self, table: Mapping[str, Any]) -> tuple[Events, Features]:
        return Events(Fields(table, SPIKE)), Features(Fields(table, PEAK), self.cutter.channels, self.max_peaks)


class _Seen(NamedTuple):
    """Spikes of a chunk, each in every frame of its unit."""

    frames: Frames
    mine: dict[str, np.ndarray]
    spike: np.ndarray
    """row of `mine`, ascending"""
    frame: np.ndarray

    @classmethod
    def of(cls, mine: dict[str, np.ndarray], frames: Frames) -> _Seen:
        begin = np.searchsorted(frames.unit, mine["unit_index"])
        count = np.searchsorted(frames.unit, mine["unit_index"], side="right") - begin
        spike = np.repeat(np.arange(len(count)), count)
        frame = np.repeat(begin, count) + np.arange(len(spike)) - np.repeat(np.cumsum(count) - count, count)
        return cls(frames, mine, spike, frame)

    def features(self, x: np.ndarray, block: Block, projector: Projector) -> np.ndarray:
        """Features of the spikes in a block, each with its own template added to the residual `x` again."""
        times = self.mine["sample_index"]
        a, b = np.searchsorted(self.spike, np.searchsorted(times, [block.start, block.stop]))
        spike, frame = self.spike[a:b], self.frame[a:b]
        at = times[spike] - block.start + block.halo + self.frames.lag[frame]
        left = projector.features(x, at, self.frames.other[frame], self.mine["shift"][spike])
        restored: np.ndarray = left + self.mine["amplitude"][spike, None, None] * self.frames.own[frame]
        return restored

    def fields(self) -> dict[str, np.ndarray]:
        names = ("sample_index", "unit_index", "shift", "amplitude")
        return {name: self.mine[name][self.spike] for name in names} | {"other_index": self.frames.other[self.frame]}
