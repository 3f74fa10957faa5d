"""Stage: raw traces -> clean traces (band-passed, referenced, standardized int16) and the noise in them.

Clean traces are plain int16 with one fixed scale, COUNTS_PER_SD counts per noise standard deviation of a channel.
Whitening happens inside the later kernels, so that templates and amplitudes stay in the recording's unit.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from dask import delayed

from yass_dask.backends import GPU, kernel, on_host
from yass_dask.chunked import Chunk, LazyParts, LazyTraces, Rows, Stride, blocks, chunk_tasks, joined_traces, read_ahead
from yass_dask.conditioning import Conditioner, PreprocessParams
from yass_dask.errors import InputError
from yass_dask.recording import Boundary, ComputedSource, Recording

COUNTS_PER_SD = 64
"""Quantization adds 1/64/sqrt(12) sd of noise; the int16 range is +-512 sd."""
MAD_TO_SD = 1.4826
FLAT = 1e-4
"""A block in which a channel has less noise than this share of its loudest block's says nothing about its scale."""
ENOUGH_ROWS = 100_000
"""Of all sampled blocks together: from so many, deviations and covariances of noise come out to half a percent."""

ARTIFACT_SHARE, MIN_ARTIFACT_CHANNELS = 0.75, 24

_log = logging.getLogger("yass_dask")


@dataclass(frozen=True)
class Scale:
    """Median and noise standard deviation of each channel after filter and reference, and which channels are bad."""

    median: np.ndarray
    sd: np.ndarray
    bad: np.ndarray


class StandardTraces(Protocol):
    """Clean traces or what is left of them: what detection, features and templates read."""

    @property
    def recording(self) -> Recording:
        """int16 traces and their grid of blocks."""

    def within(self, start: int, stop: int) -> StandardTraces:
        """The same, with everything at hand that `to_sd` needs for samples [start, stop)."""

    def to_sd(self, traces: np.ndarray, start: int) -> np.ndarray:
        """(n, n_channels) int16 of samples from `start` on -> float32 noise standard deviations."""


@dataclass(frozen=True)
class Clean:
    """Clean traces on disk and what turns them back into the recording's unit."""

    recording: Recording
    scale: Scale
    backend: str = "numba"

    @property
    def unit_per_sd(self) -> np.ndarray:
        """(n_channels,) uV (raw counts where no gain is known) per noise standard deviation."""
        gain = self.recording.gain_to_uv
        return np.asarray(gain * COUNTS_PER_SD if gain is not None else self.scale.sd)

    def strided(self, stride: Stride) -> Clean:
        """The same, of which stages look at some blocks only."""
        return replace(self, recording=self.recording.strided(stride))

    def within(self, start: int, stop: int) -> Clean:
        """Itself: nothing else is needed."""
        return self

    def to_sd(self, traces: np.ndarray, start: int = 0) -> np.ndarray:
        """int16 counts to float32 noise standard deviations."""
        scaled: np.ndarray = kernel("scale", self.backend)(traces, factor=1 / COUNTS_PER_SD)
        return scaled


# --- scale ---


def measure_scale(recording: Recording, params: PreprocessParams, backend: str) -> LazyParts:
    """Median and robust noise standard deviation per channel, over blocks sampled from the whole recording.

    Raises
    ------
    InputError
        When computed: if a channel holds NaN, or every channel is constant.
    """
    conditioner = Conditioner.of(recording, params, backend, bad=np.array(recording.bad_channels, np.int64))
    thin = thinning(recording, params.n_sampled_blocks)
    parts = {
        chunk.name: delayed(_block_scale, name="scale", pure=False)(block, chunk.start, conditioner, thin)
        for chunk, block in sampled_blocks(recording, params.n_sampled_blocks, conditioner.halo, "edge")
    }
    bad = recording.bad_channels
    return LazyParts(parts, params, 4, lambda table: _join_scale(table, bad, params), reads_traces=True)


def sampled_blocks(recording: Recording, count: int, halo: int, boundary: Boundary) -> list[tuple[Chunk, Any]]:
    """(chunk of one block, delayed overlapped block), spread evenly over the recording, whatever its chunks."""
    picked = np.unique(np.linspace(0, recording.n_blocks - 1, min(count, recording.n_blocks)).round().astype(int))
    wanted = set(picked.tolist())
    pieces = recording.with_chunks(1).pieces(halo, boundary)
    return [(chunk, _read(piece, chunk, halo)) for chunk, piece in pieces if chunk.first_block in wanted]


@delayed(pure=False)
def _read(piece: Any, chunk: Chunk, halo: int) -> np.ndarray:
    """The only block of a chunk."""
    return next(blocks(piece, chunk, halo)).traces


def _block_scale(block: np.ndarray, start: int, conditioner: Conditioner, thin: int) -> dict[str, np.ndarray]:
    """Median and MAD of the core of one block; an excluded or padded stretch does not count.

    A channel that holds no number at all is flat here.
    """
    if block.dtype.kind == "f":
        conditioner = conditioner.without(np.flatnonzero(~np.isfinite(block).any(axis=0)))
    core = on_host(conditioner.condition(block, start))
    core = core[conditioner.margin : len(core) - conditioner.margin]
    core = core[conditioner.usable(start, len(core))]
    core[:, conditioner.bad] = 0
    if len(core) == 0:
        empty = np.zeros((0, block.shape[1]), np.float32)
        return {"median": empty, "mad": empty}
    by_channel = np.ascontiguousarray(core[::thin].T)
    median = _middle(by_channel)
    np.abs(by_channel - median[:, None], out=by_channel)
    return {"median": median[None], "mad": _middle(by_channel)[None]}


