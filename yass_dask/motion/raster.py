"""Stage: clean traces -> how many peaks came from which depth and how large they were, block by block.

A task finds peaks, localises them and counts them; no peak leaves it. Of a long recording it looks at some blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from yass_dask.backends import kernel, on_host
from yass_dask.chunked import Block, Chunk, LazyParts, Rows, Stride, blocks, chunk_tasks
from yass_dask.detect import DetectParams, Finder
from yass_dask.geometry import nearest_channels
from yass_dask.motion.params import MotionParams
from yass_dask.noise import Noise
from yass_dask.preprocess import Clean

MOST_BLOCKS = 2048
"""So many blocks at most are looked at, spread evenly: hours cost no more."""
SIZES_MS = 0.3
"""A peak's size on a channel is taken from so much before and after it."""
N_SIZES, LARGEST_SD = 6, 60.0
"""Peaks are counted apart by size, in steps of the logarithm."""
BEYOND_UM = 40.0
"""Depths are counted so far beyond the outermost contacts."""
GRID_ACROSS_UM, GRID_ALONG_UM = np.arange(-60.0, 61.0, 15.0), np.arange(-50.0, 51.0, 5.0)
GRID_AWAY_UM = np.array([6.0, 15.0, 30.0, 60.0])
"""Places of sources that are tried around a peak's channel."""


@dataclass(frozen=True)
class Raster:
    """Counts of peaks, and what they are counts of; a small handle."""

    table: Mapping[str, Any]
    """counts (n_blocks, 2, N_SIZES, n_depths) uint16: every second peak in one half, the others in the other; and
    sample_index (n_blocks,) int64, the middle of each block"""
    depths: np.ndarray
    """(n_depths,) um, the middles of the bins"""
    sampling_rate: float


def measure_raster(
    clean: Clean, noise: Noise, detecting: DetectParams, params: MotionParams, backend: str
) -> LazyParts:
    """Histograms of the depths and sizes of peaks; opens as Raster."""
    n_blocks = clean.recording.n_blocks
    clean = clean.strided(Stride(-(-n_blocks // MOST_BLOCKS)))
    counter = Counter.of(clean, noise, detecting, params, backend)
    parts = chunk_tasks("raster", counter.chunk, clean.recording, counter.halo)
    recipe = {"motion": params.model_dump(), "detect": detecting.model_dump()}
    rate = clean.recording.sampling_rate
    return LazyParts(parts, recipe, 1, lambda table: Raster(table, counter.depths, rate), reads_traces=True)


@dataclass(frozen=True)
class Counter:
    """Finds, localises and counts the peaks of blocks."""

    clean: Clean
    finder: Finder
    sites: np.ndarray
    """(n_channels, n_local) int32, good channels that a peak's sizes are taken on"""
    depths: np.ndarray
    least_sd: float

    @classmethod
    def of(cls, clean: Clean, noise: Noise, detecting: DetectParams, params: MotionParams, backend: str) -> Counter:
        positions, bad = clean.recording.probe.positions, clean.scale.bad
        near = clean.recording.neighbors(params.radius_um) & ~bad[None]
        np.fill_diagonal(near, True)
        sites = nearest_channels(near, positions, params.max_channels).astype(np.int32)
        step = params.depth_bin_um
        low, high = positions[:, 1].min() - BEYOND_UM, positions[:, 1].max() + BEYOND_UM
        depths = np.arange(low, high, step) + 0.5 * step
        finder = Finder.of(clean, noise, detecting.model_copy(update={"method": "threshold"}), backend)
        return cls(clean, finder, sites, depths, params.least_sd)

    @property
    def reach(self) -> int:
        return self.clean.recording.samples(SIZES_MS)

    @property
    def halo(self) -> int:
        return max(self.finder.halo, self.reach)

    def chunk(self, overlapped: np.ndarray | Rows, chunk: Chunk) -> dict[str, np.ndarray]:
        """Counts of each block of one chunk that is looked at."""
        counts, middles = [], []
        for block in blocks(overlapped, chunk, self.halo):
            counts.append(self.count(*self.places(block)[1:]))
            middles.append((block.start + block.stop) // 2)
        return {"counts": np.stack(counts), "sample_index": np.array(middles, np.int64)}

    def places(self, block: Block) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Samples, heights (noise sd) and depths (um) of the large peaks of a block."""
        origin = block.start - self.halo
        x = on_host(self.clean.to_sd(block.traces, origin))
        peaks = self.finder.block(x, block.start, block.stop, self.halo)
        large = np.abs(peaks["amplitude"]) >= self.least_sd
        samples, channels = (peaks[name][large] for name in ("sample_index", "channel_index"))
        place = kernel("localize", self.finder.backend)(
            x, rows=samples - origin, channels=channels, reach=self.reach, sites=self.sites,
            positions=self.clean.recording.probe.positions, grid=grid(),
        )  # fmt: skip
        return samples, np.abs(peaks["amplitude"][large]), on_host(place)[:, 1]

    def count(self, heights: np.ndarray, depths: np.ndarray) -> np.ndarray:
        """(2, N_SIZES, n_depths) uint16 of the peaks of a block."""
        step = self.depths[1] - self.depths[0]
        depth = np.floor((depths - self.depths[0]) / step + 0.5).astype(np.int64)
        inside = (depth >= 0) & (depth < len(self.depths))
        share = np.log(heights / self.least_sd) / np.log(LARGEST_SD / self.least_sd)
        size = np.clip((N_SIZES * share).astype(np.int64), 0, N_SIZES - 1)
        counts = np.zeros((2, N_SIZES, len(self.depths)), np.uint16)
        half = np.arange(len(heights)) % 2
        np.add.at(counts, (half[inside], size[inside], depth[inside]), 1)
        return counts


def grid() -> np.ndarray:
    """(n_points, 3) um: across, along, away."""
    axes = np.meshgrid(GRID_ACROSS_UM, GRID_ALONG_UM, GRID_AWAY_UM, indexing="ij")
    return np.stack(axes, axis=-1).reshape(-1, 3)
