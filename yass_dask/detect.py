"""Stage: clean traces -> peaks (threshold extrema, or what a network takes for spikes), each with a flag that says
whether it stands clear of others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from dask import delayed
from pydantic import BaseModel, ConfigDict, Field

from yass_dask.backends import GPU, kernel, on_host
from yass_dask.chunked import Chunk, LazyParts, Rows, blocks, chunk_tasks, read_ahead
from yass_dask.events import Events, close_pairs
from yass_dask.geometry import nearest_channels
from yass_dask.neuralnetwork.files import digest
from yass_dask.neuralnetwork.models import chosen_model
from yass_dask.neuralnetwork.prior import least_log_odds
from yass_dask.neuralnetwork.scan import FLOOR_SD, Judge, Scan, log_odds_of, probability_of
from yass_dask.noise import Noise
from yass_dask.preprocess import StandardTraces, sampled_blocks

if TYPE_CHECKING:
    from yass_dask.recording import Recording

_log = logging.getLogger("yass_dask")


MOST_CHANNELS = 100
"""Measured: more units found on up to 96 channels, none on 128, where the network takes a larger share of the time."""


class DetectParams(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["auto", "threshold", "nnet"] = "auto"
    """threshold: extrema above a threshold; nnet: extrema that a network takes for spikes; auto: nnet where a `model`
    is given, and else for up to 100 channels at 10 to 50 kHz, unless `threshold_sd` is not 4.5."""
    model: str | None = None
    """Folder of networks, as `yass train` writes them; None: those of the package."""
    probability: float = Field(0.2, gt=0, lt=1)
    """nnet: least probability of a spike, one extremum at a time; of the peaks, the largest nearby, more are spikes."""
    floor_sd: float = Field(3.0, ge=FLOOR_SD)
    """nnet: lower extrema are not looked at. There are seven times as many from 2.25 on, the least that networks are
    trained for, and hardly more spikes."""
    triage: bool = False
    """Peaks that a network takes for several spikes on top of each other do not go to clustering."""
    keep_clean: float = Field(0.94, gt=0, lt=1)
    """triage: share of single spikes that goes to clustering, about; the recording's own peaks tell the threshold."""
    clean_probability: float | None = Field(None, gt=0, lt=1)
    """triage: least probability of a single spike, in place of the recording's own threshold."""
    threshold_sd: float = Field(4.5, gt=0)
    """Least height of a peak, in noise standard deviations of the whitened channel."""
    sign: Literal["both", "negative", "positive"] = "both"
    """Which extrema are peaks."""
    radius_um: float = Field(100.0, gt=0)
    """A peak is the largest within this distance ..."""
    exclusion_ms: float = Field(0.4, gt=0)
    """... and this long before and after."""
    clear_ms: float = Field(1.0, gt=0)
    """A peak is clear (goes to clustering) if no larger one lies within `radius_um` and this time of it."""


def takes_network(params: DetectParams, recording: Recording) -> bool:
    """Whether a network detects the spikes of a recording; measured in benchmarks/results/network_sorts.md."""
    if params.method != "auto":
        return params.method == "nnet"
    if params.model is not None:
        return True
    told = params.threshold_sd != DetectParams.model_fields["threshold_sd"].default
    low, high = chosen_model(None, "detect")[1].rates_hz or (0.0, 0.0)
    return not told and recording.n_channels <= MOST_CHANNELS and low <= recording.sampling_rate <= high


def refuse_unfit_networks(recording: Recording, params: DetectParams) -> None:
    """Look at the networks that are asked for before anything is computed.

    Raises
    ------
    InputError
        A network is not there, damaged, or of another rate or fewer channels than the recording's.
    """
    asked = {"detect": takes_network(params, recording), "triage": params.triage}
    if params.model is not None and not any(asked.values()):
        _log.warning("the networks in %s are not used: detect.method is threshold, detect.triage false", params.model)
    for kind in (kind for kind, wanted in asked.items() if wanted):
        Judge.of(*chosen_model(params.model, kind), recording, "numpy")


SIGNS = {"both": 0, "negative": -1, "positive": 1}


def fit_triage(
    keep: Callable, clean: StandardTraces, noise: Noise, params: DetectParams, n_blocks: int, backend: str
) -> DetectParams:
    """The same params with the triage's threshold, told by the recording's own peaks unless it is given.

    Parameters
    ----------
    keep : persists a stage, or finds it persisted, and opens it
    n_blocks : blocks that are looked at, at most
    """
    if not params.triage or params.clean_probability is not None:
        return params
    least = keep("triage", measure_triage(clean, noise, params, n_blocks, backend))
    _log.info("triage: peaks of log-odds %.2f or more are single spikes", least, extra={"file_only": True})
    return params.model_copy(update={"clean_probability": float(probability_of(np.array(least)))})


