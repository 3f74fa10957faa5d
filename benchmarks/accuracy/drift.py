"""What changes over a synthetic recording: how the tissue moves along the probe, and how large the units are."""

from __future__ import annotations

from typing import Literal

import numpy as np

from benchmarks.accuracy.firing import Trains

Kind = Literal["zigzag", "ramp", "bumps", "nonrigid"]

PERIOD_S = 90.0
BUMP_GAPS_S = (11.0, 29.0, 7.0, 19.0)
"""Times between sudden jumps, over and over."""
LEAST_SHARE = 0.3
"""Where it moves least, non-rigid tissue moves by this share of the most."""


def displacement(kind: Kind, most_um: float, seconds: np.ndarray, depth: np.ndarray, duration_s: float) -> np.ndarray:
    """Displacement in um, within [-most_um, most_um].

    Parameters
    ----------
    kind : `zigzag` between the ends; `ramp` from the lower end to the upper over the recording; `bumps`, jumps from
        one end to the other; `nonrigid`, a zigzag that is smaller the higher up
    seconds, depth : (n,) time, and place along the probe from 0 (lowest contact) to 1
    """
    if kind == "ramp":
        return most_um * (2 * seconds / duration_s - 1)
    if kind == "bumps":
        jumps = np.cumsum(np.resize(BUMP_GAPS_S, int(duration_s / min(BUMP_GAPS_S)) + 1))
        return most_um * (2.0 * (np.searchsorted(jumps, seconds, side="right") % 2) - 1)
    zigzag = most_um * (1 - 4 * np.abs((seconds / PERIOD_S + 0.25) % 1 - 0.5))
    return zigzag if kind == "zigzag" else zigzag * (1 - (1 - LEAST_SHARE) * depth)


def faded(trains: Trains, most: float, n_samples: int) -> Trains:
    """The same spikes, of even units from 1 + most to 1 - most times as large over time, of odd units the other way."""
    change = most * (1 - 2 * trains.times / n_samples) * (1 - 2 * (trains.labels % 2))
    return trains._replace(scales=(trains.scales * (1 + change)).astype(np.float32))
