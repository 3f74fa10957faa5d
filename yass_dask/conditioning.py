"""One block of raw traces, filtered and referenced: what scale and preprocess share, and their params."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from yass_dask.backends import kernel
from yass_dask.butterworth import butterworth
from yass_dask.errors import InputError
from yass_dask.recording import Recording

SETTLED = 1e-6
"""The filter's transient has decayed to this share at the halo's edge."""
SHIFT_REACH = 32
"""A shift by a fraction of a sample looks at this many samples on both sides."""
SHANK_CHANNELS = 32
"""From so many channels on a shank has a common reference of its own accord."""


class PreprocessParams(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    filter_low_hz: float | None = Field(300.0, gt=0)
    """Lower corner of the band-pass; None: no high-pass."""
    filter_high_hz: float | None = Field(6000.0, gt=0)
    """Upper corner, at most 0.45 of the sampling rate (taken where it is lower); None: no low-pass."""
    filter_order: int = Field(3, ge=1, le=8)
    """Order of the Butterworth filter; it runs forward and backward."""
    common_reference: Literal["auto", "on", "off"] = "off"
    """Subtract the median over the good channels of a shank; `auto`: from 32 channels on the shank. Off by default: the
    median takes away units that are wide for the probe, and whitening removes common noise better."""
    artifact_sd: float | None = Field(8.0, gt=0)
    """Where more than three quarters of the good channels (at least 24) are beyond this at once, no neuron is
    recorded: blanked. None: never."""
    artifact_ms: float = Field(6.0, ge=0)
    """... so long before and after."""
    dead_ratio: float = Field(0.1, ge=0, lt=1)
    """A channel whose noise is below this share of the median channel's is dead: masked, never removed."""
    noisy_ratio: float = Field(8.0, gt=1)
    """A channel whose noise is above this multiple of the median channel's is noisy: masked, never removed."""
    n_sampled_blocks: int = Field(24, ge=1)
    """Scale and noise are measured on this many blocks, spread over the whole recording."""
    whitening_radius_um: float = Field(150.0, gt=0)
    """A channel is whitened with the channels within this distance (at most 24 of them)."""
    whitening_floor: float = Field(0.01, gt=0)
    """Share of the mean eigenvalue added to the noise covariance before it is inverted."""


@dataclass(frozen=True)
class Conditioner:
    """Filter and reference of one block; plain picklable values."""

    sos: np.ndarray | None
    settling: int
    margin: int
    """Samples more that `condition` gives on both sides, to look for artifacts in"""
    groups: np.ndarray
    sample_shifts: np.ndarray | None
    bad: np.ndarray
    excluded: tuple[tuple[int, int], ...]
    n_samples: int
    backend: str

    @classmethod
    def of(cls, recording: Recording, params: PreprocessParams, backend: str, bad: np.ndarray) -> Conditioner:
        sos = design(recording.sampling_rate, params)
        shifts = recording.probe.sample_shifts
        settling = (settling_samples(sos) if sos is not None else 0) + (SHIFT_REACH if shifts is not None else 0)
        margin = recording.samples(params.artifact_ms) if params.artifact_sd is not None else 0
        return cls(
            sos, settling, margin, reference_groups(recording, params, bad), shifts, bad, recording.excluded_samples,
            recording.n_samples, backend,
        )  # fmt: skip

    @property
    def halo(self) -> int:
        return self.settling + self.margin

    def condition(self, overlapped: np.ndarray, start: int) -> np.ndarray:
        """(core + 2 halo, n_channels) raw -> (core + 2 margin, n_channels) float32, filtered and referenced; on the
        device where the backend has one. What is on bad channels means nothing.
        """
        x = self._finite(overlapped, start - self.halo)
        if self.sample_shifts is not None:
            x = undo_shifts(x, self.sample_shifts)
        x = x.astype(np.float32) if self.sos is None else kernel("bandpass", self.backend)(x, sos=self.sos)
        x = x[self.settling : len(x) - self.settling]
        if (self.groups >= 0).any():
            x = kernel("common_reference", self.backend)(x, groups=self.groups)
        return x

    def _finite(self, traces: np.ndarray, start: int) -> np.ndarray:
        if traces.dtype.kind != "f" or np.isfinite(traces).all():
            return traces
        allowed = np.tile(~self.usable(start, len(traces))[:, None], traces.shape[1])
        allowed[:, self.bad] = True
        return filled(traces, start, allowed)

    def without(self, channels: np.ndarray) -> Conditioner:
        """The same with more bad channels."""
        groups = self.groups.copy()
        groups[channels] = -1
        return replace(self, bad=np.union1d(self.bad, channels).astype(np.int64), groups=groups)

    def usable(self, start: int, length: int) -> np.ndarray:
        """(length,) bool: samples of the recording that are neither excluded nor padding."""
        samples = np.arange(start, start + length)
        usable = (samples >= 0) & (samples < self.n_samples)
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
    low, high = params.filter_low_hz, params.filter_high_hz
    if high is not None:
        high = min(high, 0.45 * sampling_rate)
    if low is not None and low >= (high if high is not None else 0.5 * sampling_rate):
        raise InputError(
            f"preprocess.filter_low_hz = {low:g} must be below the upper corner "
            f"({high if high is not None else 0.5 * sampling_rate:g} Hz at a sampling rate of {sampling_rate:g} Hz)"
        )
    return None if low is None and high is None else butterworth(params.filter_order, low, high, sampling_rate)


def settling_samples(sos: np.ndarray) -> int:
    """Samples after which the filter's impulse response has decayed to SETTLED of its start (slowest pole)."""
    poles = np.concatenate([np.roots(section[3:]) for section in sos])
    return int(np.ceil(np.log(SETTLED) / np.log(np.abs(poles).max())))


def reference_groups(recording: Recording, params: PreprocessParams, bad: np.ndarray) -> np.ndarray:
    """(n_channels,) shank of each channel that takes part in the common reference, else -1."""
    groups = recording.probe.shanks.astype(np.int64).copy()
    _, groups = np.unique(groups, return_inverse=True)
    for group in np.unique(groups):
        few = np.count_nonzero(groups == group) < SHANK_CHANNELS
        if params.common_reference == "off" or (params.common_reference == "auto" and few):
            groups[groups == group] = -1
    groups[bad] = -1
    return groups


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


def filled(traces: np.ndarray, start: int, allowed: np.ndarray) -> np.ndarray:
    """Traces with NaN and infinity, where these are allowed, replaced by what lies around them on the channel.

    Parameters
    ----------
    start : sample of the first row, for the message
    allowed : (n_rows, n_channels) bool, bad channels and excluded periods

    Raises
    ------
    InputError
        NaN or infinity elsewhere.
    """
    wrong = ~np.isfinite(traces)
    if (wrong & ~allowed).any():
        row, channel = np.argwhere(wrong & ~allowed)[0]
        raise InputError(
            f"channel {channel} holds NaN or infinity at sample {max(start + row, 0)}: list the channel in "
            "recordings.bad_channels or the period in recordings.excluded_periods_s, or correct recordings.dtype"
        )
    result, rows = traces.copy(), np.arange(len(traces))
    for channel in np.flatnonzero(wrong.any(axis=0)):
        gap = wrong[:, channel]
        result[gap, channel] = 0 if gap.all() else np.interp(rows[gap], rows[~gap], traces[~gap, channel])
    return result
