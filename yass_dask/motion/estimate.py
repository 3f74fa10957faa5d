"""Stage: counts of peaks by depth -> displacement of the tissue, or none where there is none to be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter1d

from yass_dask.chunked import LazyParts
from yass_dask.motion.displacement import Motion
from yass_dask.motion.params import MotionParams
from yass_dask.motion.raster import BEYOND_UM, Raster
from yass_dask.motion.register import register, windows_of

FEWEST_TIMES, FEWEST_PEAKS = 10, 20
"""Motion is not looked for in fewer time bins, or where half of them hold fewer peaks."""
UNCERTAIN_OVER = 21
"""The uncertainty is a mean over so many time bins."""


def estimate_motion(raster: Raster, params: MotionParams, backend: str) -> LazyParts:
    """Displacement (n_times, n_windows) with its uncertainty; opens as Motion.

    The peaks are registered all together, and each half alone: half the difference of the halves is the uncertainty.
    """
    return LazyParts.one("motion", estimate, raster, params, backend, params=params, version=1, open=opened)


def opened(table: Mapping[str, Any]) -> Motion:
    """The motion that the stage stored."""
    arrays = {name: np.asarray(table[name][:]) for name in table}
    why = bytes(arrays.pop("why_none")).decode()
    return Motion(**arrays, why_none=why)


def estimate(raster: Raster, params: MotionParams, backend: str) -> dict[str, np.ndarray]:
    """Fields of Motion; `why_none` as bytes of UTF-8."""
    counts, times = binned(raster, params.bin_s)
    step = float(raster.depths[1] - raster.depths[0])
    middles, windows = windows_of(raster.depths, params.window_um, BEYOND_UM)
    moved = np.zeros((len(times), len(middles)))
    uncertainty = np.zeros_like(moved)
    why = _too_few(counts)
    if not why:
        bin_s = float(np.median(np.diff(times)))
        how = (step, windows, max(1, round(params.horizon_s / bin_s)), params.max_shift_um, backend)
        moved = register(counts[:, 0] + counts[:, 1], *how)
        one, other = (register(counts[:, half], *how) for half in (0, 1))
        squares = uniform_filter1d((0.5 * (one - other)) ** 2, min(UNCERTAIN_OVER, len(times)), axis=0)
        uncertainty = np.sqrt(np.maximum(squares, 0))
        why = unsure(moved, uncertainty, params)
        if why:
            moved = np.zeros_like(moved)
    return {
        "displacement": moved, "uncertainty": uncertainty, "times_s": times, "depths_um": middles,
        "raster": counts.sum(axis=(1, 2), dtype=np.uint32), "raster_depths_um": raster.depths,
        "why_none": np.frombuffer(why.encode(), np.uint8),
    }  # fmt: skip


def binned(raster: Raster, bin_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Counts (n_times, 2, n_sizes, n_depths) of as many blocks together as a bin takes, and the bins' middles in s."""
    samples = np.asarray(raster.table["sample_index"][:])
    step_s = float(np.median(np.diff(samples))) / raster.sampling_rate if len(samples) > 1 else bin_s
    together = max(1, round(bin_s / step_s))
    starts = np.arange(0, max(len(samples) - together + 1, 1), together)
    counts = np.asarray(raster.table["counts"][:])
    counts = counts if together == 1 else np.add.reduceat(counts, starts, axis=0)
    middles = np.add.reduceat(samples, starts) / np.diff([*starts, len(samples)])
    return counts, middles / raster.sampling_rate


def _too_few(counts: np.ndarray) -> str:
    peaks = counts.sum(axis=(1, 2, 3))
    if len(counts) < FEWEST_TIMES:
        return f"the recording has {len(counts)} time bins, fewer than {FEWEST_TIMES}"
    if np.median(peaks) < FEWEST_PEAKS:
        return f"a time bin has {np.median(peaks):g} peaks, fewer than {FEWEST_PEAKS}"
    return ""


def unsure(moved: np.ndarray, uncertainty: np.ndarray, params: MotionParams) -> str:
    """Why a displacement is not to be followed; empty if it is.

    Parameters
    ----------
    moved, uncertainty : (n_times, n_windows) um
    """
    low, high = np.percentile(moved, [5, 95], axis=0)
    range_um, doubt = float((high - low).max()), float(np.median(uncertainty))
    if doubt > params.most_uncertain_um:
        return f"the displacement is uncertain by {doubt:.1f} um, more than {params.most_uncertain_um:g}"
    least = max(params.least_range_um, params.least_ratio * doubt)
    if range_um < least:
        return f"the tissue moves by {range_um:.1f} um, less than {least:.1f}"
    return ""
