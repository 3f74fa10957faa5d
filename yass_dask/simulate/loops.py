"""Background without end: coloured noise of any stretch, at the price of a few additions a value.

The noise is the sum of loops, each coloured in time and over the contacts as `noise.Noise` says. Their lengths share no
divisor, so that the sum repeats itself after 10^21 samples; one loop alone comes again twice a second, with a fifth of
the variance, below the others.
"""

from __future__ import annotations

import numpy as np

from yass_dask.simulate.noise import Noise

LENGTHS = (2**14, 3**9, 5**6, 7**5, 11**4)
"""Samples: no common divisors, and quick to transform. Longer than the filters of the noise at 30 kHz, whose ends are
folded in at other rates."""


def draw_loops(noise: Noise, count_uv: float) -> list[np.ndarray]:
    """Loops (n_channels, length) int16 in counts, for `add_loops`."""
    return [_loop(noise, index, length, count_uv) for index, length in enumerate(LENGTHS)]


def add_loops(traces: np.ndarray, loops: list[np.ndarray], start: int) -> None:
    """Add the background of samples from `start` on to (n_channels, n) int16."""
    for loop in loops:
        done, at = 0, start % loop.shape[1]
        while done < traces.shape[1]:
            n = min(loop.shape[1] - at, traces.shape[1] - done)
            traces[:, done : done + n] += loop[:, at : at + n]
            done, at = done + n, 0


def _loop(noise: Noise, index: int, length: int, count_uv: float) -> np.ndarray:
    rng = np.random.default_rng([noise.seed, 5, index])
    mixes = (noise.hum_mix, noise.hum_taps), (noise.lfp_mix, noise.lfp_taps)
    scale = np.float32(1 / (count_uv * np.sqrt(len(LENGTHS))))
    total = np.zeros((len(noise.band_sd), length), np.float32)
    for mix, taps in mixes:
        white = rng.standard_normal((len(mix), length), dtype=np.float32)
        total += (mix.T * scale).astype(np.float32) @ _filtered_round(white, taps)
    return np.rint(total).astype(np.int16)


def _filtered_round(white: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """White noise (rows, n) convolved with taps as if its end were followed by its start."""
    from scipy import fft

    length = white.shape[1]
    folded = np.bincount(np.arange(len(taps)) % length, weights=taps, minlength=length).astype(np.float32)
    response = fft.rfft(folded)
    result = np.empty_like(white)
    for row, filtered in zip(white, result, strict=True):  # one at a time: spectra of all would take gigabytes
        filtered[:] = fft.irfft(fft.rfft(row) * response, length)
    return result
