"""Stage: raw traces -> clean traces (band-passed, referenced, standardized int16) and the noise in them.

Clean traces are plain int16 with one fixed scale, COUNTS_PER_SD counts per noise standard deviation of a channel.
Whitening happens inside the later kernels, so that templates and amplitudes stay in the recording's unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from dask import delayed
from pydantic import BaseModel, ConfigDict, Field

from yass_dask.backends import kernel
from yass_dask.chunked import Chunk, LazyParts, LazyTraces, blocks
from yass_dask.errors import InputError
from yass_dask.recording import Boundary, Recording

COUNTS_PER_SD = 64
"""Quantization adds 1/64/sqrt(12) sd of noise; the int16 range is +-512 sd."""
MAD_TO_SD = 1.4826
SETTLED = 1e-6
"""The filter's transient has decayed to this share at the halo's edge."""


class PreprocessParams(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    filter_low_hz: float | None = Field(300.0, gt=0)
    """Lower corner of the band-pass; None: no high-pass."""
    filter_high_hz: float | None = Field(6000.0, gt=0)
    """Upper corner, at most 0.45 of the sampling rate (taken where it is lower); None: no low-pass."""
    filter_order: int = Field(3, ge=1, le=8)
    """Order of the Butterworth filter; it runs forward and backward."""
    common_reference: Literal["auto", "on", "off"] = "auto"
    """Subtract the median over the good channels of a shank; `auto`: from 32 channels on the shank."""
    dead_ratio: float = Field(0.1, ge=0, lt=1)
    """A channel whose noise is below this share of the median channel's is dead: masked, never removed."""
    noisy_ratio: float = Field(8.0, gt=1)
    """A channel whose noise is above this multiple of the median channel's is noisy: masked, never removed."""
    n_sampled_blocks: int = Field(24, ge=1)
    """Scale and noise are measured on this many blocks, spread over the whole recording."""
    whitening_radius_um: float = Field(150.0, gt=0)
    """A channel is whitened with the channels within this distance (at most 24 of them)."""
    whitening_floor: float = Field(0.05, gt=0)
    """Share of the mean eigenvalue added to the noise covariance before it is inverted."""


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

    @property
    def unit_per_sd(self) -> np.ndarray:
        """(n_channels,) uV (raw counts where no gain is known) per noise standard deviation."""
        gain = self.recording.gain_to_uv
        return np.asarray(gain * COUNTS_PER_SD if gain is not None else self.scale.sd)

    def within(self, start: int, stop: int) -> Clean:
        """Itself: nothing else is needed."""
        return self

    def to_sd(self, traces: np.ndarray, start: int = 0) -> np.ndarray:
        """int16 counts to float32 noise standard deviations."""
        return traces.astype(np.float32) * np.float32(1 / COUNTS_PER_SD)


@dataclass(frozen=True)
class Noise:
    """Spatial whitening of the clean traces."""

    filters: np.ndarray
    """(n_channels, n_neighbors) float32"""
    channels: np.ndarray
    """(n_channels, n_neighbors) int32, padded with n_channels"""

    def whiten(self, traces: np.ndarray, backend: str) -> np.ndarray:
        """Whiten a block given in noise standard deviations."""
        return kernel("whiten", backend)(traces, filters=self.filters, channels=self.channels)

    def matrix(self) -> np.ndarray:
        """(n_channels, n_channels) float32: whitened = traces @ matrix."""
        n_channels = len(self.filters)
        matrix = np.zeros((n_channels + 1, n_channels), np.float32)
        np.add.at(matrix, (self.channels.T, np.arange(n_channels)), self.filters.T)
        return matrix[:n_channels]


# --- scale -----------------------------------------------------------------------------------------------------


def measure_scale(recording: Recording, params: PreprocessParams, backend: str) -> LazyParts:
    """Median and robust noise standard deviation per channel, over blocks sampled from the whole recording.

    Raises
    ------
    InputError
        When computed: if a channel holds NaN, or every channel is constant.
    """
    conditioner = _Conditioner.of(recording, params, backend, bad=np.array(recording.bad_channels, np.int64))
    parts = {
        chunk.name: delayed(_block_scale, name="scale", pure=False)(block, chunk.start, conditioner)
        for chunk, block in sampled_blocks(recording, params.n_sampled_blocks, conditioner.halo, "edge")
    }
    return LazyParts(parts, params, 1, lambda table: _join_scale(table, recording.bad_channels, params))


