"""Agreement with ground truth: against a slow count, and on cases worked out by hand."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yass_dask.errors import InputError
from yass_dask.evaluate import Spikes, compare, compare_files
from yass_dask.evaluate.matching import match_spikes, near_other_unit

RATE = 30000.0


def spikes_of(**units):
    """Spikes of units given as u0=[...], u1=[...]."""
    pairs = [(time, int(name[1:])) for name, times in units.items() for time in times]
    times, labels = zip(*pairs, strict=True) if pairs else ((), ())
    return Spikes(np.array(times, dtype=np.int64), np.array(labels, dtype=np.int64))


def slow_matches(first, second, max_samples):
    """Closest pair first, one Python loop per pair of units: what match_spikes must give."""
    found = []
    for one in np.unique(first.labels):
        for two in np.unique(second.labels):
            i, j = np.flatnonzero(first.labels == one), np.flatnonzero(second.labels == two)
            pairs = sorted((abs(int(second.times[b] - first.times[a])), a, b) for a in i for b in j)
            used_a, used_b = set(), set()
            for distance, a, b in pairs:
                if distance <= max_samples and a not in used_a and b not in used_b:
                    used_a.add(a)
                    used_b.add(b)
                    found.append((int(a), int(b)))
    return sorted(found)


trains = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 2)), max_size=25).map(
    lambda rows: Spikes(*np.array(rows, dtype=np.int64).reshape(-1, 2).T).sorted()
)


@settings(max_examples=150, deadline=None)
@given(first=trains, second=trains, max_samples=st.integers(0, 15))
def test_matches_are_those_of_the_slow_loop(first, second, max_samples):
    matches = match_spikes(first, second, max_samples)
    assert sorted(zip(matches.first.tolist(), matches.second.tolist(), strict=True)) == slow_matches(
        first, second, max_samples
    )
    np.testing.assert_array_equal(matches.offsets, second.times[matches.second] - first.times[matches.first])


def test_perfect_sorting_under_other_names():
    truth = spikes_of(u0=[100, 900, 5000], u1=[300, 2000])
    found = spikes_of(u7=[100, 900, 5000], u4=[300, 2000])
    result = compare(truth, found, RATE, snr=np.array([12.0, 4.0]))
    assert [unit.matched_unit for unit in result.units] == [7, 4]
    assert [unit.accuracy for unit in result.units] == [1.0, 1.0]
    assert result.mean_accuracy == result.mean_accuracy_above(5.0) == 1.0
    assert result.false_units == result.redundant_units == result.overmerged_units == ()


def test_counts_by_hand():
    truth = spikes_of(u0=range(1000, 11000, 1000))
    found = spikes_of(u0=[1012, 2013, *range(3002, 9002, 1000), 20000])
    unit = compare(truth, found, RATE).units[0]
    # 1012 is 12 samples (0.4 ms) late: it counts; 2013 does not; 6 others are 2 late; 3 of 10 are missed
    assert (unit.n_spikes, unit.recall, unit.precision) == (10, 0.7, 7 / 9)
    assert unit.accuracy == 7 / (10 + 9 - 7)
    assert (unit.offset_samples, unit.within_one_sample) == (2.0, 0.0)


def test_one_found_spike_serves_one_true_spike():
    unit = compare(spikes_of(u0=[100, 104]), spikes_of(u0=[101]), RATE).units[0]
    assert (unit.accuracy, unit.recall, unit.precision) == (0.5, 0.5, 1.0)


def test_pairs_below_the_minimum_score_are_left_out():
    truth, found = spikes_of(u0=range(0, 100000, 1000)), spikes_of(u0=range(0, 49000, 1000))
    result = compare(truth, found, RATE)
    assert result.units[0].matched_unit is None
    assert result.false_units == result.redundant_units == ()
    assert result.mean_accuracy == result.units[0].accuracy == 0.0
    assert compare(truth, found, RATE, min_score=0.4).units[0].accuracy == 0.49


def test_false_redundant_and_overmerged_units():
    a, b = list(range(0, 100000, 1000)), list(range(500, 100000, 1000))
    found = spikes_of(u0=a, u1=a[:30], u2=[*b, *a], u3=range(250, 20000, 1000))
    result = compare(spikes_of(u0=a, u1=b), found, RATE)
    assert [unit.matched_unit for unit in result.units] == [0, 2]
    assert result.redundant_units == (1,)
    assert result.overmerged_units == (2,)
    assert result.false_units == (3,)
    assert result.false_shares == {3: 20 / 350}


def test_two_true_units_never_share_a_found_unit():
    a = list(range(0, 100000, 1000))
    result = compare(spikes_of(u0=a, u1=[time + 1 for time in a]), spikes_of(u0=a), RATE)
    assert sorted(unit.accuracy for unit in result.units) == [0.0, 1.0]


def test_collisions_are_spikes_near_another_unit():
    truth = spikes_of(u0=[100, 1000, 5000, 5010], u1=[115, 1016, 9000]).sorted()
    near = near_other_unit(truth, 15)
    assert truth.times[near].tolist() == [100, 115]
    unit = compare(truth, spikes_of(u0=[1000, 5000, 5010], u1=[115, 1016, 9000]), RATE).units[0]
    assert (unit.n_collisions, unit.collision_recall, unit.recall) == (1, 0.0, 0.75)


def test_collision_recall_is_pooled_over_matched_units():
    truth = spikes_of(u0=[100, 1000, 5000], u1=[115, 1010, 9000], u2=[30000])
    result = compare(truth, spikes_of(u0=[1000, 5000], u1=[115, 1010, 9000]), RATE)
    assert result.collision_recall == 3 / 4


@pytest.mark.parametrize("empty", ["truth", "found", "both"])
def test_nothing_to_compare(empty):
    some, none = spikes_of(u0=[100, 200]), spikes_of()
    truth, found = (none if empty in (side, "both") else some for side in ("truth", "found"))
    result = compare(truth, found, RATE)
    assert result.n_matched == 0
    assert len(result.units) == (empty == "found")
    assert result.false_units == ((0,) if empty == "truth" else ())
    assert "mean accuracy" in result.table()
    assert json.loads(result.to_json())["n_matched"] == 0


def test_silent_true_unit_counts_where_its_ratio_is_given():
    result = compare(spikes_of(u1=[100]), spikes_of(u1=[100]), RATE, snr=np.array([8.0, 9.0]))
    assert [unit.n_spikes for unit in result.units] == [0, 1]
    assert result.mean_accuracy == 0.5


def test_bins_of_snr():
    truth = spikes_of(u0=[100], u1=[5000], u2=[9000])
    result = compare(truth, spikes_of(u1=[5000], u2=[9000]), RATE, snr=np.array([5.0, 7.9, 25.0]))
    assert result.by_snr() == [(5.0, 8.0, 2, 0.5), (20.0, np.inf, 1, 1.0)]


def test_table_and_json_tell_the_same():
    truth = spikes_of(u0=[100, 900], u1=[5000])
    result = compare(truth, spikes_of(u0=[100, 900], u5=[20000]), RATE, snr=np.array([4.25, 9.5]))
    stored = json.loads(result.to_json())
    assert stored["mean_accuracy"] == 0.5
    assert stored["units"][1]["matched_unit"] is None
    assert stored["false_units"] == {"5": 1 / 3}
    rows = result.table().splitlines()
    assert rows[1].split()[:3] == ["1", "9.5", "1"]
    assert rows[2].split()[:5] == ["0", "4.2", "2", "0", "1.000"]
    assert "mean accuracy 0.500" in result.table()


def test_bad_input_is_told():
    with pytest.raises(InputError, match="2 spike times but 1 labels"):
        compare(Spikes(np.array([1, 2]), np.array([0])), spikes_of(), RATE)
    with pytest.raises(InputError, match="snr has 1 values"):
        compare(spikes_of(u3=[5]), spikes_of(), RATE, snr=np.array([1.0]))


def test_files_of_a_sort(tmp_path):
    np.save(tmp_path / "spike_train.npy", np.array([[100, 3], [900, 3]]))
    truth = tmp_path / "truth.npz"
    np.savez(truth, spike_times=np.array([100, 900]), spike_labels=np.array([0, 0]), sampling_rate=RATE)
    assert compare_files(tmp_path, truth).mean_accuracy == 1.0
    np.savez(truth, spike_times=np.array([100, 900]), spike_labels=np.array([0, 0]))
    with pytest.raises(InputError, match="sampling rate unknown"):
        compare_files(tmp_path, truth)
    assert compare_files(tmp_path, truth, RATE).mean_accuracy == 1.0
    np.savez(truth, times=np.array([100]))
    with pytest.raises(InputError, match="has no spike_labels, spike_times"):
        compare_files(tmp_path, truth, RATE)
    with pytest.raises(InputError, match=r"spike_train\.npy not found"):
        compare_files(tmp_path / "none", truth)
