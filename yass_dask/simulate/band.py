"""The 300-6000 Hz band in which a simulation's signal-to-noise ratio is told."""

from __future__ import annotations

import numpy as np


def _sections(sampling_rate: float) -> np.ndarray:
    from scipy import signal

    corners = [300.0, min(6000.0, 0.45 * sampling_rate)]
    return signal.butter(3, corners, btype="bandpass", fs=sampling_rate, output="sos")


def band_gain(frequency: np.ndarray, sampling_rate: float) -> np.ndarray:
    """Amplitude gain of the zero-phase (forward and backward) Butterworth band-pass."""
    from scipy import signal

    _, response = signal.sosfreqz(_sections(sampling_rate), frequency, fs=sampling_rate)
    gain: np.ndarray = np.abs(response) ** 2
    return gain


def band_pass(templates: np.ndarray, sampling_rate: float) -> np.ndarray:
    """Band-pass templates (units, samples, channels) along time, with room for the filter's tails."""
    from scipy import signal

    room = round(0.02 * sampling_rate)
    filtered = np.empty(templates.shape)
    for template, result in zip(templates, filtered, strict=True):  # one at a time: room for all would take gigabytes
        padded = np.pad(template, [(room, room), (0, 0)])
        result[:] = signal.sosfiltfilt(_sections(sampling_rate), padded, axis=0)[room:-room]
    return filtered
