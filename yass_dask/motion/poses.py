"""Templates that follow the displacement: what a unit looks like at each, on traces that were held still.

No interpolation between contacts is exact: where the tissue lies half a pitch farther, a large neuron's interpolated
waveform differs by many noise standard deviations. So a unit has a template for each small range of displacements, a
*pose*; and each block is pursued with the poses of its displacement. Poses are means of the unit's spikes in bins of
displacement, smoothed on each channel by as much as the noise of those means calls for. A unit that shows no change
has one pose, its template.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from yass_dask.motion.displacement import Motion
from yass_dask.templates import Templates

LEAST_BIN_UM, MOST_BINS = 4.0, 32
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Prices of a step between neighbouring bins, times the spikes of a bin, among which each channel has its own."""
PRICE = 2.0
"""Of a degree of freedom, times what noise alone would gain by it: Mallows' Cp."""
SAME_SD = 1.0
"""Bins whose templates differ by less, in noise standard deviations, are one pose."""
POSE = "pose_"
BLOCKS_AT_ONCE = 1024


@dataclass(frozen=True)
class Bins:
    """Bins of displacement, and in which of them the tissue at some depth is at some time."""

    motion: Motion
    low_um: float
    step_um: float
    n_bins: int
    block_samples: int
    sampling_rate: float

    @classmethod
    def of(cls, motion: Motion, block_samples: int, sampling_rate: float) -> Bins:
        """Bins for all displacements of a recording, whose blocks are so long."""
        low, high = float(motion.displacement.min()), float(motion.displacement.max())
        step = max(LEAST_BIN_UM, (high - low) / MOST_BINS)
        light = replace(motion, raster=motion.raster[:0], uncertainty=motion.uncertainty[:0])
        return cls(light, low, step, max(1, int(np.ceil((high - low) / step))), block_samples, sampling_rate)

    def at(self, blocks: np.ndarray, depths: np.ndarray) -> np.ndarray:
        """(n_blocks, n_depths) bin of the tissue at each depth in the middle of each block."""
        seconds = (np.asarray(blocks) + 0.5) * self.block_samples / self.sampling_rate
        moved = self.motion.at(seconds, depths)
        bins: np.ndarray = np.clip((moved - self.low_um) // self.step_um, 0, self.n_bins - 1).astype(np.int64)
        return bins

    def of_spikes(self, units: np.ndarray, samples: np.ndarray, depths: np.ndarray) -> np.ndarray:
        """(n,) bins of spikes of some units; `depths` are the units'."""
        blocks, place = np.unique(samples // self.block_samples, return_inverse=True)
        bins, order = np.zeros(len(samples), np.int64), np.argsort(place, kind="stable")
        for first in range(0, len(blocks), BLOCKS_AT_ONCE):
            some = blocks[first : first + BLOCKS_AT_ONCE]
            low, high = np.searchsorted(place[order], [first, first + len(some)])
            mine = order[low:high]
            bins[mine] = self.at(some, depths)[place[mine] - first, units[mine]]
        return bins


@dataclass(frozen=True)
class Poses:
    """Poses of all units, and which of them each unit has in each bin."""

    row: np.ndarray
    """(n_units, n_bins) int64, row of the pose; those of a unit follow each other"""
    depths: np.ndarray
    """(n_units,) um"""
    bins: Bins

    def at(self, block: int) -> np.ndarray:
        """(n_units,) rows of the poses in a block."""
        bins = self.bins.at(np.array([block]), self.depths)[0]
        rows: np.ndarray = self.row[np.arange(len(self.row)), bins]
        return rows

    def of_spikes(self, units: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """(n,) rows of the poses that spikes were found with."""
        rows: np.ndarray = self.row[units, self.bins.of_spikes(units, samples, self.depths)]
        return rows

    def together(self, n_blocks: int) -> Any:
        """(n_poses, n_poses) sparse: nonzero where two poses are in one block."""
        from scipy.sparse import csr_array

        if len(self.row) == 0:
            return csr_array((0, 0))
        rows = np.unique(self.row[np.arange(len(self.row)), self.bins.at(np.arange(n_blocks), self.depths)], axis=0)
        shape = (len(rows), int(self.row.max(initial=-1)) + 1)
        there = csr_array(
            (np.ones(rows.size, np.float32), rows.ravel(), np.arange(0, rows.size + 1, max(rows.shape[1], 1))), shape
        )
        return there.T @ there


@dataclass(frozen=True)
class StoredPoses:
    """Poses on disk, in the table of their units: a small handle that travels to tasks."""

    table: Mapping[str, Any]
    bins: Bins

    def index(self) -> Poses:
        """Which pose each unit has where."""
        return Poses(np.asarray(self.table[POSE + "row"][:]), np.asarray(self.table[POSE + "depth"][:]), self.bins)

    def levels(self) -> np.ndarray:
        """(n_poses,) distance of each pose from nothing, in standard deviations of the noise along it."""
        return np.asarray(self.table[POSE + "level"][:])

    def templates(self) -> Templates:
        """The poses' templates in memory; their ids are their rows."""
        arrays: dict[str, Any] = {
            name: np.asarray(self.table[POSE + name][:]) for name in ("waveforms", "channels", "n_spikes")
        }
        peak, n_channels = (int(self.table[name][0]) for name in ("peak", "n_channels"))
        return Templates(**arrays, ids=np.arange(len(arrays["n_spikes"])), peak=peak, n_channels=n_channels)


class Followed(NamedTuple):
    """One unit's poses."""

    waveforms: np.ndarray
    """(n_poses, n_samples, n_local) float32"""
    n_spikes: np.ndarray
    """(n_poses,) spikes whose plain mean would hold as much noise"""
    row: np.ndarray
    """(n_bins,) which pose"""
    seen: np.ndarray
    """(n_poses,) spikes averaged"""


def pose_fields(
    templates: Templates, followed: Mapping[int, Followed], depths: np.ndarray, n_bins: int
) -> tuple[Templates, dict[str, np.ndarray]]:
    """Poses of all units, as Templates and as the store keeps them; `followed` by id, the others have one."""
    waveforms, n_spikes, seen, of = [], [], [], []
    row, n_poses = np.zeros((len(templates), n_bins), np.int64), 0
    for u, unit in enumerate(templates.ids.tolist()):
        one = followed.get(unit)
        if one is None:
            n = templates.n_spikes[u : u + 1]
            one = Followed(templates.waveforms[u : u + 1], n, np.zeros(n_bins, np.int64), n)
        row[u] = n_poses + one.row
        n_poses += len(one.waveforms)
        of += [u] * len(one.waveforms)
        waveforms.append(one.waveforms)
        n_spikes.append(one.n_spikes)
        seen.append(one.seen)
    empty = np.zeros((0, *templates.waveforms.shape[1:]), np.float32)
    poses = Templates(
        np.concatenate([empty, *waveforms]), templates.channels[of], np.concatenate([np.zeros(0, np.int64), *n_spikes]),
        np.arange(n_poses), templates.peak, templates.n_channels,
    ).without_noise().packed()  # fmt: skip
    fields = {"waveforms": poses.waveforms, "channels": poses.channels, "n_spikes": poses.n_spikes, "row": row,
              "depth": depths, "seen": np.concatenate([np.zeros(0), *seen])}  # fmt: skip
    return poses, {POSE + name: values for name, values in fields.items()}


def follow(means: np.ndarray, counts: np.ndarray) -> Followed:
    """Poses of a unit, of its mean waveforms in the bins.

    Parameters
    ----------
    means : (n_bins, n_samples, n_local) float, noise standard deviations; whatever where there are no spikes
    counts : (n_bins,) spikes averaged
    """
    smooth, n_spikes = smoothed(means, counts)
    row = _alike(smooth)
    n_poses = int(row[-1]) + 1
    weight = np.maximum(counts, 1e-3)
    total = np.bincount(row, weight, minlength=n_poses)
    waveforms = np.zeros((n_poses, *means.shape[1:]), np.float32)
    np.add.at(waveforms, row, (weight / total[row])[:, None, None] * smooth)
    of_pose = np.zeros(n_poses)
    np.maximum.at(of_pose, row, n_spikes)
    seen = np.bincount(row, counts, minlength=n_poses)
    return Followed(waveforms, np.maximum(of_pose, seen).astype(np.int64), row, seen)


def _alike(smooth: np.ndarray) -> np.ndarray:
    """(n_bins,) pose of each bin: a new one begins where a template differs from the last one's first bin's."""
    row, first = np.zeros(len(smooth), np.int64), 0
    for b in range(1, len(smooth)):
        if np.linalg.norm(smooth[b] - smooth[first]) > SAME_SD:
            first = b
        row[b] = row[b - 1] + (first == b)
    return row


def smoothed(means: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means smoothed over the bins, and of how many spikes a plain mean would hold as much noise as each.

    On each channel, the w that minimise sum_b n_b |y_b - w_b|^2 + p sum_b |w_b+1 - w_b|^2, with the price p, up to an
    infinite one (w is constant), that makes Mallows' Cp smallest: the noise of y_b is 1 / n_b.
    """
    n_bins, n_samples = means.shape[:2]
    y = np.where(counts[:, None, None] > 0, means, 0).transpose(2, 0, 1).astype(np.float64)
    products = y @ y.transpose(0, 2, 1)
    weight = counts.astype(np.float64)
    smoothers = np.stack([*(_smoother(weight, p * weight.sum() / n_bins) for p in PENALTIES), _constant(weight)])
    left = np.eye(n_bins) - smoothers
    squares = np.einsum("pbi,b,pbj,cij->pc", left, weight, left, products, optimize=True)
    freedom = np.einsum("pbb->p", smoothers)
    best = (squares + PRICE * n_samples * freedom[:, None]).argmin(axis=0)
    smooth = (smoothers[best] @ y).transpose(1, 2, 0)
    variance = np.einsum("pbi,i->pb", smoothers**2, 1 / np.maximum(weight, 1e-9) * (weight > 0))
    used = (y != 0).any(axis=(1, 2))
    noise = variance[best[used]].mean(axis=0) if used.any() else np.ones(n_bins)
    return smooth.astype(np.float32), 1 / np.maximum(noise, 1e-9)


def _smoother(weight: np.ndarray, price: float) -> np.ndarray:
    """(n_bins, n_bins): the smoothed values are this times the means."""
    steps = np.diff(np.eye(len(weight)), axis=0)
    solved: np.ndarray = np.linalg.solve(np.diag(weight) + price * steps.T @ steps, np.diag(weight))
    return solved


def _constant(weight: np.ndarray) -> np.ndarray:
    return np.tile(weight / max(weight.sum(), 1e-9), (len(weight), 1))
