"""Templates of spikes that were chosen for their size: how much too large they are is found and taken off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_sizes import some_templates

from yass_dask.deconvolve import DeconvolveParams
from yass_dask.merge import Revision
from yass_dask.pipeline import SortParams
from yass_dask.refine import Units, excess_of
from yass_dask.selection import Selection

SURE = Selection.of(SortParams().refining().deconvolve)
AMPLITUDE_SD = DeconvolveParams().amplitude_sd


def held(best: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Amplitudes that pursuit holds to 1, of those that fit the traces best, and whether it accepts them."""
    hold, squares = AMPLITUDE_SD**-2, level**2
    amplitude = (best * squares + hold) / (squares + hold)
    gain = 2 * amplitude * best * squares - amplitude**2 * squares - hold * (amplitude - 1) ** 2
    return amplitude, gain >= max(2 * SURE.log_odds, SURE.min_share * squares)


def pursued(true: float, level: float, n: int) -> np.ndarray:
    """Amplitudes of the spikes that are accepted of n that are `true` times a template of this level."""
    amplitude, accepted = held(true + np.random.default_rng(0).normal(size=n) / level, level)
    return amplitude[accepted]


def test_the_least_amplitude_is_where_pursuit_stops():
    for level in (3.0, 5.0, 9.0, 30.0):
        least = SURE.least(np.array([level]))[0]
        assert held(least + np.array([-1e-3, 1e-3]), level)[1].tolist() == [False, True]


@pytest.mark.parametrize(("true", "level"), [(0.7, 6.0), (0.8, 5.5), (1.0, 5.0)])
def test_the_mean_of_chosen_spikes_is_too_large_by_what_is_told(true: float, level: float):
    amplitude = pursued(true, level, 3000)
    best = amplitude + (amplitude - 1) / (level * AMPLITUDE_SD) ** 2
    averaged = (amplitude * best).sum() / (amplitude**2).sum()
    excess = SURE.excess(np.zeros(len(amplitude), int), amplitude, np.array([level]))[0]
    assert averaged - true > 0.03, "nothing to take off"
    left = averaged - excess - true
    assert abs(left) < 0.03 or 0 < left < 0.5 * (averaged - true)


def test_large_units_and_pieces_without_spikes_are_left_as_they_are():
    amplitude = pursued(0.9, 20.0, 300)
    found = SURE.excess(np.zeros(300, int), amplitude, np.array([20.0, 5.0, np.inf]))
    np.testing.assert_array_equal(found, 0)
    few = SURE.excess(np.zeros(2, int), pursued(1.0, 5.0, 200)[:2], np.array([5.0]))
    assert 0 <= few[0] < 0.35


def test_known_units_and_parts_of_units_are_left_as_they_are():
    amplitude = pursued(0.75, 5.5, 2000).astype(np.float32)
    n, rows = len(amplitude), np.arange(3)
    members = {"unit_index": np.repeat(rows, n), "amplitude": np.tile(amplitude, 3)}
    templates = replace(some_templates(), ids=np.array([0, 5, 6]))
    units = Units(templates, np.full(3, 5.5), 9, [], first_new=1)
    ids = np.array([0, 5, 8])  # known, itself, split off unit 6
    revision = Revision(members, rows, ids, np.full(3, n), rows, [])
    known, itself, split = excess_of(units, templates.ids, revision, SURE)
    assert known == split == 0 and itself > 0.1


def test_there_is_one_round_more_where_the_tissue_moves():
    assert SortParams().moving().n_refinements == SortParams().n_refinements + 1
    assert SortParams(n_refinements=0).moving().n_refinements == 0