def sampled_blocks(recording: Recording, count: int, halo: int, boundary: Boundary) -> list[tuple[Chunk, Any]]:
    """(chunk of one block, delayed overlapped block), spread evenly over the recording, whatever its chunks."""
    single = recording.with_chunks(1)
    overlapped = single.overlapped(halo, boundary)
    picked = np.unique(np.linspace(0, single.n_blocks - 1, min(count, single.n_blocks)).round().astype(int))
    chunks = single.chunks
    return [(chunks[i], overlapped.blocks[int(i), 0].to_delayed()[0, 0]) for i in picked]


def _block_scale(block: np.ndarray, start: int, conditioner: _Conditioner) -> dict[str, np.ndarray]:
    """Median and MAD of the core of one block; an excluded or padded stretch does not count."""
    core = conditioner.condition(block, start)
    core = core[conditioner.usable(start, len(core))]
    if len(core) == 0:
        empty = np.zeros((0, block.shape[1]), np.float32)
        return {"median": empty, "mad": empty}
    median = np.median(core, axis=0)
    return {"median": median[None], "mad": np.median(np.abs(core - median), axis=0)[None]}


def _join_scale(table: Mapping[str, Any], bad_channels: tuple[int, ...], params: PreprocessParams) -> Scale:
    """Medians over the blocks; dead and noisy channels against the median channel."""
    medians, mads = np.asarray(table["median"][:]), np.asarray(table["mad"][:])
    if len(medians) == 0:
        raise InputError("every sampled stretch of the recording is excluded: nothing is left to sort")
    median, sd = np.median(medians, axis=0), MAD_TO_SD * np.median(mads, axis=0)
    bad = np.zeros(len(sd), bool)
    bad[list(bad_channels)] = True
    alive = sd[(sd > 0) & ~bad]
    if len(alive) == 0:
        raise InputError("every channel is constant or marked bad: there is nothing to sort in this recording")
    typical = np.median(alive)
    bad |= (sd < params.dead_ratio * typical) | (sd > params.noisy_ratio * typical)
    sd = np.where(sd > 0, sd, typical)
    return Scale(median.astype(np.float32), sd.astype(np.float32), bad)


# --- preprocess ------------------------------------------------------------------------------------------------


def preprocess(recording: Recording, scale: Scale, params: PreprocessParams, backend: str) -> LazyTraces:
    """Band-pass, reference, standardize: lazy int16 traces of the recording's shape.

    Bad channels and excluded periods become zeros.
    """
    import dask.array as da

    conditioner = _Conditioner.of(recording, params, backend, bad=np.flatnonzero(scale.bad))
    halo = conditioner.halo
    pieces = []
    overlapped = recording.overlapped(halo, "edge").to_delayed()[:, 0]
    for chunk, piece in zip(recording.chunks, overlapped, strict=True):
        cleaned = delayed(_clean_chunk, name="preprocess")(piece, chunk, scale, conditioner)
        pieces.append(da.from_delayed(cleaned, (chunk.stop - chunk.start, recording.n_channels), dtype=np.int16))

    def reopen(source: Any) -> Clean:
        gain = recording.gain_to_uv
        per_count = scale.sd / COUNTS_PER_SD * (1.0 if gain is None else gain)
        kept = None if gain is None else per_count
        return Clean(replace(recording, source=source, gain_to_uv=kept), scale)

    return LazyTraces(da.concatenate(pieces, axis=0), params, 1, reopen)


def _clean_chunk(overlapped: np.ndarray, chunk: Chunk, scale: Scale, conditioner: _Conditioner) -> np.ndarray:
    cleaned = np.empty((chunk.stop - chunk.start, overlapped.shape[1]), np.int16)
    factor = np.where(scale.bad, 0, COUNTS_PER_SD / scale.sd).astype(np.float32)
    limits = np.iinfo(np.int16)
    for block in blocks(overlapped, chunk, conditioner.halo):
        counts = (conditioner.condition(block.traces, block.start) - scale.median) * factor
        counts[~conditioner.usable(block.start, len(counts))] = 0
        np.clip(np.rint(counts, out=counts), limits.min, limits.max, out=counts)
        cleaned[block.start - chunk.start : block.stop - chunk.start] = counts[: block.stop - block.start]
    return cleaned


