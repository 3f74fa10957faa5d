"""Spikes around the borders of blocks, and around the ends of a recording: none lost, none doubled.

A low sampling rate makes blocks small (a block is one second): a few hundred samples hold many borders.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import dask
import numpy as np
import planted
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from yass_dask import geometry
from yass_dask.chunked import LazyParts, Stride
from yass_dask.deconvolve import (
    BANK_NUMBERS,
    DeconvolveParams,
    StoredBank,
    deconvolve,
    deconvolve_apart,
)
from yass_dask.detect import DetectParams, detect
from yass_dask.events import Events
from yass_dask.noise import Noise
from yass_dask.preprocess import COUNTS_PER_SD, Clean, Scale
from yass_dask.readers import from_array
from yass_dask.residual import residual
from yass_dask.sizes import Sizes, steady
from yass_dask.templates import Templates

RATE = 300.0
BLOCK = 300
N_CHANNELS = 5
CHUNKINGS = (1, 2, 3, 100)
"""Blocks a task; 100: the whole recording at once."""
BACKENDS = ("numpy", "numba")
UNITS = planted.shapes(3, N_CHANNELS)
WAVEFORMS = planted.waveforms(UNITS)
STEADY = steady(len(UNITS))
NO_NOISE = Noise(np.ones((N_CHANNELS, 1), np.float32), np.arange(N_CHANNELS, dtype=np.int32)[:, None])
"""Whitening that leaves the traces as they are, to the bit."""

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def clean_of(traces_sd: np.ndarray, chunk_blocks: int) -> Clean:
    """Clean traces of given noise standard deviations, rounded to counts."""
    counts = np.rint(traces_sd * COUNTS_PER_SD).astype(np.int16)
    recording = from_array(counts, RATE, geometry.linear(N_CHANNELS)).with_chunks(chunk_blocks)
    assert recording.block_samples == BLOCK
    ones = np.ones(N_CHANNELS, np.float32)
    return Clean(recording, Scale(0 * ones, ones, np.zeros(N_CHANNELS, bool)))


def compute(lazy: LazyParts) -> Any:
    """A stage's result, as the store would open it."""
    parts = dask.compute(*lazy.parts.values(), scheduler="sync")
    return lazy.open({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


class Problem(NamedTuple):
    """Spikes on a recording of so many samples."""

    n_samples: int
    times: tuple[int, ...]
    labels: tuple[int, ...]

    def traces(self, noise: float) -> np.ndarray:
        clean = planted.plant(
            self.n_samples, UNITS, np.array(self.times), np.array(self.labels), np.ones(len(self.times))
        )
        return clean + noise * np.random.default_rng(len(self.times)).normal(size=clean.shape)

    @property
    def spikes(self) -> list[tuple[int, int]]:
        return sorted(zip(self.times, self.labels, strict=True))


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Spikes near borders, at the ends and anywhere; those of one unit 30 samples apart, others 8.

    The last block is short, down to a few samples. A spike's trough lies within the recording.
    """
    n_samples = BLOCK * draw(st.integers(1, 4)) + draw(st.sampled_from([0, 1, 2, 12, 50, 93, 150, 299]))
    borders = st.sampled_from([*range(0, n_samples + 1, BLOCK), n_samples])
    offsets = st.one_of(st.sampled_from([-1, 0, 1]), st.integers(-110, 110))
    taken: list[tuple[int, int]] = []
    for border, offset, unit in draw(st.lists(st.tuples(borders, offsets, st.integers(0, 2)), min_size=1, max_size=14)):
        time = border + offset
        fits = 9 <= time < n_samples - 9
        if fits and all(abs(time - at) >= (30 if unit == other else 8) for at, other in taken):
            taken.append((time, unit))
    times, labels = zip(*sorted(taken), strict=True) if taken else ((), ())
    return Problem(n_samples, times, labels)


# --- pursuit ------------------------------------------------------------------------------------------------


def stored_bank(sizes: Sizes) -> StoredBank:
    fields = planted.bank(WAVEFORMS)._asdict()
    arrays = {k: np.array([v]) if k in BANK_NUMBERS else v for k, v in fields.items()}
    return StoredBank(arrays | sizes._asdict())


def pursued(traces: np.ndarray, chunk_blocks: int, backend: str, sizes: Sizes = STEADY) -> dict[str, np.ndarray]:
    """Spikes of both passes."""
    clean, bank, params = clean_of(traces, chunk_blocks), stored_bank(sizes), DeconvolveParams(n_sweeps=3)
    apart = clean.strided(Stride(2))
    even = compute(deconvolve_apart(apart, NO_NOISE, bank, planted.N_SAMPLES, params, backend))
    assert not (even.load()["sample_index"] // BLOCK % 2).any()
    return compute(deconvolve(clean, NO_NOISE, bank, planted.N_SAMPLES, even, params, backend)).load()


def places(spikes: dict[str, np.ndarray]) -> list[tuple[int, int]]:
    return list(zip(spikes["sample_index"].tolist(), spikes["unit_index"].tolist(), strict=True))


def both_sides(border: int) -> Problem:
    """At a border, one sample before another, one after a third; pairs that overlap across each."""
    times = (BLOCK * border - 5, BLOCK * border + 5, 2 * BLOCK - 1, 2 * BLOCK + 8, 3 * BLOCK, 3 * BLOCK + 9)
    return Problem(4 * BLOCK + 40, times, (0, 1, 1, 2, 2, 0))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("noise", [0.0, 0.5])
@quick
@given(problem=problems())
@example(problem=both_sides(1))
@example(problem=Problem(3 * BLOCK + 12, (3 * BLOCK - 1, 2 * BLOCK, BLOCK - 1), (0, 1, 2)))
@example(problem=Problem(2 * BLOCK, (10, BLOCK, 2 * BLOCK - 10), (0, 1, 2)))
def test_pursuit_finds_each_planted_spike_once(backend, noise, problem):
    found = [pursued(problem.traces(noise), chunk_blocks, backend) for chunk_blocks in CHUNKINGS]
    for other in found[1:]:
        for name, values in found[0].items():
            np.testing.assert_array_equal(values, other[name], err_msg=name)
            assert values.dtype == other[name].dtype
    spikes = places(found[0])
    assert spikes == sorted(spikes)
    assert matched(problem, spikes, 0 if noise == 0 else 1)
    np.testing.assert_allclose(found[0]["amplitude"], 1, atol=0.1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_pursuit_of_units_that_shrink(backend):
    """Down to a fifth, where no amplitude of the whole template is allowed; at borders the sizes differ a little."""
    n_samples, times = 12 * BLOCK, np.arange(40, 12 * BLOCK - 40, 37)
    times = np.sort(np.append(times, np.arange(1, 12) * BLOCK + 3))
    times = times[np.append(True, np.diff(times) > 20)]
    labels = np.arange(len(times)) % 3
    course = np.where(labels == 0, 1.4 - 1.2 * times / n_samples, 1.0)
    traces = planted.plant(n_samples, UNITS, times, labels, course)
    knots = np.tile([0.0, n_samples], (len(UNITS), 1))
    sizes = Sizes(knots, np.float32([[1.4, 0.2], [1, 1], [1, 1]]))
    found = [pursued(traces, chunk_blocks, backend, sizes) for chunk_blocks in (1, 3, 100)]
    for other in found[1:]:
        for name, values in found[0].items():
            np.testing.assert_array_equal(values, other[name], err_msg=name)
            assert values.dtype == other[name].dtype
    assert places(found[0]) == list(zip(times.tolist(), labels.tolist(), strict=True))
    np.testing.assert_allclose(found[0]["amplitude"], course, rtol=0.1)
    lost = len(times) - len(pursued(traces, 100, backend)["sample_index"])
    assert lost > 5  # which were found because the size was told


def matched(problem: Problem, found: list[tuple[int, int]], tolerance: int) -> bool:
    """Whether found and planted spikes are the same, one to one.

    Where the recording's end cuts a template off, its time may be one sample away even without noise.
    """
    pairs = []
    for unit in range(len(UNITS)):
        planted_at, found_at = ([t for t, u in spikes if u == unit] for spikes in (problem.spikes, found))
        assert len(planted_at) == len(found_at), f"unit {unit}: planted {planted_at}, found {found_at}"
        pairs += zip(planted_at, found_at, strict=True)
    for at, there in pairs:
        is_whole = planted.PEAK <= at < problem.n_samples - (planted.N_SAMPLES - planted.PEAK)
        assert abs(at - there) <= (tolerance if is_whole else 1), f"planted at {at}, found at {there}"
    return True


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("offset", range(-3, 4))
def test_pursuit_of_a_spike_between_samples_at_a_border(backend, offset):
    """Half way between two samples, one on each side of a border: each block could leave it to the other."""
    for border in (BLOCK, 2 * BLOCK):
        for fraction in (-0.5, -0.4, 0.4, 0.5):
            traces = planted.plant(3 * BLOCK, UNITS, np.array([border + offset + fraction]), np.array([1]), np.ones(1))
            found = [pursued(traces, chunk_blocks, backend) for chunk_blocks in (1, 100)]
            assert places(found[0]) == places(found[1])
            assert len(found[0]["sample_index"]) == 1
            assert abs(int(found[0]["sample_index"][0]) - (border + offset + fraction)) <= 0.5


@pytest.mark.parametrize("backend", BACKENDS)
def test_refractory_time_holds_across_a_border(backend):
    """Two bumps of one unit closer than its refractory time, one on each side of a border."""
    for border in (BLOCK, 2 * BLOCK):
        times = np.array([border - 6, border + 6])
        traces = planted.plant(3 * BLOCK, UNITS, times, np.array([1, 1]), np.ones(2))
        found = [pursued(traces, chunk_blocks, backend) for chunk_blocks in (1, 100)]
        assert places(found[0]) == places(found[1])
        samples = found[0]["sample_index"][found[0]["unit_index"] == 1]
        assert len(samples) == 1 or np.diff(samples).min() > 20


@quick
@given(problem=problems())
def test_the_residual_of_noise_free_traces_is_nothing(problem):
    clean = clean_of(problem.traces(0.0), 2)
    spikes = Events(pursued(problem.traces(0.0), 2, "numba"))
    channels = np.tile(np.arange(N_CHANNELS, dtype=np.int32), (3, 1))
    templates = Templates(WAVEFORMS, channels, np.full(3, 100), np.arange(3), planted.PEAK, N_CHANNELS)
    left = residual(clean, templates, spikes).traces.compute(scheduler="sync")
    whole = residual(clean_of(problem.traces(0.0), 100), templates, spikes).traces.compute(scheduler="sync")
    np.testing.assert_array_equal(left, whole)
    away = np.ones(problem.n_samples, bool)
    for time in problem.times:
        if not planted.PEAK <= time < problem.n_samples - (planted.N_SAMPLES - planted.PEAK):
            away[max(0, time - 60) : time + 60] = False
    # Rounding to counts, and what overlapping spikes leave after three sweeps.
    assert np.abs(left[away]).max(initial=0) < 0.1 * np.abs(WAVEFORMS).max()


# --- detection ----------------------------------------------------------------------------------------------

DETECT = DetectParams(method="threshold", threshold_sd=3.0, exclusion_ms=15.0, clear_ms=40.0, radius_um=30.0)
EXCLUSION, CLEAR = 5, 12
"""Samples: 15 ms is 4.5 of them, and halves go up."""


def detected(
    traces: np.ndarray, chunk_blocks: int, backend: str, params: DetectParams = DETECT
) -> dict[str, np.ndarray]:
    return compute(detect(clean_of(traces, chunk_blocks), NO_NOISE, params, backend)).load()


def neighbors() -> np.ndarray:
    """A channel and the ones beside it, padded."""
    lists = [[c, *(d for d in (c - 1, c + 1) if 0 <= d < N_CHANNELS)] for c in range(N_CHANNELS)]
    return np.array([near + [N_CHANNELS] * (3 - len(near)) for near in lists])


def clear_by_the_words(peaks: list[tuple[int, int]], x: np.ndarray) -> list[bool]:
    """A peak is clear if no larger one lies within the radius and the time."""
    return [
        not any(
            abs(t - u) <= CLEAR and abs(c - d) <= 1 and abs(x[u, d]) > abs(x[t, c])
            for u, d in peaks
            if (u, d) != (t, c)
        )
        for t, c in peaks
    ]


@pytest.mark.parametrize("backend", BACKENDS)
@quick
@given(problem=problems(), coarse=st.booleans())
@example(problem=both_sides(1), coarse=True)
def test_detection_knows_no_borders(backend, problem, coarse):
    """The peaks are those of the whole recording as one piece; whole numbers make ties at borders."""
    x = problem.traces(1.0)
    x = np.rint(x) if coarse else np.rint(x * COUNTS_PER_SD) / COUNTS_PER_SD
    options = {"threshold": 3.0, "sign": 0, "exclusion": EXCLUSION, "neighbors": neighbors()}
    expected = planted.peaks_by_the_words(x, first=0, stop=len(x), **options)
    for chunk_blocks in CHUNKINGS:
        found = detected(x, chunk_blocks, backend)
        assert list(zip(found["sample_index"].tolist(), found["channel_index"].tolist(), strict=True)) == expected
        np.testing.assert_array_equal(found["is_clear"], clear_by_the_words(expected, x))
        np.testing.assert_array_equal(found["amplitude"], [x[t, c] for t, c in expected])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("offset", [-EXCLUSION - 1, -EXCLUSION, -1, 0, 1, EXCLUSION, EXCLUSION + 1])
def test_detection_of_one_spike_around_each_border(backend, offset):
    for border in (BLOCK, 2 * BLOCK, 3 * BLOCK):
        time = border + offset
        traces = planted.plant(3 * BLOCK + 20, UNITS, np.array([time]), np.array([0]), np.ones(1))
        for chunk_blocks in CHUNKINGS:
            found = detected(traces, chunk_blocks, backend, DetectParams(**DETECT.model_dump() | {"threshold_sd": 6.0}))
            assert found["sample_index"].tolist() == [time]


@pytest.mark.parametrize("backend", BACKENDS)
def test_peaks_on_the_first_and_last_sample(backend):
    x = np.zeros((2 * BLOCK + 1, N_CHANNELS))
    x[0, 0] = x[-1, 4] = 8
    for chunk_blocks in CHUNKINGS:
        assert detected(x, chunk_blocks, backend)["sample_index"].tolist() == [0, 2 * BLOCK]
