"""Units whose spikes grow or shrink: the size that is followed over time, and the bank at a size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yass_dask.deconvolve import NEGLIGIBLE_SD, DeconvolveParams, at_size, bank_of
from yass_dask.merge import Revision
from yass_dask.noise import Noise
from yass_dask.refine import Units
from yass_dask.results import _fitted
from yass_dask.sizes import LARGEST, Sizes, followed, last_sizes, measure_sizes, steady, unheld
from yass_dask.templates import Templates

RATE = 30_000
LENGTH = 600 * RATE
N_CHANNELS = 6


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def times(n: int, seed: int = 0) -> np.ndarray:
    return np.sort(rng(seed).integers(0, LENGTH, n))


def sizes_at(samples: np.ndarray, sizes: np.ndarray, at: np.ndarray) -> np.ndarray:
    knots, values = followed(samples, sizes)
    return np.interp(at, knots, values)


# --- one unit's size over time ---


@pytest.mark.parametrize("n", [130, 400, 1000])
@pytest.mark.parametrize("spread", [0.02, 0.15])
@pytest.mark.parametrize("seed", range(5))
def test_a_steady_unit_has_size_one(n, spread, seed):
    """Exactly: the sort is the same as without. A mean of 0.9 is no change."""
    sizes = 0.9 + spread * rng(seed + 10).normal(size=n)
    assert (followed(times(n, seed), sizes)[1] == 1).all()


@pytest.mark.parametrize("seed", range(10))
def test_bursts_are_no_change(seed):
    """Sizes fall within each burst, and bursts come at random."""
    starts = np.sort(rng(seed).integers(0, LENGTH, 150))
    lengths = rng(seed + 1).integers(1, 8, 150)
    samples = np.concatenate([start + 150 * np.arange(n) for start, n in zip(starts, lengths, strict=True)])
    sizes = np.concatenate([0.85 ** np.arange(n) for n in lengths])
    assert (followed(samples, sizes)[1] == 1).all()


@pytest.mark.parametrize("shape", ["falls", "rises", "turns", "jumps"])
def test_a_size_that_changes_is_followed_up_to_both_ends(shape):
    samples = times(1000)
    course = {
        "falls": lambda t: 1.5 - t,
        "rises": lambda t: 0.5 + t,
        "turns": lambda t: 1 + 0.4 * np.sin(2 * np.pi * t),
        "jumps": lambda t: np.where(t < 0.6, 1.2, 0.6),
    }[shape]
    sizes = course(samples / LENGTH) * (1 + 0.1 * rng(1).normal(size=1000))
    at = np.linspace(0.002, 0.998, 200)
    error = np.abs(sizes_at(samples, sizes, at * LENGTH) - course(at))
    far = error[(at < 0.5) | (at > 0.7)] if shape == "jumps" else error
    assert far.max() < 0.1 and np.median(error) < 0.03


def test_a_unit_of_few_spikes_is_left_alone():
    samples = times(100)
    assert (followed(samples, 1.5 - samples / LENGTH)[1] == 1).all()
    assert (followed(samples[:0], samples[:0].astype(float))[1] == 1).all()


def test_what_pursuit_held_to_one_is_undone():
    n, k, c = 36.0, 1 / 0.15**2, 18.0
    held = (c + k) / (n + k)
    assert unheld(np.array([held]), np.array([6.0]), 0.15)[0] == pytest.approx(c / n)


def test_sizes_between_and_beyond_the_knots():
    sizes = Sizes(np.array([[0.0, 10.0], [0.0, 0.0]]), np.float32([[1.5, 0.5], [1, 1]]))
    assert sizes.changes.tolist() == [True, False]
    assert sizes.at(2.5).tolist() == [1.25, 1.0]
    np.testing.assert_allclose(sizes.of(np.array([0, 1, 0, 0]), np.array([5, 5, -3, 99])), [1, 1, 1.5, 0.5])
    assert not steady(3).changes.any()


# --- units from round to round ---


def some_templates(n_units: int = 3) -> Templates:
    time = np.arange(40) - 15
    shapes = [-np.exp(-0.5 * (time / width) ** 2) for width in (3, 4, 5)][:n_units]
    fall = np.float32([1.0, 0.6, 0.3, 0.1, 0, 0])
    waveforms = np.stack([12 * np.outer(shape, fall) for shape in shapes]).astype(np.float32)
    channels = np.stack([(np.arange(N_CHANNELS) + u) % N_CHANNELS for u in range(n_units)]).astype(np.int32)
    return Templates(waveforms, channels, np.full(n_units, 5000), np.arange(n_units), 15, N_CHANNELS)


def measured(units: Units, revision: Revision, renewed: Units) -> Sizes:
    lazy = measure_sizes(units, revision, renewed, 0.15)
    return lazy.open(next(iter(lazy.parts.values())).compute(scheduler="sync")).load()


def test_sizes_go_with_the_spikes_of_units_that_were_joined_or_dropped():
    """Unit 0 falls; its late small spikes were unit 1's, of half the size, and join it. Unit 2 is dropped."""
    old = some_templates()
    old = replace(old, waveforms=np.stack([old.waveforms[0], 0.5 * old.waveforms[0], old.waveforms[2]]),
                  channels=old.channels[[0, 0, 2]])  # fmt: skip
    samples = times(900)
    course = 1.2 - 0.9 * samples / LENGTH
    piece = (samples > 0.6 * LENGTH).astype(np.int32)
    amplitude = np.where(piece == 1, course / 0.5, course)
    members = {"sample_index": samples, "unit_index": piece, "amplitude": amplitude.astype(np.float32)}
    one = np.arange(3)
    revision = Revision(members, one, one, np.array([540, 360, 50]), np.array([0, 0, -1]), [])
    levels = np.array([1e4, 1e4, 1e4])  # so far from nothing that pursuit held no amplitude
    new = old.select(np.array([0]))
    found = measured(Units(old, levels, 3, []), revision, Units(new, levels[:1], 3, []))
    at = np.linspace(0.01, 0.99, 50)
    assert len(found.values) == 1 and found.changes.all()
    np.testing.assert_allclose([found.at(t * LENGTH)[0] for t in at], 1.2 - 0.9 * at, atol=0.06)
    assert found.values.max() < LARGEST


