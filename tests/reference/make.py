"""Golden arrays for test_reference.py, made without the package, from the formulas in its docs.

    python tests/reference/make.py

writes golden.npz beside this file. Each piece is computed by the plainest code that does it: whole recordings
in place of blocks, loops in place of kernels, float64 throughout. Numbers are the defaults of the params
at a rate of 10 kHz, written out here once more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import signal, special

RATE = 10_000
BLOCK = 10_000
POSITIONS = np.array([[0.0, 0.0], [0.0, 60.0], [0.0, 120.0], [0.0, 180.0]])
N_SAMPLES, N_CHANNELS = 13_000, 4
PEAK, LENGTH = 10, 31
"""A template starts 1 ms before its spike and ends 2 ms after it."""
GOLDEN = Path(__file__).with_name("golden.npz")


# --- the recording ------------------------------------------------------------------------------------------


def shape(times: np.ndarray, unit: int) -> np.ndarray:
    """(n_times, n_channels) counts: a trough and a hump, falling off away from the unit's channel."""
    gains = [90, 70, 110][unit] * np.exp(-np.abs(np.arange(N_CHANNELS) - [0, 1, 3][unit]))
    width = [1.6, 2.2, 1.9][unit]
    course = -np.exp(-0.5 * (times / width) ** 2) + 0.4 * np.exp(-0.5 * ((times - 6) / (2 * width)) ** 2)
    return course[:, None] * gains


def make_recording() -> dict[str, np.ndarray]:
    """int16 traces: correlated noise, slow drift, an offset per channel, and 150 spikes of 3 units."""
    rng = np.random.default_rng(2024)
    noise = rng.normal(size=(N_SAMPLES, N_CHANNELS)) @ (np.eye(4) + 0.4 * np.eye(4, k=1)) * [6, 7, 6, 8]
    slow = 30 * np.sin(2 * np.pi * 3 * np.arange(N_SAMPLES) / RATE)[:, None]
    traces = noise + slow + np.array([0, 200, -100, 50])
    times = np.sort(rng.choice(np.arange(60, N_SAMPLES - 60, 40), 150, replace=False)) + rng.uniform(0, 1, 150)
    units = rng.integers(0, 3, 150)
    for time, unit in zip(times, units, strict=True):
        rows = np.arange(int(time) - 30, int(time) + 45)
        traces[rows] += shape(rows - time, unit)
    return {
        "traces": np.rint(traces).astype(np.int16),
        "spike_samples": np.rint(times).astype(np.int64),
        "spike_units": units,
    }


# --- preprocess ---------------------------------------------------------------------------------------------


def filtered(traces: np.ndarray) -> np.ndarray:
    """Butterworth of order 3, 300 to 4500 Hz (0.45 of the rate), forward and backward, ends constant."""
    sos = signal.butter(3, [300, 4500], "bandpass", fs=RATE, output="sos")
    return signal.sosfiltfilt(sos, traces.astype(float), axis=0, padtype="constant", padlen=2000)


def blocks(x: np.ndarray) -> list[np.ndarray]:
    return [x[start : start + BLOCK] for start in range(0, len(x), BLOCK)]