@dataclass(frozen=True)
class _Conditioner:
    """Filter and reference of one block; plain picklable values."""

    sos: np.ndarray | None
    halo: int
    groups: np.ndarray
    sample_shifts: np.ndarray | None
    bad: np.ndarray
    excluded: tuple[tuple[int, int], ...]
    n_samples: int
    backend: str

    @classmethod
    def of(cls, recording: Recording, params: PreprocessParams, backend: str, bad: np.ndarray) -> _Conditioner:
        sos = design(recording.sampling_rate, params)
        shifts = recording.probe.sample_shifts
        halo = (settling_samples(sos) if sos is not None else 0) + (SHIFT_REACH if shifts is not None else 0)
        return cls(
            sos, halo, reference_groups(recording, params, bad), shifts, bad, recording.excluded_samples,
            recording.n_samples, backend,
        )  # fmt: skip

    def condition(self, overlapped: np.ndarray, start: int) -> np.ndarray:
        """(core + 2 halo, n_channels) raw -> (core, n_channels) float32, filtered and referenced."""
        _refuse_nan(overlapped, start - self.halo, self.bad)
        x = overlapped if self.sample_shifts is None else undo_shifts(overlapped, self.sample_shifts)
        if self.sos is not None:
            x = kernel("bandpass", self.backend)(x, sos=self.sos)
        x = np.asarray(x[self.halo : len(x) - self.halo], np.float32)
        x[:, self.bad] = 0
        if (self.groups >= 0).any():
            x = kernel("common_reference", self.backend)(x, groups=self.groups)
        return x

    def usable(self, start: int, length: int) -> np.ndarray:
        """(length,) bool: samples of the recording that are neither excluded nor padding."""
        samples = np.arange(start, start + length)
        usable = samples < self.n_samples
        for first, stop in self.excluded:
            usable &= (samples < first) | (samples >= stop)
        return usable


def design(sampling_rate: float, params: PreprocessParams) -> np.ndarray | None:
    """Second-order sections of the filter, None where both corners are off.

    Raises
    ------
    InputError
        If the lower corner is not below the upper one, or not below half the sampling rate.
    """
    from scipy.signal import butter

    low, high = params.filter_low_hz, params.filter_high_hz
    if high is not None:
        high = min(high, 0.45 * sampling_rate)
    if low is not None and low >= (high if high is not None else 0.5 * sampling_rate):
        raise InputError(
            f"preprocess.filter_low_hz = {low:g} must be below the upper corner "
            f"({high if high is not None else 0.5 * sampling_rate:g} Hz at a sampling rate of {sampling_rate:g} Hz)"
        )
    corners, kind = {
        (True, True): ([low, high], "bandpass"),
        (True, False): (low, "highpass"),
        (False, True): (high, "lowpass"),
        (False, False): (None, ""),
    }[low is not None, high is not None]
    if corners is None:
        return None
    return butter(params.filter_order, corners, kind, fs=sampling_rate, output="sos")


def settling_samples(sos: np.ndarray) -> int:
    """Samples after which the filter's impulse response has decayed to SETTLED of its start (slowest pole)."""
    poles = np.concatenate([np.roots(section[3:]) for section in sos])
    return int(np.ceil(np.log(SETTLED) / np.log(np.abs(poles).max())))


def reference_groups(recording: Recording, params: PreprocessParams, bad: np.ndarray) -> np.ndarray:
    """(n_channels,) shank of each channel that takes part in the common reference, else -1."""
    groups = recording.probe.shanks.astype(np.int64).copy()
    _, groups = np.unique(groups, return_inverse=True)
    for group in np.unique(groups):
        few = np.count_nonzero(groups == group) < 32
        if params.common_reference == "off" or (params.common_reference == "auto" and few):
            groups[groups == group] = -1
    groups[bad] = -1
    return groups


SHIFT_REACH = 32