def test_new_units_are_steady():
    units = Units(some_templates(), np.full(3, 20.0), 3, [])
    nothing = {"sample_index": np.zeros(0, int), "unit_index": np.zeros(0, int), "amplitude": np.zeros(0)}
    none = np.zeros(0, np.int64)
    found = measured(
        Units(some_templates(), np.full(3, 20.0), 3, []), Revision(nothing, none, none, none, none, []), units
    )
    assert (found.values == 1).all() and len(found.values) == 3


# --- the bank at a size ---


def test_the_bank_at_a_size_is_that_of_templates_of_this_size():
    templates, params = some_templates(), DeconvolveParams()
    noise = Noise(np.ones((N_CHANNELS, 1), np.float32), np.arange(N_CHANNELS, dtype=np.int32)[:, None])
    bank = bank_of(templates, noise, 24, params)
    assert at_size(bank, np.ones(3, np.float32), params) is bank
    size = np.float32([0.5, 1.0, 1.7])
    expected = bank_of(replace(templates, waveforms=templates.waveforms * size[:, None, None]), noise, 24, params)
    found = at_size(bank, size, params)
    both = (found.pair_overlap != 0) & (expected.pair_overlap != 0)
    np.testing.assert_allclose(found.pair_overlap[both], expected.pair_overlap[both], rtol=1e-4, atol=1e-2)
    # What is negligible is set to 0 before the templates are scaled.
    negligible = NEGLIGIBLE_SD * np.sqrt(expected.norms.max()) * size.max()
    assert np.abs(found.pair_overlap - expected.pair_overlap)[~both].max() <= negligible
    assert both.mean() > 0.3
    for name in ("norms", "thresholds", "noise", "precision"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-4, err_msg=name)
    product = [np.einsum("urt,urc->utc", one.temporal, one.spatial) for one in (found, expected)]
    np.testing.assert_allclose(*product, atol=1e-3)


# --- the end of a sort ---


@pytest.mark.parametrize("follow", [True, False])
def test_a_unit_found_in_the_last_round_is_judged_by_its_size_at_each_time(follow):
    """Its template is that of its largest spikes; it falls to a third, and is no noise for that."""
    level, samples = 14.0, times(800)
    course = 1.0 - 0.7 * samples / LENGTH
    log_odds = 0.5 * level**2 * course**2 + level * course * rng(2).normal(size=800)
    kept = log_odds > 6
    fields = {
        "unit_index": np.zeros(kept.sum(), np.int32),
        "sample_index": samples[kept],
        "amplitude": ((course * level**2 + 44.4) / (level**2 + 44.4))[kept].astype(np.float32),
        "log_odds": log_odds[kept].astype(np.float32),
    }
    units = Units(some_templates(1), np.array([level]), 1, [])
    fits = _fitted(fields, units, DeconvolveParams(follow_sizes=follow), LENGTH, None)
    assert fits.centre[0] > 0.85 if follow else fits.centre[0] < 0.7
    assert last_sizes(fields, units, 0.15).changes.all()
    steadily = fields | {"amplitude": np.ones(kept.sum(), np.float32)}
    assert not last_sizes(steadily, units, 0.15).changes.any()