def measure_triage(clean: StandardTraces, noise: Noise, params: DetectParams, n_blocks: int, backend: str) -> LazyParts:
    """What the triage says of clear peaks in blocks spread over the recording; opens as the least log-odds of a single
    spike, a float."""
    finder = Finder.of(clean, noise, params, backend)
    judged = delayed(_clear_odds, name="triage", pure=False)
    parts = {
        chunk.name: judged(block, chunk, clean, finder)
        for chunk, block in sampled_blocks(clean.recording, n_blocks, finder.halo, "zero")
    }
    recipe = params.model_dump() | {"n_blocks": n_blocks, "networks": finder.weights()}
    kept = params.keep_clean
    return LazyParts(
        parts, recipe, 1, lambda table: least_log_odds(np.asarray(table["log_odds"][:]), kept), reads_traces=True
    )


def _clear_odds(block: np.ndarray, chunk: Chunk, clean: StandardTraces, finder: Finder) -> dict[str, np.ndarray]:
    """Log-odds of a block's clear peaks to be single spikes."""
    halo = finder.halo
    traces = clean.within(chunk.start - halo, chunk.stop + halo).to_sd(block, chunk.start - halo)
    return {"log_odds": finder.clear_odds(traces, halo, chunk.stop - chunk.start)}


EMPTY_PEAKS = {
    "sample_index": np.zeros(0, np.int64),
    "channel_index": np.zeros(0, np.int32),
    "amplitude": np.zeros(0, np.float32),
    "is_clear": np.zeros(0, bool),
}


def detect(clean: StandardTraces, noise: Noise, params: DetectParams, backend: str) -> LazyParts:
    """Peaks of the whitened traces (YASS's all spikes; those with `is_clear` are its clear spikes).

    Opens as Events with fields sample_index (int64), channel_index (int32), amplitude (float32, sd), is_clear (bool).
    Exact at chunk and block borders: a block sees as far beyond its core as the rule looks.
    """
    finder = Finder.of(clean, noise, params, backend)
    parts = chunk_tasks("detect", _detect, clean.recording, finder.halo, clean, finder)
    recipe = params.model_dump() | {"stride": list(clean.recording.stride), "networks": finder.weights()}
    return LazyParts(parts, recipe, 2, Events, reads_traces=True)


def _detect(
    overlapped: np.ndarray | Rows, chunk: Chunk, clean: StandardTraces, finder: Finder
) -> dict[str, np.ndarray]:
    """Peaks of one chunk."""
    halo = finder.halo
    traces = clean.within(chunk.start - halo, chunk.stop + halo)
    found = [
        finder.block(traces.to_sd(block.traces, block.start - halo), block.start, block.stop, halo)
        for block in read_ahead(blocks(overlapped, chunk, halo), finder.backend in GPU)
    ]
    return joined(found)


