"""Stages: the temporal basis of spike waveforms, and the features of clear peaks on their local channels.

Features are noise-whitened: a coordinate of pure noise has unit variance, so that distances mean the same on every
channel of every recording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask import delayed
from pydantic import BaseModel, ConfigDict, Field
from scipy.fft import next_fast_len
from scipy.ndimage import maximum_filter1d

from yass_dask import subsample
from yass_dask.backends import kernel, on_host
from yass_dask.chunked import Chunk, LazyParts, Rows, blocks, chunk_tasks
from yass_dask.events import Events, evenly
from yass_dask.geometry import nearest_channels
from yass_dask.noise import Noise, some_alive
from yass_dask.preprocess import StandardTraces, sampled_blocks
from yass_dask.projector import Basis, Projector, tops


class FeatureParams(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    before_ms: float = Field(0.5, gt=0)
    """Start of the waveform that features describe, before the peak."""
    after_ms: float = Field(1.0, gt=0)
    """Its end, after the peak."""
    n_components: int = Field(5, ge=1, le=20)
    """Principal components per channel."""
    radius_um: float = Field(100.0, gt=0)
    """Features are taken on the channels within this distance of the peak's."""
    max_channels: int = Field(12, ge=1)
    """... and on at most so many of them."""
    max_peaks: int = Field(8000, ge=100)
    """Clear peaks kept per channel, spread evenly over the recording; pursuit finds the others again."""


SLAB_ROWS = 65_536
N_SAMPLED_BLOCKS = 24
MAD_TO_SD = 1.4826
QUIET_MS, QUIET_SD = 1.0, 4.0
"""Noise is what lies at least this time away from samples beyond so many standard deviations."""


# --- which peaks ---


def choose_peaks(peaks: Events, params: FeatureParams) -> LazyParts:
    """Clear peaks, at most `max_peaks` of each channel, spread evenly over the recording."""
    return LazyParts.one("chosen", _choose, peaks, params.max_peaks, params=params, version=1, open=Events)


def _choose(peaks: Events, limit: int) -> dict[str, np.ndarray]:
    fields = peaks.load()
    clear = {name: fields[name][fields["is_clear"]] for name in ("sample_index", "channel_index")}
    kept = evenly(clear["channel_index"], limit)
    return {name: values[kept] for name, values in clear.items()}


# --- basis ---


def measure_basis(clean: StandardTraces, noise: Noise, peaks: Events, params: FeatureParams, backend: str) -> LazyParts:
    """Principal components of clear peaks' waveforms on their main channel, by a robust covariance.

    Each waveform is scaled to unit norm first (the spatial sign covariance), so that neither artifacts nor the
    largest neuron choose the basis. The components are then whitened by the temporal covariance of the noise.
    """
    cutter = Cutter.of(clean, noise, params, backend)
    around = clean.recording.samples(QUIET_MS)
    sampled = sampled_blocks(clean.recording, N_SAMPLED_BLOCKS, cutter.halo, "zero")
    parts = {
        chunk.name: delayed(cutter.basis_sums, name="basis", pure=False)(block, chunk, peaks, around)
        for chunk, block in sampled
    }
    n_components = params.n_components
    return LazyParts(parts, params, 2, lambda table: _basis(table, cutter.before, n_components), reads_traces=True)


def _basis(table: Mapping[str, Any], before: int, n_components: int) -> Basis:
    waveform, products, count = (np.asarray(table[name][:]).sum(axis=0) for name in ("waveform", "products", "count"))
    _, vectors = np.linalg.eigh(waveform)
    components = vectors[:, ::-1][:, : min(n_components, len(vectors))]
    autocovariance = products / np.maximum(count, 1)
    if autocovariance[0] <= 0:
        autocovariance = np.eye(1, len(autocovariance))[0]
    lags = np.abs(np.subtract.outer(np.arange(len(waveform)), np.arange(len(waveform))))
    noise = components.T @ autocovariance[lags] @ components
    # Lags over few quiet samples need not fit together: what came out negative is taken for little noise.
    values, axes = np.linalg.eigh(noise)
    values = np.maximum(values, 0)
    noise = (axes * (values + 1e-3 * values.mean())) @ axes.T
    whitened = np.linalg.solve(np.linalg.cholesky(noise), components.T).T
    return Basis(whitened.astype(np.float32), before)


