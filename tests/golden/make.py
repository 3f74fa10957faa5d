"""Make tests/golden/golden.npz: what the deterministic pieces must give, computed without this package.

Plain NumPy and SciPy, loops where they are clearer. `python tests/golden/make.py` writes the file anew; the tests in
test_compat_golden.py compare.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import signal

RATE, N, C = 20_000.0, 8_000, 6
LOW_HZ, HIGH_FACTOR, ORDER = 300.0, 0.2, 3
RADIUS, SPIKE_SIZE, MAX_SHIFT = 60.0, 15, 3
THRESHOLD, EXCLUSION, CLEAR = 4.5, 8, 20
"""Samples: 0.4 ms and 1 ms."""


def recording() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Raw int16 traces, positions, and the samples and channels of the planted spikes."""
    rng = np.random.default_rng(7)
    geom = np.stack([20.0 * (np.arange(C) % 2), 30.0 * np.arange(C)], axis=1)
    traces = rng.normal(0, 40, (N, C))
    times = np.sort(rng.choice(np.arange(100, N - 100, 60), 80, replace=False))
    mains = rng.integers(0, C, len(times))
    t = np.arange(-20, 30)[:, None]
    for time, main in zip(times, mains, strict=True):
        gain = 900 * np.exp(-np.abs(np.arange(C) - main) / 0.8) * rng.uniform(0.9, 1.1)
        width = 3.0 if main % 2 else 4.5
        traces[time - 20 : time + 30] += gain * (
            -np.exp(-0.5 * (t / width) ** 2) + 0.4 * np.exp(-0.5 * ((t - 12) / 6) ** 2)
        )
    return np.rint(traces).astype(np.int16), geom, np.stack([times, mains], axis=1)


def white_recording(planted: np.ndarray) -> np.ndarray:
    """Some spikes in white noise of sd 1, in counts of 1/64: standardized traces as they are, never filtered."""
    rng = np.random.default_rng(8)
    traces, t = rng.normal(0, 1, (N, C)), np.arange(-20, 30)[:, None]
    for time, main in planted:
        gain = 25 * np.exp(-np.abs(np.arange(C) - main) / 0.8)
        width = 2.0 if main % 2 else 3.5
        traces[time - 20 : time + 30] -= gain * np.exp(-0.5 * (t / width) ** 2)
    return np.rint(traces * 64).astype(np.int16)


def band_passed(traces: np.ndarray) -> np.ndarray:
    """Zero-phase Butterworth of the traces, whose ends go on for ever."""
    sos = signal.butter(ORDER, [LOW_HZ, HIGH_FACTOR * RATE], "bandpass", fs=RATE, output="sos")
    padded = np.pad(traces.astype(np.float64), ((N, N), (0, 0)), mode="edge")
    return signal.sosfiltfilt(sos, padded, axis=0, padtype="constant")[N:-N]


def standardized(filtered: np.ndarray) -> np.ndarray:
    """Median zero, median of the absolute values that of a normal distribution of sd 1."""
    centred = filtered - np.median(filtered, axis=0)
    return centred / (1.4826 * np.median(np.abs(centred), axis=0))


def noise_sd(filtered: np.ndarray) -> np.ndarray:
    """YASS's formula, about zero: median(abs(x)) / 0.6745."""
    return np.median(np.abs(filtered), axis=0) / 0.6745


def neighbours(geom: np.ndarray) -> np.ndarray:
    return np.array([[np.hypot(*(a - b)) <= RADIUS for b in geom] for a in geom])


def channel_index(near: np.ndarray, geom: np.ndarray, steps: int) -> np.ndarray:
    """Neighbours of neighbours, nearest first, padded with C."""
    reached = np.linalg.matrix_power(near.astype(int), steps) > 0
    rows = []
    for c in range(C):
        members = sorted(np.flatnonzero(reached[c]), key=lambda d: (np.hypot(*(geom[d] - geom[c])), d))
        rows.append(members + [C] * (reached.sum(axis=1).max() - len(members)))
    return np.array(rows)


