"""Detections against true spikes: what was found, how strongly, and what was found twice or not there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FALSE, TWICE, TRUE = 0, 1, 2
REACHED_SD = 2.0
"""A detection where a spike already found is at least so large is the same spike once more."""


class Detected(NamedTuple):
    """What became of detections and of spikes."""

    status: np.ndarray
    """(n_detections,) TRUE, TWICE (a spike that was found already) or FALSE"""
    found: np.ndarray
    """(n_spikes,) strength of the detection that found a spike; -inf: none did"""


def match_detections(
    samples: np.ndarray, channels: np.ndarray, strengths: np.ndarray, times: np.ndarray, units: np.ndarray,
    sizes: np.ndarray, near: np.ndarray, tolerance: int,
) -> Detected:  # fmt: skip
    """Match each detection, the strongest first, with the nearest spike in time that is not found yet.

    Parameters
    ----------
    samples, channels, strengths : (n_detections,)
    times, units : (n_spikes,) true spikes, ascending in time
    sizes : (n_units, n_channels) largest absolute value of each unit's template, noise standard deviations
    near : (n_channels, n_channels) bool; a spike is found on a channel near the one where it is largest
    tolerance : samples between a detection and its spike, at most
    """
    main = sizes.argmax(axis=1)
    status, found = np.zeros(len(samples), np.int8), np.full(len(times), -np.inf)
    low = np.searchsorted(times, samples - tolerance)
    high = np.searchsorted(times, samples + tolerance, side="right")
    for i in np.argsort(-strengths, kind="stable"):
        close = np.arange(low[i], high[i])
        here = close[near[main[units[close]], channels[i]]]
        free = here[np.isneginf(found[here])]
        if len(free):
            best = free[np.abs(times[free] - samples[i]).argmin()]
            status[i], found[best] = TRUE, strengths[i]
        elif (sizes[units[close], channels[i]] >= REACHED_SD).any():
            status[i] = TWICE
    return Detected(status, found)
