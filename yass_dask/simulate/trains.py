"""Spike trains of simulated units: when each one fires, and how large each spike is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from yass_dask.simulate.waveforms import JITTERS

AMPLITUDE_SD = 0.06
BURST_FALL = 0.88
BURST_START = 0.15
"""Share of a bursting unit's spikes that begin a burst."""


class Train(NamedTuple):
    """Spikes of one unit in order of time."""

    times: np.ndarray
    """Nearest sample of the spike's extremum, int64."""
    jitters: np.ndarray
    """Sub-sample shift, an index into the unit's waveforms, int64."""
    scales: np.ndarray
    """Amplitude as a share of the template's, float32."""


class Firing(NamedTuple):
    """How one unit fires."""

    rate_hz: float
    refractory_ms: float
    bursts: bool


def draw_firing(bursts: bool, rng: np.random.Generator) -> Firing:
    """Log-normal rate (median 4 Hz, 0.5 to 30 Hz) and a refractory period of 2 to 3 ms."""
    rate = float(np.clip(4.0 * np.exp(0.9 * rng.standard_normal()), 0.5, 30.0))
    return Firing(rate, float(rng.uniform(2.0, 3.0)), bursts)


def _burst_lengths(n_events: int, bursts: bool, rng: np.random.Generator) -> np.ndarray:
    """Number of spikes in each event: 1, or 2 to 5 where a burst starts."""
    if not bursts:
        return np.ones(n_events, dtype=np.int64)
    starts = rng.random(n_events) < BURST_START
    return np.where(starts, rng.integers(2, 6, n_events), 1)


def _spike_seconds(firing: Firing, seconds: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Times (s) and place within the burst (0 for the first) of every spike, from 0 on to past the end."""
    refractory = firing.refractory_ms / 1e3
    per_event = 1 + 2.5 * BURST_START * firing.bursts
    n_events = int(firing.rate_hz / per_event * seconds * 1.5) + 50
    lengths = _burst_lengths(n_events, firing.bursts, rng)
    place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    wait = max(per_event / firing.rate_hz - refractory, 1e-3)
    intervals = refractory + np.where(
        place == 0, rng.exponential(wait, len(place)), rng.uniform(0.5e-3, 4e-3, len(place))
    )
    return np.cumsum(intervals), place


def draw_train(firing: Firing, n_samples: int, sampling_rate: float, margin: int, rng: np.random.Generator) -> Train:
    """Draw the spikes of one unit, none nearer than `margin` samples to either end of the recording."""
    seconds, place = _spike_seconds(firing, n_samples / sampling_rate, rng)
    scales = BURST_FALL**place * (1 + AMPLITUDE_SD * rng.standard_normal(len(place)))
    fifths = np.rint(seconds * sampling_rate * JITTERS).astype(np.int64)
    times = (fifths + JITTERS // 2) // JITTERS
    jitters = fifths - times * JITTERS + JITTERS // 2
    inside = (times >= margin) & (times < n_samples - margin)
    return Train(times[inside], jitters[inside], np.maximum(scales[inside], 0.3).astype(np.float32))
