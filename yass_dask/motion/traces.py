"""Stage: clean traces -> traces as if the tissue had stood still, interpolated between the channels (kriging)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from yass_dask.backends import GPU, kernel, on_host
from yass_dask.chunked import Chunk, LazyTraces, Rows, blocks, chunk_tasks, joined_traces, read_ahead
from yass_dask.geometry import Probe
from yass_dask.motion.displacement import Motion
from yass_dask.motion.params import MotionParams
from yass_dask.preprocess import COUNTS_PER_SD, Clean
from yass_dask.recording import ComputedSource, Recording

N_NEAREST = 16
"""Channels that a place is interpolated from."""
MOST_SPACINGS = 1.2
STEPS_PER_BLOCK = 4
"""The displacement is constant over this share of a block."""
ROUNDED_UM = 0.5
"""... and rounded to this, so that the weights seldom change."""


def hold_still(clean: Clean, noise, motion: Motion, recording: Recording, params: MotionParams) -> LazyTraces:
    """Traces on the contacts' places in the tissue where it mostly was: int16 of the same scale; opens as Clean.

    Parameters
    ----------
    recording : the one that was sorted, whose chunks are as long as a task may write
    """
    stiller = Stiller(clean, motion, footprint_of(clean.recording.probe, params.footprint_um), noise)
    pieces = clean.recording.with_chunks(recording.chunk_blocks, recording.part_blocks)
    tasks = chunk_tasks("still", stiller.chunk, pieces, 0)

    def reopen(source: Any) -> Clean:
        return replace(clean, recording=replace(clean.recording, source=source))

    anew = ComputedSource(clean.recording, stiller.chunk, 0)
    return LazyTraces(joined_traces(tasks, pieces, np.int16), params, 1, reopen, unstored=anew)


def footprint_of(probe: Probe, most_um: float) -> float:
    """Extent of the field between the contacts: on dense probes less, or weights would grow and raise the noise."""
    apart = [positions_apart(probe.positions[probe.shanks == shank]) for shank in np.unique(probe.shanks)]
    return min(most_um, MOST_SPACINGS * float(np.median(np.concatenate(apart))))


def positions_apart(positions: np.ndarray) -> np.ndarray:
    """(n,) um from each contact to the nearest other one."""
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1)
    np.fill_diagonal(distance, np.inf)
    nearest: np.ndarray = distance.min(axis=1)
    return nearest


@dataclass(frozen=True)
class Stiller:
    """Reads where the channels' tissue was at each time."""

    clean: Clean
    motion: Motion
    footprint_um: float
    noise: object = None

    def chunk(self, overlapped: np.ndarray | Rows, chunk: Chunk) -> np.ndarray:
        """int16 traces of one chunk."""
        n_channels, backend = self.clean.recording.n_channels, self.clean.backend
        still = np.empty((chunk.stop - chunk.start, n_channels), np.int16)
        counts_of: dict[str, Any] = {"median": np.zeros(n_channels, np.float32), "bar": np.inf}
        counts_of["factor"] = np.full(n_channels, COUNTS_PER_SD, np.float32)
        step = -(-chunk.block_samples // STEPS_PER_BLOCK)
        moved, filters, channels = None, None, None
        for block in read_ahead(blocks(overlapped, chunk, 0), backend in GPU):
            traces = self.clean.to_sd(block.traces, block.start)
            core = still[block.start - chunk.start : block.stop - chunk.start]
            for first in range(0, len(core), step):
                now = self.displacement(block.start + first + step // 2)
                if moved is None or not np.array_equal(now, moved):
                    moved, (filters, channels) = now, self.weights(now)
                some = traces[first : first + step]
                there = kernel("whiten", backend)(some, filters=filters, channels=channels)
                counts, _ = on_host(kernel("quantize", backend)(there, **counts_of))
                core[first : first + step] = counts[: len(core) - first]
        return still

    def displacement(self, sample: int) -> np.ndarray:
        """(n_channels,) um at a sample, rounded."""
        recording = self.clean.recording
        depths = recording.probe.positions[:, 1]
        moved = self.motion.at(np.array([sample / recording.sampling_rate]), depths)[0]
        rounded: np.ndarray = ROUNDED_UM * np.rint(moved / ROUNDED_UM)
        return rounded

    def weights(self, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Filters (n_channels, n_near) float32 and channels (n_channels, n_near), as the whitening in space has them.

        Kriging: what a Gaussian field of the footprint's extent is most likely to be between the contacts.
        """
        probe, bad = self.clean.recording.probe, self.clean.scale.bad
        positions, shanks = probe.positions, probe.shanks
        places = positions + np.stack([np.zeros_like(moved), moved], axis=1)
        distance = np.linalg.norm(places[:, None] - positions, axis=-1)
        distance[(shanks[:, None] != shanks) | bad] = np.inf
        near = np.argsort(distance, axis=1, kind="stable")[:, :N_NEAREST]
        usable = np.isfinite(np.take_along_axis(distance, near, axis=1)) & ~bad[:, None]
        between = np.linalg.norm(positions[near][:, :, None] - positions[near][:, None], axis=-1)
        alike = self._alike(between) * (usable[:, :, None] & usable[:, None])
        alike[:, np.arange(near.shape[1]), np.arange(near.shape[1])] = 1
        toward = self._alike(np.take_along_axis(distance, near, axis=1)) * usable
        solved = np.linalg.solve(alike, toward[:, :, None])[:, :, 0]
        scale = self.clean.unit_per_sd
        solved *= scale[near] / scale[:, None]
        return self._as_loud(solved, np.where(usable, near, len(positions)).astype(np.int32))

    def _as_loud(self, solved: np.ndarray, channels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = len(solved)
        dense = np.zeros((n, n + 1))
        np.put_along_axis(dense, channels.astype(np.int64), solved, axis=1)
        white = self.noise.sparse_matrix().toarray().T[:n, :n].astype(float)
        back = np.linalg.pinv(white)
        left, values, right = np.linalg.svd(white @ dense[:, :n] @ back)
        import os

        eps = float(os.environ.get("EPS", "0.2"))
        values = values / np.sqrt(values**2 + eps**2)
        loud = back @ (left * values) @ right @ white
        keep = int(os.environ.get("KEEP", "24"))
        order = np.sort(np.argsort(-np.abs(loud), axis=1, kind="stable")[:, :keep], axis=1)
        return np.take_along_axis(loud, order, axis=1).astype(np.float32), order.astype(np.int32)

    def _alike(self, distance: np.ndarray) -> np.ndarray:
        alike: np.ndarray = np.exp(-((distance / self.footprint_um) ** 2))
        return alike
