"""What motion is measured by, and on which probes."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from yass_dask.geometry import Probe

LEAST_CHANNELS = 16
LEAST_LENGTH_UM, LEAST_ASPECT, MOST_GAP_UM = 200.0, 3.0, 50.0
"""A shank along which motion can be told is so long, so many times longer than wide, and has no wider gap."""


class MotionParams(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    follow: bool = True
    """Whether motion is looked for at all."""
    least_sd: float = Field(6.0, gt=0)
    """Smaller peaks, in noise standard deviations, do not come from one place closely enough."""
    radius_um: float = Field(100.0, gt=0)
    """A peak's place is found from its sizes on the channels within this distance ..."""
    max_channels: int = Field(16, ge=4)
    """... and on at most so many of them."""
    depth_bin_um: float = Field(3.0, gt=0)
    """Height of a bin of the histogram of depths."""
    bin_s: float = Field(1.0, gt=0)
    """Least time that a histogram covers."""
    horizon_s: float = Field(1200.0, gt=0)
    """Histograms are compared with others that are at most so much later."""
    max_shift_um: float = Field(80.0, gt=0)
    """Most displacement between two histograms."""
    window_um: float = Field(400.0, gt=0)
    """Width of the windows in depth that move each for itself; they lie half of this apart."""
    least_range_um: float = Field(6.0, gt=0)
    """There is no motion to follow if from the 5th to the 95th percentile it goes less than this ..."""
    least_ratio: float = Field(5.0, gt=0)
    """... or less than so many times its uncertainty, ..."""
    most_uncertain_um: float = Field(3.0, gt=0)
    """... or if the uncertainty is larger than this."""
    footprint_um: float = Field(30.0, gt=0)
    """Traces between the contacts are interpolated as a field that is alike over this distance."""


def is_followed(probe: Probe) -> bool:
    """Whether motion along the probe can be told: every shank is long, narrow, and without gaps.

    Square arrays, tetrodes and probes whose contacts lie far apart are left alone.
    """
    return probe.n_channels >= LEAST_CHANNELS and all(
        _is_long(probe.positions[probe.shanks == shank]) for shank in np.unique(probe.shanks)
    )


def _is_long(positions: np.ndarray) -> bool:
    across, along = np.ptp(positions, axis=0)
    gaps = np.diff(np.unique(positions[:, 1]))
    return bool(along >= LEAST_LENGTH_UM and along >= LEAST_ASPECT * across and gaps.max(initial=0) <= MOST_GAP_UM)