def undo_shifts(traces: np.ndarray, sample_shifts: np.ndarray) -> np.ndarray:
    """Move each channel later by the fraction of a sample by which its converter read it late.

    A Kaiser-windowed sinc of 2 * SHIFT_REACH + 1 taps; the first and last SHIFT_REACH rows are not valid.
    """
    first = traces[:1].astype(np.float32)
    x = traces.astype(np.float32) - first
    padded = np.pad(x, ((SHIFT_REACH, SHIFT_REACH), (0, 0)))
    result = np.zeros_like(x)
    offsets = np.arange(-SHIFT_REACH, SHIFT_REACH + 1)
    window = np.kaiser(len(offsets), 6.0)
    for m, weight in zip(offsets, window, strict=True):
        taps = (np.sinc(m + sample_shifts) * weight).astype(np.float32)
        result += padded[SHIFT_REACH + m : SHIFT_REACH + m + len(x)] * taps
    return result + first


def _refuse_nan(traces: np.ndarray, start: int, bad: np.ndarray) -> None:
    if traces.dtype.kind != "f" or np.isfinite(traces).all():
        return
    wrong = ~np.isfinite(traces)
    wrong[:, bad] = False
    if wrong.any():
        row, channel = np.argwhere(wrong)[0]
        raise InputError(
            f"channel {channel} holds NaN or infinity at sample {max(start + row, 0)}: list the channel in "
            "recordings.bad_channels or the period in recordings.excluded_periods_s"
        )


# --- noise -----------------------------------------------------------------------------------------------------

SPIKE_SD = 4.0
"""Samples beyond this, and their surroundings, are no noise."""
MAX_WHITENING_CHANNELS = 24


def measure_noise(clean: Clean, params: PreprocessParams, backend: str) -> LazyParts:
    """Local whitening filters from the covariance of the spike-free samples (ZCA on each channel's neighbourhood)."""
    recording = clean.recording
    around = recording.samples(1.0)
    parts = {
        chunk.name: delayed(_noise_sums, name="noise", pure=False)(block, around, clean)
        for chunk, block in sampled_blocks(recording, params.n_sampled_blocks, 0, "zero")
    }
    near = nearest_channels(
        recording.neighbors(params.whitening_radius_um), recording.probe.positions, MAX_WHITENING_CHANNELS
    )
    return LazyParts(parts, params, 1, lambda table: _whitening(table, near, clean.scale.bad, params.whitening_floor))


def _noise_sums(block: np.ndarray, around: int, clean: Clean) -> dict[str, np.ndarray]:
    """Sums of products over samples quiet on both channels, and the number of such samples."""
    from scipy.ndimage import maximum_filter1d

    x = clean.to_sd(block)
    loud = maximum_filter1d((np.abs(x) > SPIKE_SD).view(np.uint8), 2 * around + 1, axis=0, mode="nearest")
    quiet = ((loud == 0) & (x != 0).any(axis=1, keepdims=True)).astype(np.float32)
    x = x * quiet
    products, counts = x.T @ x, quiet.T @ quiet
    return {"products": products[None].astype(np.float64), "counts": counts[None].astype(np.float64)}


def _whitening(table: Mapping[str, Any], near: np.ndarray, bad: np.ndarray, floor: float) -> Noise:
    """Rows of the symmetric inverse root of each channel's local noise covariance."""
    products, counts = (np.asarray(table[name][:]).sum(axis=0) for name in ("products", "counts"))
    covariance = np.where(counts > 100, products / np.maximum(counts, 1), np.eye(len(products)))
    n_channels = len(covariance)
    filters = np.zeros(near.shape, np.float32)
    for c in range(n_channels):
        members = near[c][near[c] < n_channels]
        members = members[~bad[members]]
        if bad[c]:
            continue
        local = covariance[np.ix_(members, members)]
        values, vectors = np.linalg.eigh(local)
        root = np.sqrt(np.maximum(values, 0) + floor * values.mean())
        row = (vectors / root) @ vectors[members.tolist().index(c)]
        filters[c, np.isin(near[c], members)] = row
    return Noise(filters, near.astype(np.int32))


def nearest_channels(neighbors: np.ndarray, positions: np.ndarray, limit: int) -> np.ndarray:
    """(n_channels, <= limit) channels of each neighbourhood, nearest first (stable), padded with n_channels."""
    n_channels = len(positions)
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    distance = np.where(neighbors, distance, np.inf)
    order = np.argsort(distance, axis=1, kind="stable")
    width = min(limit, int(neighbors.sum(axis=1).max()))
    order = order[:, :width]
    return np.where(np.isfinite(np.take_along_axis(distance, order, axis=1)), order, n_channels)
