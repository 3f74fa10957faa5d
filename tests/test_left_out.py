"""What is left out of account has no part in anything: excluded periods, bad channels; and shanks know nothing of each
other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yass_dask import Sorting, SortParams, from_array, sort
from yass_dask.evaluate import perturb
from yass_dask.geometry import Probe
from yass_dask.recording import spans
from yass_dask.report import html_report
from yass_dask.report.sampled import main_channels
from yass_dask.report.units import numbers_of
from yass_dask.runtime import Executor

EXCLUDED = ((90_000, 150_000), (60_017, 60_500), (140_000, 165_000))
"""Samples; two of the periods overlap. 75,483 of 300,000 in all."""
KEPT_S = (300_000 - 75_483) / 30_000
BAD = 5


@pytest.fixture(scope="module")
def part(small_sorted, tmp_path_factory) -> Sorting:
    """The small recording without some periods and a channel; in the periods there is a storm of artifacts."""
    traces = np.array(small_sorted.simulation.traces)
    rng = np.random.default_rng(0)
    for start, stop in EXCLUDED:
        traces[start:stop] += rng.normal(0, 3000, (stop - start, 8)).astype(np.int16)
    traces[:, BAD] = rng.normal(0, 9000, len(traces))
    recording = from_array(traces, 30000.0, small_sorted.recording.probe, small_sorted.simulation.gain_to_uv)
    recording = replace(recording, excluded_samples=EXCLUDED, bad_channels=(BAD,))
    return sort(recording, tmp_path_factory.mktemp("part") / "o", small_sorted.params, client=Executor("sync"))


def test_no_spike_lies_in_an_excluded_period_and_those_outside_are_found(part, small_sorted):
    truth = np.asarray(small_sorted.simulation.spike_times)
    assert not spans.inside(part.sample_index, EXCLUDED).any()
    assert spans.inside(truth, EXCLUDED).sum() > 50
    wanted = truth[~spans.inside(truth, [(a - 60, b + 60) for a, b in EXCLUDED])]
    near = np.abs(part.sample_index[:, None] - wanted).min(axis=0) <= 12
    whole = np.abs(small_sorted.sorting.sample_index[:, None] - wanted).min(axis=0) <= 12
    assert near.mean() > whole.mean() - 0.05 > 0.7


def test_rates_are_of_the_time_that_is_left(part):
    again = Sorting.open(part.path)
    assert again.excluded_samples == EXCLUDED
    assert again.kept_s == pytest.approx(KEPT_S)
    for unit in part.unit_ids.tolist():
        rate = len(part.times_of(unit)) / KEPT_S
        assert part.about(unit)["rate_hz"] == pytest.approx(rate)
    for numbers in numbers_of(again, main_channels(again, 4)):
        assert numbers.rate_hz == pytest.approx(numbers.n_spikes / KEPT_S)
        assert numbers.presence > 0.6
    assert "silent in more stretches" not in html_report(again)


def test_no_stage_sees_a_bad_channel(part):
    assert part.n_units >= 2
    assert not np.asarray(part.templates)[:, :, BAD].any()
    assert BAD not in [part.about(unit)["peak_channel"] for unit in part.unit_ids.tolist()]


def test_no_spike_is_planted_where_none_would_be_found(part, small_sorted):
    recording = replace(small_sorted.recording, excluded_samples=EXCLUDED)
    added = perturb(recording, small_sorted.sorting, rate=1.0).added
    assert len(added.times) > 100
    assert not spans.inside(added.times, EXCLUDED).any()


pairs = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda p: (p[0], p[0] + p[1])), max_size=6)


@given(pairs, st.integers(0, 50), st.integers(0, 40))
def test_periods_are_counted_as_by_hand(periods, start, length):
    mask = np.zeros(100, bool)
    for a, b in periods:
        mask[a:b] = True
    samples = np.arange(100)
    np.testing.assert_array_equal(spans.inside(samples, periods), mask)
    assert spans.len_of(periods, start, start + length) == mask[start : start + length].sum()
    np.testing.assert_array_equal(spans.less(samples, periods), samples - np.concatenate([[0], np.cumsum(mask)])[:-1])


# --- shanks ---


def test_shanks_are_sorted_side_by_side_and_know_nothing_of_each_other(small_sorted, tmp_path):
    """Two shanks at one place, the same neurons on the second one 1.7 s later: as two sorts of one shank each."""
    traces, probe = small_sorted.simulation.traces, small_sorted.recording.probe
    both = np.concatenate([traces, np.roll(traces, 51_000, axis=0)], axis=1)
    shanks = Probe(np.tile(probe.positions, (2, 1)), np.repeat([0, 1], 8))
    params = SortParams(n_refinements=1)
    recording = from_array(both, 30000.0, shanks, np.tile(small_sorted.simulation.gain_to_uv, 2))
    found = sort(recording, tmp_path / "both", params, client=Executor("sync"))
    sizes = np.abs(np.asarray(found.templates)).max(axis=1)
    on = sizes.reshape(len(sizes), 2, 8).max(axis=2) > 0
    assert (on.sum(axis=1) == 1).all()
    alone = small_sorted.sorting
    assert on.sum(axis=0).tolist() == [alone.n_units, alone.n_units]
    for shank in (0, 1):
        mine = np.isin(found.unit_index, found.unit_ids[on[:, shank]])
        samples = np.sort((found.sample_index[mine] - 51_000 * shank) % 300_000)
        near = np.abs(samples[:, None] - alone.sample_index).min(axis=1) <= 5
        assert near.mean() > 0.97
        assert abs(len(samples) - alone.n_spikes) < 0.03 * alone.n_spikes