def _middle(rows: np.ndarray) -> np.ndarray:
    """Median of each row, which is reordered; NumPy's own takes twice the time."""
    middle = rows.shape[1] // 2
    rows.partition(middle, axis=1)
    upper = rows[:, middle].copy()
    return upper if rows.shape[1] % 2 else 0.5 * (upper + rows[:, :middle].max(axis=1))


def thinning(recording: Recording, n_blocks: int) -> int:
    """Which rows statistics over so many sampled blocks need: all, or every second, third ..."""
    return max(1, min(n_blocks, recording.n_blocks) * recording.block_samples // ENOUGH_ROWS)


def _join_scale(table: Mapping[str, Any], bad_channels: tuple[int, ...], params: PreprocessParams) -> Scale:
    """Medians over the blocks in which a channel is not flat; dead and noisy channels against the median channel."""
    medians, mads = np.asarray(table["median"][:]), np.asarray(table["mad"][:])
    if len(medians) == 0:
        raise InputError("every sampled stretch of the recording is excluded: nothing is left to sort")
    # Where an amplifier was off there is nothing but the tail of the filter.
    flat = mads <= FLAT * mads.max(axis=0)
    median, sd = _median_of(medians, ~flat), MAD_TO_SD * _median_of(mads, ~flat)
    bad = np.zeros(len(sd), bool)
    bad[list(bad_channels)] = True
    alive = sd[(sd > 0) & ~bad]
    if len(alive) == 0:
        raise InputError("every channel is constant or marked bad: there is nothing to sort in this recording")
    typical = np.median(alive)
    dead, noisy = sd < params.dead_ratio * typical, sd > params.noisy_ratio * typical
    _warn_of(dead & ~bad, "dead: flat, or nearly so beside the others")
    _warn_of(noisy & ~bad, "noisy: far louder than the others")
    bad |= dead | noisy
    sd = np.where(sd > 0, sd, typical)
    return Scale(median.astype(np.float32), sd.astype(np.float32), bad)


def _median_of(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Median along the first axis of the values that count; 0 where none does."""
    columns = zip(values.T, counted.T, strict=True)
    return np.array([np.median(column[kept]) if kept.any() else 0.0 for column, kept in columns])


def _warn_of(channels: np.ndarray, why: str) -> None:
    for channel in np.flatnonzero(channels):
        _log.warning("channel %d is masked, it is %s", channel, why)


# --- preprocess ---


def preprocess(recording: Recording, scale: Scale, params: PreprocessParams, backend: str) -> LazyTraces:
    """Band-pass, reference, standardize: lazy int16 traces of the recording's shape.

    Bad channels and excluded periods become zeros.
    """
    conditioner = Conditioner.of(recording, params, backend, bad=np.flatnonzero(scale.bad))
    inputs = scale, conditioner, params.artifact_sd
    tasks = chunk_tasks("preprocess", _clean_chunk, recording, conditioner.halo, *inputs, boundary="edge")
    anew = ComputedSource(recording, _clean_chunk, conditioner.halo, inputs, "edge")

    def reopen(source: Any) -> Clean:
        gain = recording.gain_to_uv
        per_count = scale.sd / COUNTS_PER_SD * (1.0 if gain is None else gain)
        kept = None if gain is None else per_count
        blocks = recording.part_blocks or recording.chunk_blocks
        return Clean(replace(recording, source=source, gain_to_uv=kept, chunk_blocks=blocks), scale, backend)

    return LazyTraces(joined_traces(tasks, recording, np.int16), params, 2, reopen, unstored=anew)


def _clean_chunk(
    overlapped: np.ndarray | Rows, chunk: Chunk, scale: Scale, conditioner: Conditioner, artifact_sd: float | None
) -> np.ndarray:
    cleaned = np.empty((chunk.stop - chunk.start, len(scale.sd)), np.int16)
    factor = np.where(scale.bad, 0, COUNTS_PER_SD / scale.sd).astype(np.float32)
    n_good, bar = int(np.count_nonzero(~scale.bad)), np.inf if artifact_sd is None else artifact_sd * COUNTS_PER_SD
    for block in read_ahead(blocks(overlapped, chunk, conditioner.halo), conditioner.backend in GPU):
        traces = conditioner.condition(block.traces, block.start)
        quantized = kernel("quantize", conditioner.backend)(traces, median=scale.median, factor=factor, bar=bar)
        counts, n_loud = on_host(quantized)
        blank = artifacts(n_loud, n_good, conditioner.margin)
        counts = counts[conditioner.margin : len(counts) - conditioner.margin]
        core = cleaned[block.start - chunk.start : block.stop - chunk.start]
        core[:] = counts[: len(core)]
        core[(blank | ~conditioner.usable(block.start, len(counts)))[: len(core)]] = 0
    return cleaned


def artifacts(n_loud: np.ndarray, n_good: int, margin: int) -> np.ndarray:
    """(n_samples - 2 margin,) bool: within `margin` of a sample at which most channels are loud at once.

    A shock, a light or a lick reaches all channels; the largest neuron does not reach so many. On fewer than
    MIN_ARTIFACT_CHANNELS channels it may, and nothing is called an artifact.

    Parameters
    ----------
    n_loud : (n_samples,) number of loud channels, of `margin` samples more on both sides than are asked for
    n_good : number of good channels
    """
    if n_good < MIN_ARTIFACT_CHANNELS:
        return np.zeros(len(n_loud) - 2 * margin, bool)
    so_far = np.concatenate([[0], np.cumsum(n_loud > ARTIFACT_SHARE * n_good)])
    blank: np.ndarray = so_far[2 * margin + 1 :] > so_far[: len(n_loud) - 2 * margin]
    return blank
