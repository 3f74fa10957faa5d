"""What pursued spikes leave of the clean traces."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from yass_dask import subsample
from yass_dask.backends import kernel, on_host
from yass_dask.chunked import Chunk, Rows, blocks, chunk_tasks, joined_traces
from yass_dask.events import Events, between
from yass_dask.preprocess import COUNTS_PER_SD, Clean
from yass_dask.recording import Recording
from yass_dask.templates import Templates


@dataclass(frozen=True)
class Residual:
    """Clean traces less the spikes found in them; stands wherever clean traces do."""

    clean: Clean
    templates: Any
    """Templates, or StoredTemplates (after `within`: Templates)"""
    spikes: Any
    """Spikes, or (after `within`) the fields of those nearby"""
    backend: str
    poses: Any = None
    """StoredPoses of the templates (after `within`: Poses), None where the tissue does not move"""

    @property
    def recording(self) -> Recording:
        """The clean recording: `to_sd` is what subtracts."""
        return self.clean.recording

    def within(self, start: int, stop: int) -> Residual:
        """The same with the spikes of samples [start, stop) and around in memory."""
        posed = self.poses is not None
        templates = (self.poses.templates() if posed else self.templates.load()).packed()
        reach = templates.n_samples + subsample.REACH
        spikes = self.spikes.within(start - reach, stop + reach)
        return replace(self, templates=templates, spikes=spikes, poses=self.poses.index() if posed else None)

    def to_sd(self, traces: np.ndarray, start: int) -> np.ndarray:
        """Noise standard deviations of samples from `start` on, spikes subtracted."""
        if len(self.templates) == 0:
            return self.clean.to_sd(traces)
        reach = self.templates.n_samples + subsample.REACH
        near = between(self.spikes, start - reach, start + len(traces) + reach)
        rows = near["unit_index"]
        if self.poses is not None:
            rows = self.poses.of_spikes(rows, near["sample_index"])
        return kernel("subtract", self.backend)(
            traces, factor=1 / COUNTS_PER_SD, rows=near["sample_index"] - start, units=rows,
            shifts=near["shift"], amplitudes=near["amplitude"], waveforms=self.templates.waveforms,
            channels=self.templates.channels, peak=self.templates.peak, filters=subsample.shift_filters(),
        )  # fmt: skip


def residual(clean: Clean, templates: Templates, spikes: Events, backend: str = "numba") -> Recording:
    """What the spikes leave of the clean traces: a lazy recording, float32, in noise standard deviations."""
    from yass_dask.readers import from_array

    recording = clean.recording
    source = Residual(clean, templates, spikes, backend)
    tasks = chunk_tasks("residual", _residual_chunk, recording, 0, source)
    traces = joined_traces(tasks, recording, np.float32)
    return from_array(traces, recording.sampling_rate, geometry=recording.probe)


def _residual_chunk(overlapped: np.ndarray | Rows, chunk: Chunk, source: Residual) -> np.ndarray:
    near = source.within(chunk.start, chunk.stop)
    cores = [on_host(near.to_sd(b.traces[: b.stop - b.start], b.start)) for b in blocks(overlapped, chunk, 0)]
    return np.concatenate(cores)
