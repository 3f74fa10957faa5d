"""A plot of motion for notebooks; matplotlib is needed for it only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from yass_dask.plot import _panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from yass_dask.motion.displacement import Motion


def plot_motion(motion: Motion) -> list[Axes]:
    """Draw how many peaks came from each depth over time, the same held still, and the displacement of each window.

    Parameters
    ----------
    motion : `Motion.load` of the folder `motion` in the output of a sort

    Raises
    ------
    InputError
        matplotlib is not installed.
    """
    panels = _panels(3, height=3.2, width=14.0)
    depths, times = motion.raster_depths_um, motion.times_s
    moved = motion.at(times, depths)
    # What lies at a depth of the still tissue came from where that was at the time.
    still = np.stack([np.interp(depths + shift, depths, row) for shift, row in zip(moved, motion.raster, strict=True)])
    shown = (("peaks as they came", motion.raster), ("held still", still))
    for axes, (title, image) in zip(panels, shown, strict=False):
        axes.pcolormesh(times, depths, np.sqrt(image.T), cmap="Greys", shading="nearest", rasterized=True)
        axes.set_title(title, fontsize=9)
        axes.set_ylabel("depth (um)")
    for window, depth in enumerate(motion.depths_um):
        path, doubt = motion.displacement[:, window], motion.uncertainty[:, window]
        panels[0].plot(times, depth + path, color=f"C{window % 10}", linewidth=1.0)
        panels[2].plot(times, path, color=f"C{window % 10}", linewidth=1.0, label=f"{depth:.0f} um")
        panels[2].fill_between(times, path - doubt, path + doubt, color=f"C{window % 10}", alpha=0.3, linewidth=0)
    panels[2].set_title("none is followed" if motion.is_none else "displacement", fontsize=9)
    panels[2].set_ylabel("um")
    panels[2].legend(title="depth", fontsize=7)
    for axes in panels:
        axes.set_xlabel("time (s)")
    return panels
