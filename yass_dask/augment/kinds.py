"""Spikes of several kinds out of templates, without noise: sized, collided, misaligned."""

from __future__ import annotations

import numpy as np

from yass_dask.errors import InputError

COLLIDER = (0.8, 1.2)
"""Size of the second spike of a collision, relative to the first."""


def amplitudes_of(waveforms: np.ndarray) -> np.ndarray:
    """(n,) largest absolute value of each."""
    size: np.ndarray = np.abs(waveforms).max(axis=(1, 2), initial=0)
    return size


def sized(templates: np.ndarray, low: float, high: float, n_per_template: int) -> tuple[np.ndarray, np.ndarray]:
    """Each template at `n_per_template` amplitudes, evenly from low to high.

    Returns
    -------
    waveforms : (n_templates * n_per_template, n_samples, n_channels) float32, template by template
    amplitudes : of each, the largest absolute value
    """
    size = amplitudes_of(templates)
    if not len(size) or not (size > 0).all():
        raise InputError("templates: each needs a value that is not zero, and there must be one at least")
    amplitudes = np.tile(np.linspace(low, high, n_per_template), len(templates))
    unit = np.repeat(templates / size[:, None, None], n_per_template, axis=0)
    return (amplitudes[:, None, None] * unit).astype(np.float32), amplitudes


def shifted(x: np.ndarray, min_shift: int, max_shift: int, draw: np.random.Generator) -> np.ndarray:
    """Each waveform moved by min_shift to max_shift samples, earlier or later; zeros come in."""
    n, length, _ = x.shape
    if not 0 <= min_shift <= max_shift:
        raise InputError(f"min_shift is {min_shift}, max_shift {max_shift}: give 0 <= min_shift <= max_shift")
    by = draw.choice([-1, 1], n) * draw.integers(min_shift, max_shift + 1, n)
    at = np.arange(length) - by[:, None]
    moved: np.ndarray = np.take_along_axis(x, np.clip(at, 0, length - 1)[:, :, None], axis=1)
    return moved * ((at >= 0) & (at < length))[:, :, None]


def shuffled(x: np.ndarray, draw: np.random.Generator, force_first_channel_shuffle: bool = True) -> np.ndarray:
    """Each waveform with its channels in another order; if forced, the first one is another."""
    n, _, n_channels = x.shape
    order = draw.random((n, n_channels)).argsort(axis=1)
    if force_first_channel_shuffle and n_channels > 1:
        same = np.flatnonzero(order[:, 0] == 0)
        other = draw.integers(1, n_channels, len(same))
        order[same, 0], order[same, other] = order[same, other], order[same, 0]
    mixed: np.ndarray = np.take_along_axis(x, order[:, None, :], axis=2)
    return mixed


def collided(x: np.ndarray, min_shift: int, max_shift: int, draw: np.random.Generator) -> np.ndarray:
    """Each waveform with another one of about its size on top, with its channels shuffled and moved in time."""
    others = shuffled(x[draw.integers(0, len(x), len(x))], draw, force_first_channel_shuffle=False)
    scale = draw.uniform(*COLLIDER, len(x)) * amplitudes_of(x) / np.maximum(amplitudes_of(others), 1e-12)
    sum_: np.ndarray = x + shifted(others * scale[:, None, None], min_shift, max_shift, draw)
    return sum_.astype(np.float32)