def detected(x: np.ndarray, geom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All spikes and which of them are clear, sample by sample as the rules say.

    A spike is at least THRESHOLD high and the largest within EXCLUSION samples on the channels within 1.5 RADIUS; of
    equal ones the earlier, then the lower channel. It is clear if no larger spike lies within CLEAR samples nearby.
    """
    strength = np.abs(x)
    near = [[d for d in range(C) if np.hypot(*(geom[c] - geom[d])) <= 1.5 * RADIUS] for c in range(C)]
    found = []
    for t, c in np.argwhere(strength >= THRESHOLD):
        mine = (-strength[t, c], t, c)
        rivals = (
            (-strength[u, d], u, d) for u in range(max(t - EXCLUSION, 0), min(t + EXCLUSION + 1, N)) for d in near[c]
        )
        if mine == min(rivals):
            found.append((t, c))
    clear = [
        not any(
            abs(u - t) <= CLEAR and d in near[c] and strength[u, d] > strength[t, c]
            for u, d in found
            if (u, d) != (t, c)
        )
        for t, c in found
    ]
    room = [SPIKE_SIZE + MAX_SHIFT <= t < N - SPIKE_SIZE - MAX_SHIFT for t, _ in found]
    return np.array(found)[room], np.array(clear)[room]


def scores(x: np.ndarray, spikes: np.ndarray, before: int, after: int, n_components: int) -> np.ndarray:
    """(n, n) products of the spikes' scores on their main channel.

    Scores are projections on the principal axes of the waveforms scaled to norm 1, about zero.
    """
    waveforms = np.stack([x[t - before : t + after + 1, c] for t, c in spikes])
    unit = waveforms / np.linalg.norm(waveforms, axis=1, keepdims=True)
    axes = np.linalg.svd(unit, full_matrices=False)[2][:n_components]
    projected = waveforms @ axes.T
    return projected @ projected.T


def cropped(templates: np.ndarray, near: np.ndarray, geom: np.ndarray) -> np.ndarray:
    """Main channel first, then its neighbours by distance, zeros where there are fewer."""
    index = channel_index(near, geom, 1)
    result = np.zeros((*templates.shape[:2], index.shape[1]))
    for k, template in enumerate(templates):
        main = np.unravel_index(np.abs(template).argmax(), template.shape)[1]
        for place, channel in enumerate(index[main]):
            if channel < C:
                result[k, :, place] = template[:, channel]
    return result


def mean_waveforms(x: np.ndarray, planted: np.ndarray, reach: int) -> np.ndarray:
    """(C, 2 reach + 1, C) mean waveform of the planted spikes of each main channel."""
    whole = planted[(planted[:, 0] >= reach) & (planted[:, 0] < N - reach)]
    return np.stack(
        [np.mean([x[t - reach : t + reach + 1] for t, main in whole if main == c], axis=0) for c in range(C)]
    )


def main() -> None:
    raw, geom, planted = recording()
    filtered = band_passed(raw)
    standard = standardized(filtered)
    counts = np.rint(standard * 64) / 64  # what the stages see
    white = white_recording(planted[::5])
    white_spikes, white_clear = detected(white / 64, geom)
    spikes, clear = detected(counts, geom)
    near = neighbours(geom)
    templates = mean_waveforms(standard, planted, 2 * SPIKE_SIZE)
    np.savez_compressed(
        Path(__file__).with_name("golden.npz"),
        raw=raw, geom=geom, planted=planted, filtered=filtered.astype(np.float32),
        standardized=standard.astype(np.float32), noise_sd=noise_sd(filtered),
        neighbours=near, channel_index_1=channel_index(near, geom, 1), channel_index_2=channel_index(near, geom, 2),
        spikes=spikes, clear=clear, white=white, white_spikes=white_spikes[white_clear],
        score_products=scores(white / 64, white_spikes[white_clear], 10, 20, 5).astype(np.float32),
        templates=templates.astype(np.float32), cropped=cropped(templates, near, geom).astype(np.float32),
    )  # fmt: skip


if __name__ == "__main__":
    main()