def joined(found: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Peaks of several blocks as one table."""
    return {name: np.concatenate([empty, *(f[name] for f in found)]) for name, empty in EMPTY_PEAKS.items()}


def neighbor_lists(clean: StandardTraces, radius_um: float) -> np.ndarray:
    """(n_channels, n_neighbors) int32, nearest first, padded with n_channels."""
    recording = clean.recording
    near = recording.neighbors(radius_um)
    return nearest_channels(near, recording.probe.positions, recording.n_channels).astype(np.int32)


@dataclass(frozen=True)
class Finder:
    """Finds the peaks of a block: extrema that reach the threshold."""

    noise: Noise
    threshold: float
    sign: int
    exclusion: int
    clear: int
    neighbors: np.ndarray
    backend: str
    triage: Judge | None
    least_clean: float
    """Log-odds of a single spike; where none was told or measured, the network's own threshold"""

    @staticmethod
    def of(clean: StandardTraces, noise: Noise, params: DetectParams, backend: str) -> Finder:
        """The finder that the params ask for.

        Raises
        ------
        InputError
            See `refuse_unfit_networks`.
        """
        recording = clean.recording
        exclusion, clear = recording.samples(params.exclusion_ms), recording.samples(params.clear_ms)
        near, sign = neighbor_lists(clean, params.radius_um), SIGNS[params.sign]
        triage = Judge.of(*chosen_model(params.model, "triage"), recording, backend) if params.triage else None
        rules = (noise, params.threshold_sd, sign, exclusion, clear, near, backend)
        least_clean = log_odds_of(params.clean_probability or 0.5)
        if not takes_network(params, recording):
            return Finder(*rules, triage, least_clean)
        judge = Judge.of(*chosen_model(params.model, "detect"), recording, backend)
        least = log_odds_of(params.probability)
        scan = Scan(judge, recording.sampling_rate, least, sign, exclusion, near, params.floor_sd)
        return NetworkFinder(*rules, triage, least_clean, scan)

    @property
    def halo(self) -> int:
        """Samples before and after a block that it looks at."""
        reach = 0 if self.triage is None else self.triage.reach
        return max(2 * max(self.exclusion, self.clear), reach)

    def weights(self) -> list[str]:
        """Digests of the networks that decide."""
        return [] if self.triage is None else [digest(self.triage.network)]

    def found(self, x: np.ndarray, first: int, stop: int) -> tuple[np.ndarray, ...]:
        """Rows, channels, heights and strengths of the peaks of whitened traces with first <= row < stop."""
        found = kernel("find_peaks", self.backend)(
            x, threshold=self.threshold, sign=self.sign, exclusion=self.exclusion, neighbors=self.neighbors,
            first=first, stop=stop,
        )  # fmt: skip
        rows, channels, heights = on_host(found)
        return rows, channels, heights, np.abs(heights)

    def block(self, traces: np.ndarray, start: int, stop: int, halo: int) -> dict[str, np.ndarray]:
        """Peaks of samples [start, stop).

        Parameters
        ----------
        traces : (n_rows, n_channels) noise standard deviations of samples from start - halo on
        """
        x, rows, channels, heights, clear = self._peaks(traces, halo, stop - start)
        inside = (rows >= halo) & (rows < halo + stop - start)
        if self.triage is not None:
            asked = np.flatnonzero(clear & inside)
            clear[asked] = self.triage.log_odds(x, rows[asked], channels[asked]) >= self.least_clean
        return {
            "sample_index": rows[inside].astype(np.int64) + (start - halo),
            "channel_index": channels[inside].astype(np.int32),
            "amplitude": heights[inside],
            "is_clear": clear[inside],
        }

    def clear_odds(self, traces: np.ndarray, halo: int, length: int) -> np.ndarray:
        """(n,) float32 log-odds of clear peaks to be single spikes; traces as for `block`, `length` rows and halos."""
        assert self.triage is not None
        x, rows, channels, _, clear = self._peaks(traces, halo, length)
        clear &= (rows >= halo) & (rows < halo + length)
        return self.triage.log_odds(x, rows[clear], channels[clear])

    def _peaks(self, traces: np.ndarray, halo: int, length: int) -> tuple[np.ndarray, ...]:
        """Whitened traces; rows, channels and heights of the peaks in them, and which stand clear."""
        x = self.noise.whiten(traces, self.backend)
        rows, channels, heights, _ = self.found(x, halo - self.clear, halo + length + self.clear)
        return x, rows, channels, heights, self._stands_clear(rows, channels, np.abs(heights))

    def _stands_clear(self, rows: np.ndarray, channels: np.ndarray, heights: np.ndarray) -> np.ndarray:
        """(n,) bool: no larger peak within `clear` samples on a neighbouring channel."""
        clear = np.ones(len(rows), bool)
        for earlier, later, close in close_pairs(rows, channels, self.clear, self.neighbors):
            clear[earlier] &= ~(close & (heights[later] > heights[earlier]))
            clear[later] &= ~(close & (heights[earlier] > heights[later]))
        return clear


@dataclass(frozen=True)
class NetworkFinder(Finder):
    """Finds the peaks of a block: extrema that a network takes for spikes."""

    scan: Scan

    @property
    def halo(self) -> int:
        """Samples before and after a block that it looks at."""
        return max(super().halo, self.clear + self.scan.halo)

    def weights(self) -> list[str]:
        """Digests of the networks that decide."""
        return [*super().weights(), digest(self.scan.judge.network)]

    def found(self, x: np.ndarray, first: int, stop: int) -> tuple[np.ndarray, ...]:
        """Rows, channels, heights and strengths of the peaks of whitened traces with first <= row < stop; the strengths
        are log-odds.
        """
        rows, channels, log_odds = self.scan.peaks(x, first, stop)
        return rows, channels, on_host(x)[rows, channels], log_odds