# --- features ---


@dataclass(frozen=True)
class Features:
    """Features of clear peaks; fields sample_index, channel_index, shift, features (n, n_local, n_components)."""

    table: Mapping[str, Any]
    channels: np.ndarray
    """(n_channels, n_local) int32: channels that the features of a peak on a channel are taken on."""
    max_peaks: int
    """So many of a channel are used, spread evenly over the recording."""

    def of_channels(self, channels: np.ndarray) -> dict[str, np.ndarray]:
        """Rows of the peaks whose main channel is among `channels`; the table is read a slab at a time."""
        main = np.asarray(self.table["channel_index"][:])
        wanted = np.isin(main, channels) & evenly(main, self.max_peaks)
        rows: dict[str, list[np.ndarray]] = {name: [] for name in self.table}
        for start in range(0, max(len(main), 1), SLAB_ROWS):
            picked = wanted[start : start + SLAB_ROWS]
            for name, pieces in rows.items():
                pieces.append(np.asarray(self.table[name][start : start + SLAB_ROWS])[picked])
        return {name: np.concatenate(pieces) for name, pieces in rows.items()}


def measure_features(
    clean: StandardTraces, noise: Noise, chosen: Events, basis: Basis, params: FeatureParams, backend: str
) -> LazyParts:
    """Features of clear peaks, aligned to a fraction of a sample on the main channel."""
    cutter = Cutter.of(clean, noise, params, backend)
    parts = chunk_tasks("features", cutter.chunk, clean.recording, cutter.halo, chosen, basis)
    most = params.max_peaks
    return LazyParts(parts, params, 2, lambda table: Features(table, cutter.channels, most), reads_traces=True)


