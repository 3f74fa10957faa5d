"""The report's part about the tissue's motion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from yass_dask.report import draw, figures
from yass_dask.report.draw import Frame

if TYPE_CHECKING:
    from yass_dask.motion.displacement import Motion
    from yass_dask.sorting import Sorting

MOST_WINDOWS, MOST_TIMES = 9, 400
"""Lines of the displacement, and points of each"""


def words(motion: Motion) -> str:
    """What is said of it."""
    if motion.is_none:
        return f"No motion of the tissue was followed: {motion.why_none}."
    low, high = motion.displacement.min(), motion.displacement.max()
    doubt = float(np.median(motion.uncertainty))
    return (
        f"The tissue moved along the probe, from {low:.0f} to {high:.0f} um of where it mostly was (uncertain by "
        f"{doubt:.1f} um): traces were held still before they were sorted."
    )


def displacement(motion: Motion) -> str:
    """Displacement over time at some depths, with its uncertainty."""
    windows = np.unique(np.linspace(0, len(motion.depths_um) - 1, MOST_WINDOWS).round().astype(int))
    times = np.unique(np.linspace(0, len(motion.times_s) - 1, MOST_TIMES).round().astype(int))
    x, paths, doubts = motion.times_s[times], motion.displacement[times], motion.uncertainty[times]
    reach = (float((paths - doubts).min()) - 2, float((paths + doubts).max()) + 2)
    # The time axis is the raster's, so that the two can be read together.
    frame = Frame(960, 200, (0, float(2 * motion.times_s[-1] - motion.times_s[-2:].mean())), reach, left=48)
    parts = [frame.axes("time (s)", "moved (um)")]
    for window in windows:
        low, high = (frame.py(paths[:, window] + sign * doubts[:, window]) for sign in (-1, 1))
        parts.append(draw.band(frame.px(x), low, high, "spread"))
    for window in windows:
        parts.append(draw.line(frame.px(x), frame.py(paths[:, window]), "wave"))
    return draw.svg(frame.width, frame.height, parts, "displacement of the tissue over time")


def held_still(sorting: Sorting, motion: Motion, peaks: dict[str, np.ndarray]) -> str:
    """The raster as it is when the displacement is taken away."""
    still = peaks["depth_um"] - at_each(motion, peaks["seconds"], peaks["depth_um"])
    return figures.raster(sorting, peaks | {"depth_um": still})


def at_each(motion: Motion, seconds: np.ndarray, depths: np.ndarray) -> np.ndarray:
    """(n,) displacement at n times, each at a depth of its own."""
    paths = np.stack([np.interp(seconds, motion.times_s, path) for path in motion.displacement.T])
    if len(paths) == 1:
        return np.asarray(paths[0])
    above = np.clip(np.searchsorted(motion.depths_um, depths), 1, len(paths) - 1)
    low, high = motion.depths_um[above - 1], motion.depths_um[above]
    share = np.clip((depths - low) / (high - low), 0, 1)
    each = np.arange(len(seconds))
    return np.asarray((1 - share) * paths[above - 1, each] + share * paths[above, each])
