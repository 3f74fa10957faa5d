"""What a sort will take, stage by stage, before it runs: disk, memory, and time.

Bytes follow from the shapes of what is stored, where events are as many as ENOUGH times those of the simulated
recordings (2.4 spikes a second and channel): an upper bound in the usual case. Seconds are those of one core as
measured (see docs/long.md); another machine is faster or slower as a whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from yass_dask.chunked import Stride
from yass_dask.motion.params import is_followed
from yass_dask.motion.raster import MOST_BLOCKS
from yass_dask.noise import MAX_WHITENING_CHANNELS
from yass_dask.pipeline import SortParams, looked_at
from yass_dask.runtime.plan import PROCESS_BYTES, TRACE_BYTES_PER_VALUE, Plan

if TYPE_CHECKING:
    from yass_dask.recording import Recording

ENOUGH = 3
PEAK_BYTES, FEATURE_BYTES, RESIDUAL_BYTES, SPIKE_BYTES = 40, 500, 700, 60
"""A second and channel, before compression, of detection, features, the residual's features and a pursuit (measured);
kept as much, while a stage is joined its parts lie there besides."""
UNITS_PER_CHANNEL = 1.0
"""Before the last drops; the results hold half of them."""
SUMS_PER_CHANNEL = 1.6
"""Sums of waveforms that a chunk has when clusters are averaged (measured: 1.5 on 2048 channels)."""
UNIT_BYTES = 150_000
"""Kept of all tables of units after a round, a unit (measured: 20 to 100 kB a channel)."""
SUM_BYTES = 4
TABLE_BYTES, PAIRS_PER_CHANNEL = 1_000_000, 110
"""Of a stage, whatever the size; pairs of neighbours on dense probes (measured: 69 to 106)."""
SPIKES_PER_CHANNEL_SECOND, END_BYTES_PER_SPIKE = 2.5, 120
"""Spikes of the last pursuit; while results are made, all of them are in memory, with copies (measured: 101 B)."""

CLEANING_US, ANEW_US, RASTER_US, DETECTION_US, FEATURES_US = 200.0, 110.0, 120.0, 120.0, 70.0
CLUSTERING_US, AVERAGING_US, RESIDUAL_US, PURSUIT_US, PURSUIT_OF_FEW_US = 60.0, 95.0, 190.0, 380.0, 16_000.0
"""Microseconds of a core a second and channel looked at; cleaning is with storing, anew without. Pursuit of few
channels takes more: so much, divided by them."""
SAMPLING_S, CHANNEL_S = 2.5, 0.012
"""Seconds of sampling, planning and joining: at least, and a channel."""


@dataclass(frozen=True)
class Needs:
    """What one step of a sort takes."""

    name: str
    looks_at_s: float
    """Seconds of the recording"""
    kept_bytes: int
    """On disk when it is done"""
    scratch_bytes: int
    """On disk besides, while it runs"""
    core_s: float
    last_stage: str
    """When this is complete the step is done"""
    memory_bytes: int = 0
    """Of the client, beyond what its tasks take"""

    @property
    def is_round(self) -> bool:
        """A round, after which units are refined."""
        return self.last_stage.startswith("templates_")


def needs_of(recording: Recording, params: SortParams, *, store_traces: bool = True) -> list[Needs]:
    """Needs of all steps, in order.

    Parameters
    ----------
    recording : cut in chunks by the plan
    store_traces : as for `Store`
    """
    follows = params.motion.follow and is_followed(recording.probe)
    return list(_Reckoning(recording, params.moving() if follows else params, store_traces).steps())


def disk_bytes(needs: Sequence[Needs]) -> int:
    """Most that lies on the disk at once: what was kept so far, and what the running step writes besides."""
    kept = np.cumsum([step.kept_bytes for step in needs])
    return int(max(kept + [step.scratch_bytes for step in needs]))


LAST_PURSUIT = {"bank", "even", "deconvolve"}
"""Stages of it"""


def left_of(needs: Sequence[Needs], finished: Collection[str]) -> list[Needs]:
    """Steps that are not done yet; only the results are always written anew.

    Where the tissue rests there was one round less than planned: all are done once the last pursuit has begun.
    """
    refined = not LAST_PURSUIT.isdisjoint(finished)
    return [step for step in needs if step.last_stage not in finished and not (refined and step.is_round)]


def memory_bytes(needs: Sequence[Needs], plan: Plan) -> int:
    """Most memory that the whole process tree takes."""
    return max(plan.peak_bytes, *(PROCESS_BYTES + step.memory_bytes for step in needs))


@dataclass(frozen=True)
class _Reckoning:
    recording: Recording
    params: SortParams
    store_traces: bool

    def steps(self) -> Iterator[Needs]:
        yield self.conditioning()
        if self.params.motion.follow and is_followed(self.recording.probe):
            yield self.motion()
        yield self.clustering()
        for k in range(self.params.n_refinements):
            yield self.round(k)
        yield self.pursuit()
        yield self.results()

    def conditioning(self) -> Needs:
        recording = self.recording
        sampled = min(self.params.preprocess.n_sampled_blocks, recording.n_blocks)
        near = min(PAIRS_PER_CHANNEL, recording.n_channels, MAX_WHITENING_CHANNELS**2)
        sums = sampled * 2 * 8 * near * recording.n_channels
        sampling_s = SAMPLING_S + CHANNEL_S * recording.n_channels
        core_s = sampling_s + (self._core_s(recording.duration_s, CLEANING_US) if self.store_traces else 0)
        kept, last = self._traces() + sums + TABLE_BYTES, "preprocess" if self.store_traces else "noise"
        return Needs("preprocessing", recording.duration_s, kept, sums, core_s, last)

    def motion(self) -> Needs:
        """Still traces are there only where the tissue moves."""
        share = min(1.0, MOST_BLOCKS / self.recording.n_blocks)
        seconds = share * self.recording.duration_s
        core_s = self._core_s(seconds, RASTER_US) + self._anew_s(Stride(max(1, round(1 / share))), seconds)
        return Needs("motion", seconds, self._traces() + TABLE_BYTES, TABLE_BYTES, core_s, "spectrum")

    def clustering(self) -> Needs:
        stride = looked_at(self.recording, self.params)
        seconds = self._seconds(stride)
        events = self._events(seconds, PEAK_BYTES + FEATURE_BYTES)
        core_s = self._core_s(seconds, DETECTION_US + FEATURES_US + CLUSTERING_US + AVERAGING_US)
        scratch = max(events, self._sums(stride)) + TABLE_BYTES
        core_s += self._anew_s(stride, 3 * seconds)
        return Needs("detection, clustering", seconds, events + self._units(), scratch, core_s, "templates")

    def round(self, k: int) -> Needs:
        stride = looked_at(self.recording, self.params, k)
        seconds = self._seconds(stride)
        events = self._events(seconds, RESIDUAL_BYTES + SPIKE_BYTES)
        core_s = self._core_s(seconds, self._pursuit_us() + RESIDUAL_US + AVERAGING_US)
        scratch = max(events, self._sums(stride)) + TABLE_BYTES
        core_s += self._anew_s(stride, 3 * seconds)
        kept = events + self._units()
        return Needs(f"round {k + 1}", seconds, kept, scratch, core_s, f"templates_{k}")

    def pursuit(self) -> Needs:
        """The even blocks' spikes are kept beside all spikes."""
        seconds = self.recording.duration_s
        events = self._events(seconds, SPIKE_BYTES)
        core_s = self._core_s(seconds, self._pursuit_us()) + self._anew_s(Stride(2), seconds)
        return Needs("last pursuit", seconds, events + events // 2, events, core_s, "deconvolve")

    def results(self) -> Needs:
        n_units = UNITS_PER_CHANNEL * self.recording.n_channels / 2
        templates = n_units * self._template_samples() * self.recording.n_channels * 4
        spikes = self._events(self.recording.duration_s, SPIKE_BYTES)
        n_spikes = SPIKES_PER_CHANNEL_SECOND * self.recording.duration_s * self.recording.n_channels
        in_memory = int(n_spikes * END_BYTES_PER_SPIKE)
        return Needs("results", self.recording.duration_s, int(templates) + spikes, 0, 0.0, "", in_memory)

    # --- bytes ---

    def _traces(self) -> int:
        values = self.recording.n_samples * self.recording.n_channels
        return values * TRACE_BYTES_PER_VALUE if self.store_traces else 0

    def _events(self, seconds: float, n_bytes: float) -> int:
        return int(ENOUGH * seconds * self.recording.n_channels * n_bytes)

    def _units(self) -> int:
        return int(UNITS_PER_CHANNEL * self.recording.n_channels * UNIT_BYTES)

    def _sums(self, stride: Stride) -> int:
        """Sums of waveforms: every chunk has some of most units."""
        recording = self.recording.with_chunks(self.recording.part_blocks or self.recording.chunk_blocks)
        n_chunks = sum(len(chunk.numbers) > 0 for chunk in recording.strided(stride).chunks)
        n_local = min(self.params.templates.max_channels, self.recording.n_channels)
        n_clusters = SUMS_PER_CHANNEL * self.recording.n_channels
        n_sums = min(n_chunks, self.params.templates.max_spikes) * n_clusters * n_local * self._template_samples()
        return int(SUM_BYTES * n_sums)

    def _template_samples(self) -> int:
        """With the margins that averages have."""
        templates = self.params.templates
        return self.recording.samples(templates.before_ms + templates.after_ms + 2 * templates.align_ms) + 1

    # --- seconds ---

    def _seconds(self, stride: Stride) -> float:
        recording = self.recording
        return stride.n_samples(recording.n_samples, recording.block_samples) / recording.sampling_rate

    def _core_s(self, seconds: float, us: float) -> float:
        return seconds * self.recording.n_channels * us / 1e6

    def _pursuit_us(self) -> float:
        return PURSUIT_US + PURSUIT_OF_FEW_US / self.recording.n_channels

    def _anew_s(self, stride: Stride, seconds: float) -> float:
        """Traces that are not stored are cleaned whenever they are read: blocks that lie apart with both neighbours."""
        return 0.0 if self.store_traces else self._core_s(min(stride.step, 3) * seconds, ANEW_US)


def table(needs: Sequence[Needs], plan: Plan) -> str:
    """The needs as lines of text, and what they come to."""
    from yass_dask.config import format_size

    lines = [f"{'step':<22} {'looks at':>10} {'disk kept':>10} {'besides':>10} {'core time':>10}"]
    for step in needs:
        kept, besides = (format_size(size) for size in (step.kept_bytes, step.scratch_bytes))
        lines.append(f"{step.name:<22} {said(step.looks_at_s):>10} {kept:>10} {besides:>10} {said(step.core_s):>10}")
    hours = said(sum(step.core_s for step in needs) / plan.n_workers)
    lines.append(f"about {hours} on {plan.n_workers} cores, besides reading the input; {one_line(needs, plan)}")
    return "\n".join(lines)


def one_line(needs: Sequence[Needs], plan: Plan) -> str:
    """How it is cut, and the largest of all steps."""
    from yass_dask.config import format_size

    sizes = plan.bytes_per_task, memory_bytes(needs, plan), disk_bytes(needs)
    task, memory, disk = (format_size(size) for size in sizes)
    return (
        f"{plan.n_workers} workers, chunks of {plan.chunk_blocks} blocks, {task} of arrays a task, "
        f"about {memory} of memory, at most {disk} of disk"
    )


def said(seconds: float) -> str:
    """A time in the unit that fits: 12 s, 3.4 min, 5.2 h, 7 d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