@dataclass(frozen=True)
class Cutter:
    """Features, and aligned waveforms, of the events in a block."""

    clean: StandardTraces
    noise: Noise
    before: int
    n_samples: int
    channels: np.ndarray
    """(n_channels, n_local) int32: channels that the features of a peak on a channel are taken on."""
    backend: str

    @classmethod
    def of(cls, clean: StandardTraces, noise: Noise, params: FeatureParams, backend: str) -> Cutter:
        recording = clean.recording
        before, after = recording.samples(params.before_ms), recording.samples(params.after_ms)
        near = nearest_channels(recording.neighbors(params.radius_um), recording.probe.positions, params.max_channels)
        return cls(clean, noise, before, before + after + 1, near.astype(np.int32), backend)

    @property
    def halo(self) -> int:
        return self.n_samples + subsample.REACH + 1 + self.noise.reach

    def projector(self, basis: Basis) -> Projector:
        """What `features` projects by."""
        return Projector.of(self.noise, basis, self.channels, self.backend)

    def features(
        self, x: np.ndarray, samples: np.ndarray, origin: int, main: np.ndarray, projector: Projector
    ) -> dict[str, np.ndarray]:
        """Peaks and their features, from noise standard deviations of samples from `origin` on."""
        rows = (samples - origin).astype(np.int32)
        shift = tops(x, self.noise, rows, main, self.backend)
        features = projector.features(x, rows, main, shift)
        return {"sample_index": samples, "channel_index": main, "shift": shift, "features": features}

    def chunk(self, overlapped: np.ndarray | Rows, chunk: Chunk, peaks: Events, basis: Basis) -> dict[str, np.ndarray]:
        """Features of the peaks of one chunk."""
        mine = peaks.within(chunk.start, chunk.stop)
        projector = self.projector(basis)
        some = self._blocks(overlapped, chunk, mine, empty=False)
        return self.joined(
            [self.features(x, samples, origin, main, projector) for x, samples, origin, main in some], basis
        )

    def joined(self, found: Sequence[Mapping[str, np.ndarray]], basis: Basis) -> dict[str, np.ndarray]:
        """Peaks of several blocks as one table."""
        empty = {
            "sample_index": np.zeros(0, np.int64),
            "channel_index": np.zeros(0, np.int32),
            "shift": np.zeros(0, np.int32),
            "features": np.zeros((0, self.channels.shape[1], basis.project.shape[1]), np.float32),
        }
        return {name: np.concatenate([none, *(f[name] for f in found)]) for name, none in empty.items()}

    def basis_sums(
        self, overlapped: np.ndarray | Rows, chunk: Chunk, peaks: Events, around: int
    ) -> dict[str, np.ndarray]:
        """Sums over a sampled block: products of unit-norm waveforms; lagged products of noise, and their number."""
        mine = peaks.within(chunk.start, chunk.stop)
        mine = {name: mine[name][mine["is_clear"]] for name in ("sample_index", "channel_index")}
        waveform = np.zeros((self.n_samples, self.n_samples))
        lagged = np.zeros((2, self.n_samples))
        for traces, samples, origin, main in self._blocks(overlapped, chunk, mine, empty=True):
            rows = (samples - origin).astype(np.int32)
            x = on_host(self.noise.whiten(traces, self.backend))
            cut = self._cut(x, rows, main[:, None], tops(traces, self.noise, rows, main, self.backend))[:, :, 0].astype(
                np.float64
            )
            cut /= np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-9)
            waveform += cut.T @ cut
            lagged += quiet_products(x, self.n_samples, around)
        return {"waveform": waveform[None], "products": lagged[:1], "count": lagged[1:]}

    def _blocks(self, overlapped: np.ndarray | Rows, chunk: Chunk, events: dict, *, empty: bool) -> Any:
        """Yield (block in noise standard deviations, samples of its events, its first sample, channels of the events);
        `empty`: of blocks without any, too.
        """
        traces = self.clean.within(chunk.start - self.halo, chunk.stop + self.halo)
        for block in blocks(overlapped, chunk, self.halo):
            low, high = np.searchsorted(events["sample_index"], [block.start, block.stop])
            if low == high and not empty:
                continue
            origin = block.start - self.halo
            x = traces.to_sd(block.traces, origin)
            yield x, events["sample_index"][low:high], origin, events["channel_index"][low:high]

    def _cut(self, x: np.ndarray, rows: np.ndarray, channels: np.ndarray, shift: np.ndarray) -> np.ndarray:
        return kernel("snippets", self.backend)(
            x, rows=rows, channels=channels, before=self.before, n_samples=self.n_samples,
            shifts=subsample.opposite(shift), filters=subsample.shift_filters(),
        )  # fmt: skip


def quiet_products(x: np.ndarray, n_lags: int, around: int) -> np.ndarray:
    """(2, n_lags): sums of x[t] x[t + lag] over pairs of quiet samples of some channels, and the number of pairs.

    Parameters
    ----------
    x : (n_samples, n_channels)
    around : a sample is quiet if none within so many of it is beyond QUIET_SD robust standard deviations
    """
    n = next_fast_len(len(x) + n_lags, real=True)
    power = np.zeros((2, n // 2 + 1))
    for channel in some_alive(x):  # one at a time, for memory
        size = np.abs(x[:, channel])
        loud = size > QUIET_SD * MAD_TO_SD * np.median(size)
        quiet = ~maximum_filter1d(loud, 2 * around + 1, mode="nearest")
        for row, values in enumerate((x[:, channel] * quiet, quiet)):
            spectrum = np.fft.rfft(values, n=n)
            power[row] += spectrum.real**2 + spectrum.imag**2
    return np.fft.irfft(power, n=n, axis=1)[:, :n_lags]