def scale(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and noise sd per channel: medians over blocks of the blocks' medians and MADs."""
    medians = [np.median(block, axis=0) for block in blocks(x)]
    mads = [np.median(np.abs(block - np.median(block, axis=0)), axis=0) for block in blocks(x)]
    return np.median(medians, axis=0), 1.4826 * np.median(mads, axis=0)


def counts(x: np.ndarray) -> np.ndarray:
    """64 counts a noise standard deviation."""
    median, sd = scale(x)
    return np.rint((x - median) / sd * 64).astype(np.int16)


def whitening(x: np.ndarray) -> np.ndarray:
    """(n_channels, n_channels) matrix, whitened = x @ matrix; column c from the channels within 150 um of c.

    The column is that of the symmetric inverse root of the local covariance, 0.05 of whose mean eigenvalue is
    added to it; the covariance is that of samples 1 ms away from anything beyond 4 sd on both channels.
    """
    products, n = np.zeros((N_CHANNELS, N_CHANNELS)), np.zeros((N_CHANNELS, N_CHANNELS))
    for block in blocks(x):
        quiet = np.array([
            [not (np.abs(block[max(0, t - 10) : t + 11, c]) > 4).any() for c in range(N_CHANNELS)]
            for t in range(len(block))
        ])  # fmt: skip
        for c in range(N_CHANNELS):
            for d in range(N_CHANNELS):
                both = quiet[:, c] & quiet[:, d] & (block != 0).any(axis=1)
                products[c, d] += (block[both, c] * block[both, d]).sum()
                n[c, d] += both.sum()
    covariance = products / n
    matrix = np.zeros((N_CHANNELS, N_CHANNELS))
    for c in range(N_CHANNELS):
        near = np.flatnonzero(distance()[c] <= 150)
        values, vectors = np.linalg.eigh(covariance[np.ix_(near, near)])
        root = (vectors / np.sqrt(values + 0.05 * values.mean())) @ vectors.T
        matrix[near, c] = root[:, np.flatnonzero(near == c)[0]]
    return matrix


def distance() -> np.ndarray:
    return np.linalg.norm(POSITIONS[:, None] - POSITIONS[None], axis=2)


# --- peaks --------------------------------------------------------------------------------------------------


def peaks(white: np.ndarray) -> np.ndarray:
    """(n, 3) sample, channel, clear: from 4.5 sd, none larger within 100 um and 0.4 ms (clear: 1 ms)."""
    near = distance() <= 100
    strength = np.abs(white)
    found = []
    for t, c in np.argwhere(strength >= 4.5):
        around = strength[max(0, t - 4) : t + 5, near[c]]
        if strength[t, c] >= around.max():
            found.append((t, c))
    clear = [
        not any(abs(t - u) <= 10 and near[c, d] and strength[u, d] > strength[t, c] for u, d in found) for t, c in found
    ]
    return np.column_stack([np.array(found), clear]).astype(np.int64)


# --- waveforms ----------------------------------------------------------------------------------------------


def at(x: np.ndarray, sample: int, channel: int, offset: int) -> float:
    """A sample of a channel, zero outside the recording."""
    return float(x[sample + offset, channel]) if 0 <= sample + offset < len(x) else 0.0


def sixteenths(left: float, middle: float, right: float) -> int:
    """Top of the parabola through three samples, in sixteenths of a sample, halves up."""
    offset = 0.5 * (left - right) / (left - 2 * middle + right)
    return int(np.clip(np.floor(16 * offset + 0.5), -8, 8))


def interpolated(x: np.ndarray, sample: int, channel: int, fraction: float) -> float:
    """The signal `fraction` of a sample later: a Kaiser-windowed (beta 5) sinc, 5 samples to each side.

    Its weights are normalised to sum 1.
    """
    weights, value = [], 0.0
    for m in range(-5, 6):
        u = m - fraction
        window = special.i0(5 * np.sqrt(max(0.0, 1 - (u / 6) ** 2))) / special.i0(5)
        weights.append(np.sinc(u) * window)
        value += weights[-1] * at(x, sample, channel, m)
    return value / sum(weights)


def waveform(x: np.ndarray, sample: int, channel: int, fraction: float, before: int, n: int) -> np.ndarray:
    return np.array([interpolated(x, sample - before + w, channel, fraction) for w in range(n)])


def main_fraction(white: np.ndarray, sample: int, channel: int) -> float:
    return sixteenths(*(at(white, sample, channel, d) for d in (-1, 0, 1))) / 16


# --- the noise's autocovariance -----------------------------------------------------------------------------


def clipped_autocovariance(white: np.ndarray) -> np.ndarray:
    """(51,) lags up to 5 ms, traces clipped at 4 sd, mean over channels, block by block."""
    total = np.zeros(51)
    padded = np.pad(white, ((0, -len(white) % BLOCK), (0, 0)))
    for start in range(0, len(padded), BLOCK):
        block = np.clip(padded[start : start + BLOCK], -4, 4)
        for lag in range(51):
            total[lag] += (block[: len(block) - lag] * block[lag:]).sum() / N_CHANNELS
    return total / len(white)  # what fills up the last block is no noise


# --- basis and features -------------------------------------------------------------------------------------

BEFORE, WINDOW = 5, 16
"""0.5 ms before a peak to 1 ms after."""


def quiet_autocovariance(white: np.ndarray) -> np.ndarray:
    """(16,) of the samples that have none beyond 4 robust sd within 1 ms; blocks with a halo of 22."""
    total, number = np.zeros(WINDOW), np.zeros(WINDOW)
    padded = np.pad(white, ((22, 2 * BLOCK - len(white) + 22), (0, 0)))
    for start in range(0, len(white), BLOCK):
        block = padded[start : start + BLOCK + 44]
        for x in block.T:
            loud = np.flatnonzero(np.abs(x) > 4 * 1.4826 * np.median(np.abs(x)))
            quiet = np.array([not len(loud) or np.abs(loud - t).min() > 10 for t in range(len(x))])
            for lag in range(WINDOW):
                both = quiet[: len(x) - lag] & quiet[lag:]
                total[lag] += (x[: len(x) - lag] * x[lag:])[both].sum()
                number[lag] += both.sum()
    return total / number


def basis(white: np.ndarray, clear: np.ndarray) -> np.ndarray:
    """(16, 5): principal components of unit-norm waveforms, made to give noise identity covariance."""
    cut = np.array([waveform(white, t, c, main_fraction(white, t, c), BEFORE, WINDOW) for t, c in clear])
    cut /= np.linalg.norm(cut, axis=1, keepdims=True)
    _, vectors = np.linalg.eigh(cut.T @ cut)
    components = vectors[:, ::-1][:, :5]
    toeplitz = quiet_autocovariance(white)[np.abs(np.subtract.outer(np.arange(WINDOW), np.arange(WINDOW)))]
    noise = components.T @ toeplitz @ components
    noise += 1e-3 * np.trace(noise) / 5 * np.eye(5)
    return components @ np.linalg.inv(np.linalg.cholesky(noise)).T


def features(white: np.ndarray, clear: np.ndarray, project: np.ndarray) -> np.ndarray:
    """(n, 3, 5) features on the channels within 100 um, nearest first, zeros where there are fewer."""
    result = np.zeros((len(clear), 3, 5))
    for i, (t, c) in enumerate(clear):
        order = sorted(np.flatnonzero(distance()[c] <= 100).tolist(), key=lambda d: (distance()[c, d], d))
        for k, d in enumerate(order):
            result[i, k] = waveform(white, t, d, main_fraction(white, t, c), BEFORE, WINDOW) @ project
    return result


# --- templates and their overlaps ---------------------------------------------------------------------------


def averages(x: np.ndarray, samples: np.ndarray, units: np.ndarray) -> np.ndarray:
    """(3, 51, 4) mean traces around each unit's spikes, 10 samples more on both sides than a template."""
    cut = np.array([[x[t - PEAK - 10 + w] for w in range(LENGTH + 20)] for t in samples])
    return np.stack([cut[units == unit].mean(axis=0) for unit in range(3)])


def overlaps(white_templates: np.ndarray) -> np.ndarray:
    """(3, 3, 61): [u, v, lag + 30] = sum over t, c of w_u[t + lag, c] w_v[t, c]."""
    result = np.zeros((3, 3, 2 * LENGTH - 1))
    for u in range(3):
        for v in range(3):
            for lag in range(-LENGTH + 1, LENGTH):
                rows = [(t + lag, t) for t in range(LENGTH) if 0 <= t + lag < LENGTH]
                result[u, v, lag + LENGTH - 1] = sum(white_templates[u, a] @ white_templates[v, b] for a, b in rows)
    return result


def compute(recording: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All golden arrays of a recording."""
    band = filtered(recording["traces"])
    median, sd = scale(band)
    clean = counts(band)
    x = clean / 64
    matrix = whitening(x)
    white = x @ matrix
    found = peaks(white)
    clear = found[found[:, 2] == 1, :2]
    project = basis(white, clear)
    means = averages(x, recording["spike_samples"], recording["spike_units"])
    templates = means[:, 10 : 10 + LENGTH]
    return {
        "filtered": band[::50].astype(np.float32),
        "median": median,
        "sd": sd,
        "counts": clean,
        "whitening": matrix,
        "peaks": found,
        "autocovariance": clipped_autocovariance(white),
        "basis": project,
        "features": features(white, clear, project).astype(np.float32),
        "averages": means.astype(np.float32),
        "overlaps": overlaps(templates @ matrix).astype(np.float32),
    }


if __name__ == "__main__":
    made = make_recording()
    np.savez_compressed(GOLDEN, **made, **compute(made))
