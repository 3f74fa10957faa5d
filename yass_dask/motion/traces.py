"""Stage: clean traces -> traces as if the tissue had stood still, interpolated between the channels.

Kriging gives what a field is most likely to be between the contacts, and less noise there than at them: whoever looks
for spikes in such traces finds noise wherever they are loud. So what interpolation takes from the noise is put back: in
whitened coordinates, the kriging's singular values s become s / sqrt(s^2 + LEAST_SHARE^2): nearly a rotation, which
leaves white noise white. What cannot be told at all stays small. All is a little smaller than it was (0.89 times where
the tissue did not move), so that noise is nowhere louder than its whitening expects; the scale makes up for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from yass_dask.backends import GPU, kernel, on_host
from yass_dask.chunked import Chunk, LazyTraces, Rows, blocks, chunk_tasks, joined_traces, read_ahead
from yass_dask.geometry import Probe
from yass_dask.motion.displacement import Motion
from yass_dask.motion.params import MotionParams
from yass_dask.noise import Noise
from yass_dask.preprocess import COUNTS_PER_SD, Clean
from yass_dask.recording import ComputedSource, Recording

N_NEAREST, N_WEIGHTS = 16, 24
"""Channels that a place is interpolated from, and those that have a weight once the noise is evened."""
LEAST_SHARE = 0.5
"""What interpolation leaves less of than this is raised by no more than one over it."""
MOST_TOGETHER, AROUND = 96, 16
"""Of more channels on a shank than so many, some at a time are evened, with so many above and below."""
MOST_SPACINGS = 1.2
STEPS_PER_BLOCK = 4
"""The displacement is constant over this share of a block."""
ROUNDED_UM = 0.5
"""... and rounded to this, so that the weights seldom change."""


def hold_still(clean: Clean, noise: Noise, motion: Motion, recording: Recording, params: MotionParams) -> LazyTraces:
    """Traces on the contacts' places in the tissue where it mostly was: int16 of the same scale; opens as Clean.

    Parameters
    ----------
    noise : of the clean traces, and of what this gives
    recording : the one that was sorted, whose chunks are as long as a task may write
    """
    stiller = Stiller(clean, motion, noise, footprint_of(clean.recording.probe, params.footprint_um))
    pieces = clean.recording.with_chunks(recording.chunk_blocks, recording.part_blocks)
    tasks = chunk_tasks("still", stiller.chunk, pieces, 0)

    louder, gain = float(np.hypot(1, LEAST_SHARE)), clean.recording.gain_to_uv
    scale = replace(clean.scale, sd=clean.scale.sd * np.float32(louder))

    def reopen(source: Any) -> Clean:
        there = replace(clean.recording, source=source, gain_to_uv=None if gain is None else gain * louder)
        return replace(clean, recording=there, scale=scale)

    anew = ComputedSource(clean.recording, stiller.chunk, 0)
    return LazyTraces(joined_traces(tasks, pieces, np.int16), params, 2, reopen, unstored=anew)


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
    noise: Noise
    footprint_um: float

    def chunk(self, overlapped: np.ndarray | Rows, chunk: Chunk) -> np.ndarray:
        """int16 traces of one chunk."""
        n_channels, backend = self.clean.recording.n_channels, self.clean.backend
        still = np.empty((chunk.stop - chunk.start, n_channels), np.int16)
        counts_of: dict[str, Any] = {"median": np.zeros(n_channels, np.float32), "bar": np.inf}
        counts_of["factor"] = np.full(n_channels, COUNTS_PER_SD, np.float32)
        step = -(-chunk.block_samples // STEPS_PER_BLOCK)
        moved, filters, channels, evened = None, None, None, self.evened()
        for block in read_ahead(blocks(overlapped, chunk, 0), backend in GPU):
            traces = self.clean.to_sd(block.traces, block.start)
            core = still[block.start - chunk.start : block.stop - chunk.start]
            for first in range(0, len(core), step):
                now = self.displacement(block.start + first + step // 2)
                if moved is None or not np.array_equal(now, moved):
                    moved, (filters, channels) = now, self.weights(now, evened)
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

    def evened(self) -> list[_Evened]:
        """Groups of channels in which the noise is evened."""
        probe, n_channels = self.clean.recording.probe, self.clean.recording.n_channels
        matrix, found = self.noise.sparse_matrix()[:n_channels].tocsr(), []
        for shank in np.unique(probe.shanks):
            mine = np.flatnonzero(probe.shanks == shank)
            mine = mine[np.argsort(probe.positions[mine, 1], kind="stable")]
            for core in np.array_split(np.arange(len(mine)), -(-len(mine) // MOST_TOGETHER)):
                first = max(int(core[0]) - AROUND, 0)
                members = mine[first : core[-1] + AROUND + 1]
                white = matrix[members][:, members].toarray().T.astype(np.float64)
                found.append(_Evened(members, core - first, white, np.linalg.pinv(white)))
        return found

    def weights(self, moved: np.ndarray, evened: list[_Evened]) -> tuple[np.ndarray, np.ndarray]:
        """Filters (n_channels, n_near) float32 and channels (n_channels, n_near), as whitening in space has them."""
        kriging, n_near = self.kriging(moved), min(N_WEIGHTS, len(moved))
        filters, channels = (
            np.zeros((len(moved), n_near), np.float32),
            np.full((len(moved), n_near), len(moved), np.int32),
        )
        for group in evened:
            loud = group.loud(*kriging)
            near = np.sort(np.argsort(-np.abs(loud), axis=1, kind="stable")[:, :n_near], axis=1)
            rows, width = group.members[group.core], near.shape[1]
            filters[rows, :width] = np.take_along_axis(loud, near, axis=1)
            channels[rows, :width] = group.members[near]
        return filters, channels

    def kriging(self, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (n_channels, n_near) and channels (n_channels, n_near), padded with n_channels.

        What a Gaussian field of the footprint's extent is most likely to be between the contacts.
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
        return solved, np.where(usable, near, len(positions)).astype(np.int32)

    def _alike(self, distance: np.ndarray) -> np.ndarray:
        alike: np.ndarray = np.exp(-((distance / self.footprint_um) ** 2))
        return alike


@dataclass(frozen=True)
class _Evened:
    """Channels among which interpolation is made to leave the noise as it is."""

    members: np.ndarray
    core: np.ndarray
    """which of the members get their weights here; the others lie around them"""
    white: np.ndarray
    """(n_members, n_members) whitening in space, times traces (n_members,)"""
    back: np.ndarray
    """its inverse"""

    def loud(self, weights: np.ndarray, channels: np.ndarray) -> np.ndarray:
        """(n_core, n_members) weights of these channels, from those of an interpolation on its channels."""
        n = len(self.members)
        place = np.full(len(weights) + 1, n)
        place[self.members] = np.arange(n)
        plain = np.zeros((n, n + 1))
        np.put_along_axis(plain, place[channels[self.members]], weights[self.members], axis=1)
        left, values, right = np.linalg.svd(self.white @ plain[:, :n] @ self.back)
        kept = values / np.hypot(values, LEAST_SHARE)
        evened: np.ndarray = self.back[self.core] @ (left * kept) @ right @ self.white
        return evened
