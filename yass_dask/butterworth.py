"""Butterworth filters as second-order sections, by the bilinear transform (Oppenheim and Schafer, section 7.2).

Own, as importing SciPy's signal package takes half a second of every start.
"""

from __future__ import annotations

import numpy as np


def butterworth(order: int, low_hz: float | None, high_hz: float | None, sampling_rate: float) -> np.ndarray:
    """Filter that passes what lies between the corners; a corner that is None is open.

    Parameters
    ----------
    order : of the low-pass it is made from; a band-pass has twice as many poles

    Returns
    -------
    (n_sections, 6) float64: b0, b1, b2, 1, a1, a2 of each section, the least resonant first; each has gain 1 in the
    middle of the passband.
    """
    prototype = np.exp(0.5j * np.pi * (2 * np.arange(order) + 1 + order) / order)
    # Corners of the analog filter, in units of the sampling rate, that the transform puts where they are wanted.
    low, high = (None if f is None else 2 * np.tan(np.pi * f / sampling_rate) for f in (low_hz, high_hz))
    if low is not None and high is not None:
        half, middle = 0.5 * prototype * (high - low), np.sqrt(low * high)
        root = np.sqrt(half**2 - middle**2)
        analog, zeros = np.concatenate([half + root, half - root]), (1.0, -1.0)
        at = np.exp(2j * np.arctan(middle / 2))
    elif high is not None:
        analog, zeros, at = high * prototype, (-1.0, -1.0), 1.0
    elif low is not None:
        analog, zeros, at = low / prototype, (1.0, 1.0), -1.0
    else:
        raise ValueError("a filter needs a corner")
    poles = (2 + analog) / (2 - analog)
    return np.array([_section(pair, zeros, at) for pair in _pairs(poles)])


def _pairs(poles: np.ndarray) -> list[np.ndarray]:
    """Conjugate pairs, then real poles two and two, a last one alone; those nearest to the unit circle last."""
    real = np.abs(poles.imag) < 1e-12
    upper, alone = poles[(poles.imag > 0) & ~real], np.sort(poles[real].real)
    pairs = [np.array([pole, pole.conjugate()]) for pole in upper]
    pairs += [alone[i : i + 2].astype(complex) for i in range(0, len(alone), 2)]
    return sorted(pairs, key=lambda pair: float(np.abs(pair).max()))


def _section(poles: np.ndarray, zeros: tuple[float, float], at: complex) -> np.ndarray:
    """b0, b1, b2, 1, a1, a2 of one or two poles and as many zeros, with gain 1 at the point `at` of the unit circle."""
    above, below = (np.real(np.pad(np.poly(roots), (0, 2 - len(poles)))) for roots in (zeros[: len(poles)], poles))
    gain = np.abs(np.polyval(below, at) / np.polyval(above, at))
    return np.concatenate([gain * above, below])
