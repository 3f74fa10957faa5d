"""What makes a unit no unit of its own: two others at once, artifacts, picked noise; and whitening along time."""

from __future__ import annotations

import numpy as np
import pytest
from test_stages import EYE, SHAPES, moved, templates_of

from yass_dask.features import _basis
from yass_dask.merge import surely_independent
from yass_dask.noise import Noise
from yass_dask.preprocess import artifacts
from yass_dask.sums import without_sums

REACH = 20


def sums(third: np.ndarray, n_spikes: list[int], trains: dict[int, np.ndarray] | None = None) -> list[int]:
    """Ids that are left of two units and a third."""
    templates = templates_of(np.stack([moved(SHAPES[0], 0), moved(SHAPES[1], 0), third]), n_spikes)
    kept, audit = without_sums(templates, EYE, REACH, trains)
    assert sorted(kept.ids.tolist() + [line["unit"] for line in audit]) == [100, 101, 102]
    return kept.ids.tolist()


@pytest.mark.parametrize("samples", [0, 4, -6])
def test_two_units_at_once_are_no_third(samples):
    assert sums(moved(SHAPES[0], 0) + moved(SHAPES[1], samples), [100, 100, 10]) == [100, 101]


def test_another_unit_is_kept():
    assert sums(moved(SHAPES[2], 0), [100, 100, 10]) == [100, 101, 102]


def test_half_of_one_and_half_of_another_is_a_unit_between():
    assert sums(0.4 * moved(SHAPES[0], 0) + 0.4 * moved(SHAPES[1], 0), [100, 100, 10]) == [100, 101, 102]


def test_a_unit_that_fires_as_often_as_the_others_is_no_sum():
    assert sums(moved(SHAPES[0], 0) + moved(SHAPES[1], 0), [100, 100, 60]) == [100, 101, 102]


def test_one_unit_and_a_part_of_another_is_no_third_if_it_is_rare():
    mostly = moved(SHAPES[0], 0) + 0.2 * moved(SHAPES[2], 0)
    assert sums(mostly, [1000, 1000, 20]) == [100, 101]
    assert sums(mostly, [1000, 1000, 100]) == [100, 101, 102]


def test_units_of_fewer_spikes_explain_nothing():
    assert sums(moved(SHAPES[0], 0) + moved(SHAPES[1], 0), [100, 5, 10]) == [100, 101, 102]


def test_what_one_unit_leaves_over_of_another_explains_nothing():
    """Spikes of 101 that always come with those of 100 are its leftovers; units that were not pursued do not count."""
    both = moved(SHAPES[0], 0) + moved(SHAPES[1], 0)
    times = np.arange(100) * 1000
    assert sums(both, [100, 100, 10], {100: times, 101: times + 500, 102: times[:10]}) == [100, 101]
    assert sums(both, [100, 100, 10], {100: times, 101: times + 5, 102: times[:10]}) == [100, 101, 102]
    assert sums(both, [100, 100, 10], {100: times}) == [100, 101, 102]


def test_once_pursued_a_unit_that_fires_often_is_no_sum():
    """At first spikes are counted only as far as they were averaged; later all are."""
    both = moved(SHAPES[0], 0) + moved(SHAPES[1], 14)
    times = np.arange(100) * 1000
    assert sums(both, [100, 100, 20]) == [100, 101]
    assert sums(both, [100, 100, 20], {100: times, 101: times + 500, 102: times[:20]}) == [100, 101, 102]


def test_what_hits_most_channels_at_once_is_an_artifact():
    traces = np.zeros((200, 40))
    traces[100, :35] = -9.0
    traces[50, :20] = 30.0  # a neuron on half of the channels
    loud = np.count_nonzero(np.abs(traces) > 8.0, axis=1)
    assert np.flatnonzero(artifacts(loud, traces.shape[1], 10)).tolist() == list(range(80, 101))
    assert not artifacts(np.full(200, 23), 23, 10).any()


def test_whitened_in_time_noise_is_white_within_the_band():
    rate, lags = 20000.0, np.arange(101)
    coloured = 0.6**lags
    taps = EYE.in_time(coloured, rate, None).taps
    assert taps is not None and np.allclose(taps, taps[::-1], atol=1e-6)
    both = np.concatenate([coloured[:0:-1], coloured])
    after = np.convolve(both, np.convolve(taps, taps), mode="same")[100:]
    assert np.abs(after[1:10] / after[0]).max() < 0.25 < coloured[1]
    assert isinstance(EYE.in_time(coloured, rate, 6000.0), Noise)


@pytest.mark.parametrize(("found", "expected", "independent"), [(7, 7.2, True), (0, 7.2, False), (2, 20.0, False)])
def test_joint_firing_is_tested_with_its_power(found, expected, independent):
    assert surely_independent(found, expected) is independent


def test_a_basis_comes_of_lags_that_do_not_fit_together():
    """Lags over a handful of quiet samples: no covariance at all, but a basis all the same."""
    shapes = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    waveform = (shapes * np.arange(8, 0, -1)) @ shapes.T
    products = np.array([[1.0, -3.0, 2.0, 3.0, -2.0, 1.0, 0.0, 0.0]])
    basis = _basis({"waveform": waveform[None], "products": products, "count": np.ones((1, 8))}, 2, 5)
    assert basis.project.shape == (8, 5) and np.isfinite(basis.project).all()
