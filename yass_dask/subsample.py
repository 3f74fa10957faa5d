"""Shifts by a fraction of a sample: one bank of short windowed-sinc filters for the whole house.

A shift is an index into the bank: index i shifts by (i - CENTER) / STEPS samples, later for positive shifts.
"""

from __future__ import annotations

from functools import cache

import numpy as np

STEPS = 16
"""Shifts per sample: spikes are placed to 1/16 of a sample."""
CENTER = STEPS // 2
N_SHIFTS = STEPS + 1
REACH = 5
"""A filter looks at this many samples on both sides."""


@cache
def shift_filters() -> np.ndarray:
    """Filters of all shifts, (N_SHIFTS, 2 * REACH + 1) float32: y[t] = sum_m filters[i, m + REACH] x[t + m].

    Kaiser-windowed sinc, normalised to keep constants; the middle one is exactly a copy.
    """
    offsets = np.arange(-REACH, REACH + 1)[None, :] + shift_samples(np.arange(N_SHIFTS))[:, None]
    window = np.i0(5.0 * np.sqrt(np.clip(1 - (offsets / (REACH + 1)) ** 2, 0, 1))) / np.i0(5.0)
    filters = np.sinc(offsets) * window
    return (filters / filters.sum(axis=1, keepdims=True)).astype(np.float32)


def shift_samples(index: np.ndarray) -> np.ndarray:
    """Shift in samples, -0.5 to 0.5, of an index into the bank."""
    return (np.asarray(index) - CENTER) / STEPS


def shift_index(shift: np.ndarray) -> np.ndarray:
    """Nearest index of a shift in samples; beyond half a sample it is clipped."""
    return np.clip(np.floor(np.asarray(shift) * STEPS + 0.5) + CENTER, 0, N_SHIFTS - 1).astype(np.int32)


def shifted(waveform: np.ndarray, index: int) -> np.ndarray:
    """A waveform (n_samples, n_channels) shifted by an index of the bank, float32; zeros come in from the ends."""
    padded = np.pad(waveform, ((REACH, REACH), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * REACH + 1, axis=0)
    moved: np.ndarray = (windows @ shift_filters()[index]).astype(np.float32)
    return moved


def opposite(index: np.ndarray) -> np.ndarray:
    """Index of the shift back."""
    return (2 * CENTER - np.asarray(index)).astype(np.int32)
