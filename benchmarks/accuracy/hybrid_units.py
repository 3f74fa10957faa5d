"""Shapes of hybrid units: real templates moved over the probe, and generated axons, positive and somatic ones.

A shape is a function of time (ms, any origin) that gives a waveform on every contact; `sampled` puts it on the
recording's samples at every sub-sample shift, its largest extremum on sample `template_peak`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from yass_dask.simulate.waveforms import (
    JITTERS,
    Neuron,
    _time_course,
    draw_neuron,
    template_peak,
    template_samples,
)

Shape = Callable[[np.ndarray], np.ndarray]
"""time (n,) ms -> (n, channels)."""
NEAR_UM, FAR_UM = 140.0, 240.0
"""A real template fades out between these distances from its main contact, and where it is small: it is noise there."""


@dataclass(frozen=True)
class RealTemplates:
    """A set of real templates; see the README of the data folder."""

    waveforms: np.ndarray
    """(units, samples, sites)."""
    positions: np.ndarray
    """(sites, 2) um."""
    sampling_rate: float


def read_templates(path: str) -> RealTemplates:
    """Read a set, without the flat samples that some begin with."""
    with np.load(path) as file:
        waveforms = file["templates"].astype(np.float64)
        positions, rate = file["positions"].astype(np.float64), float(file["fs"])
    used = np.flatnonzero(np.abs(waveforms).max(axis=(0, 2)) > 0.02 * np.abs(waveforms).max())
    return RealTemplates(waveforms[:, used[0] : used[-1] + 1], positions, rate)


def real_shape(
    real: RealTemplates, unit: int, contacts: np.ndarray, anchor: np.ndarray, rng: np.random.Generator
) -> tuple[Shape, np.ndarray]:
    """Real template `unit` with its main site on `anchor` (2,) um, turned, stretched in time, gains changed a little.

    Returns the shape and the position (2,) um of the unit.
    """
    waves = real.waveforms[unit]
    main = int(np.abs(waves).max(axis=0).argmax())
    turn = rng.choice([-1.0, 1.0], 2)
    middle = real.positions[:, 0].mean()
    offset = contacts - anchor
    # Left and right are mirrored about the middle of the probe, up and down about the unit.
    column = middle + turn[0] * (contacts[:, 0] - contacts[:, 0].mean())
    row = real.positions[main, 1] + turn[1] * offset[:, 1]
    gaps = np.hypot(real.positions[:, 0] - column[:, None], real.positions[:, 1] - row[:, None])
    site = gaps.argmin(axis=1)
    distance = np.hypot(real.positions[site, 0] - real.positions[main, 0], offset[:, 1])
    fade = (FAR_UM - distance) / (FAR_UM - NEAR_UM)
    size = np.abs(waves).max(axis=0)[site] / np.abs(waves).max()
    gains = _step(fade) * _step((size - 0.05) / 0.1) * (gaps.min(axis=1) < 25.0)
    gains *= np.exp(0.1 * rng.standard_normal(len(contacts)))
    stretch = np.exp(rng.uniform(-0.12, 0.12))
    place = np.array([contacts[:, 0].mean() + turn[0] * (real.positions[main, 0] - middle), anchor[1]])
    return _interpolated(waves[:, site] * gains, real.sampling_rate / stretch), place


def _step(at: np.ndarray) -> np.ndarray:
    """Smooth step from 0 (at <= 0) to 1 (at >= 1)."""
    inside = np.clip(at, 0.0, 1.0)
    return inside**2 * (3 - 2 * inside)


def _interpolated(waves: np.ndarray, sampling_rate: float) -> Shape:
    """Cubic spline through waves (samples, channels) whose ends decay to zero instead of breaking off."""
    from scipy.interpolate import CubicSpline

    room = round(2e-3 * sampling_rate)
    decay = np.exp(-np.arange(1, room + 1) / (0.25e-3 * sampling_rate))[:, None]
    padded = np.concatenate([waves[0] * decay[::-1], waves, waves[-1] * decay])
    time = np.arange(-room, len(waves) + room) / sampling_rate * 1e3
    spline = CubicSpline(time, padded)

    def shape(at: np.ndarray) -> np.ndarray:
        inside = (at >= time[0]) & (at <= time[-1])
        return np.where(inside[:, None], spline(np.clip(at, time[0], time[-1])), 0.0)

    return shape


def positive_shape(shape: Shape, rng: np.random.Generator) -> Shape:
    """The same upside down and 1.1 to 1.5 times as long."""
    longer = rng.uniform(1.1, 1.5)
    return lambda at: -shape(at / longer)


def _parts(neuron: Neuron, delay: np.ndarray, amplitude: np.ndarray, widening: np.ndarray) -> Shape:
    """Time course of a generated neuron on every contact: delay (ms), amplitude, widening (channels,)."""
    return lambda at: neuron.sign * amplitude * _time_course(neuron, at[:, None] - delay, widening)


def somatic_shape(contacts: np.ndarray, place: np.ndarray, positive: bool, rng: np.random.Generator) -> Shape:
    """Generated cell body at `place` (2,) um, reaching 25 to 60 um; a positive one is broad."""
    neuron = draw_neuron(np.append(place, 0.0), len(contacts), rng)
    width = rng.uniform(0.25, 0.5) if positive else rng.uniform(0.15, 0.35)
    neuron = replace(neuron, trough_width=width, sign=1.0 if positive else -1.0)
    offset = contacts - place
    turn = rng.uniform(0, np.pi)
    along = offset @ [np.cos(turn), np.sin(turn)]
    across = offset @ [-np.sin(turn), np.cos(turn)]
    distance = np.sqrt((along / neuron.elongation) ** 2 + across**2 + rng.uniform(10, 30) ** 2)
    amplitude = np.exp(-distance / rng.uniform(25.0, 60.0)) * neuron.gains
    delay = 0.3 * np.tanh(along / neuron.velocity / 0.3)
    return _parts(neuron, delay, amplitude, 1 + np.minimum(distance, 200.0) / 300.0)


def axon_shape(contacts: np.ndarray, place: np.ndarray, rng: np.random.Generator) -> Shape:
    """Triphasic (+ - +) axon through `place` (2,) um: 150-500 um long, 0.5-2 m/s, thin."""
    turn = rng.uniform(0, 2 * np.pi)
    extent = np.ptp(contacts, axis=0)
    if extent.min() < 0.2 * extent.max():  # a shank: an axon across it would touch one contact
        turn = np.pi / 2 * rng.choice([-1, 1]) + rng.normal(0, 0.1)
    offset = contacts - place
    along = offset @ [np.cos(turn), np.sin(turn)]
    across = offset @ [-np.sin(turn), np.cos(turn)]
    bend = rng.normal(0, 1 / 2500.0)
    across = across - bend * along**2
    distance = np.sqrt(across**2 + rng.uniform(5, 15) ** 2)
    length = rng.uniform(150.0, 500.0)
    reach = np.exp(-(np.abs(along / (length / 2)) ** 4))
    uneven = 1 + 0.25 * np.sin(along / rng.uniform(40, 120) + rng.uniform(0, 2 * np.pi))
    amplitude = reach * uneven * np.exp(-distance / rng.uniform(15.0, 30.0))
    delay = along / (1000.0 * rng.uniform(0.5, 2.0))
    return _triphasic(amplitude, delay, rng)


def _triphasic(amplitude: np.ndarray, delay: np.ndarray, rng: np.random.Generator) -> Shape:
    """Peak, trough and peak, as where an action potential passes by: near the second derivative of a bump."""
    width = rng.uniform(0.06, 0.13)  # sd of the trough, ms
    before, after = rng.uniform(0.35, 0.8), rng.uniform(0.15, 0.5)

    def shape(at: np.ndarray) -> np.ndarray:
        time = (at[:, None] - delay) / width
        bumps = np.exp(-0.5 * time**2) - before * np.exp(-0.5 * ((time + 2.2) / 1.1) ** 2)
        return -amplitude * (bumps - after * np.exp(-0.5 * ((time - 2.5) / 1.5) ** 2))

    return shape


def sampled(shape: Shape, good: np.ndarray, sampling_rate: float) -> tuple[np.ndarray, int]:
    """Waveform at every sub-sample shift, (JITTERS, samples, channels), and the main channel, one of the good.

    Shift j is later by (j - JITTERS // 2) / JITTERS of a sample; at the middle one the extremum of the main
    channel is exactly on sample `template_peak(sampling_rate)`.
    """
    fine = np.arange(-4.0, 8.0, 0.002)
    values = np.abs(shape(fine)) * good
    at, main = np.unravel_index(values.argmax(), values.shape)
    peak, length = template_peak(sampling_rate), template_samples(sampling_rate)
    ramp = np.clip(np.minimum(np.arange(length), np.arange(length)[::-1]) / (length / 12), 0, 1)
    taper = np.sin(0.5 * np.pi * ramp) ** 2
    shifts = (np.arange(JITTERS) - JITTERS // 2) / JITTERS
    times = (np.arange(length)[None] - peak - shifts[:, None]) / sampling_rate * 1e3 + fine[at]
    return np.stack([shape(time) for time in times]) * taper[:, None], int(main)
