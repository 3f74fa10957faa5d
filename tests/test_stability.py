"""Stability: the recording perturbed by its own units, sorted again."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest
from labs import simulated
from typer.testing import CliRunner

from yass_dask import Sorting, from_array, sort
from yass_dask.cli import app
from yass_dask.errors import InputError
from yass_dask.evaluate import Spikes, perturb, read_stability, stability, write_stability
from yass_dask.evaluate.stability import PerturbedSource, move, new_times
from yass_dask.runtime import Executor

row = pytest.mark.coverage_row


@row("A13.5")
def test_new_spikes_are_in_the_traces_at_their_times(small_sorted):
    sorting, recording = small_sorted.sorting, small_sorted.recording
    perturbed = perturb(recording, sorting, rate=0.5, moved_share=0.5, seed=1)
    added, source = perturbed.added, perturbed.recording.source
    assert isinstance(source, PerturbedSource)
    assert len(added.times) > 20
    assert perturbed.moved.sum() == round(0.5 * sorting.n_units)
    assert set(added.labels[added.labels >= sorting.n_units] - sorting.n_units) <= set(np.flatnonzero(perturbed.moved))
    expected = np.zeros((recording.n_samples + 400, recording.n_channels))
    for time, unit in zip(source.added.times, source.added.units, strict=True):
        first = time - source.added.peak + 200
        expected[first : first + source.added.waveforms.shape[1]] += source.added.waveforms[unit]
    difference = source.read(0, recording.n_samples).astype(float) - recording.source.read(0, recording.n_samples)
    np.testing.assert_allclose(difference, expected[200:-200], atol=0.5)
    pieces = [source.read(a, min(a + 7777, recording.n_samples)) for a in range(0, recording.n_samples, 7777)]
    np.testing.assert_array_equal(np.concatenate(pieces), source.read(0, recording.n_samples))
    assert source.dtype == recording.dtype


@row("A13.5")
def test_units_that_are_well_above_the_noise_are_stable(small_sorted, tmp_path):
    """All of them here; a sorter that finds nothing new has the share of old spikes as its stability."""
    sorting, recording = small_sorted.sorting, small_sorted.recording

    def again(perturbed):
        return sort(perturbed, tmp_path / "again", small_sorted.params, client=Executor("sync"))

    rows = stability(recording, sorting, again, rate=0.5, moved_share=0.25, seed=2)
    units = [r for r in rows if not r["moved"]]
    assert [r["unit_id"] for r in units] == sorting.unit_ids.tolist()
    assert sum(r["moved"] for r in rows) <= 1
    assert min(r["stability"] for r in units) > 0.85
    assert max(r["false_positives"] for r in units) < 0.15
    lazy = stability(recording, sorting, lambda perturbed: sorting, rate=0.5, moved_share=0.25, seed=2)
    for r in lazy:
        assert r["added_found"] is None or r["added_found"] < 0.1
        assert r["stability"] < 0.9 or r["added_found"] is None


@row("A13.5")
def test_new_times_keep_their_distance_and_follow_the_units_own_intervals():
    rng = np.random.default_rng(0)
    train = np.cumsum(rng.lognormal(8, 0.5, 2000)).astype(np.int64)
    new = new_times(train, 0.3, 60, int(train[-1]) + 1000, rng)
    assert 0.25 * len(train) < len(new) <= 0.3 * len(train)
    assert np.diff(new).min() >= 60
    assert min(np.abs(train - time).min() for time in new) >= 60
    assert len(new_times(train[:1], 0.3, 60, 10**6, rng)) == 0


def test_a_moved_unit_keeps_its_shape_on_other_channels():
    positions = np.column_stack([np.zeros(12), 20.0 * np.arange(12)])
    waveform = np.zeros((5, 12))
    waveform[2, 5], waveform[2, 6], waveform[3, 4] = -10, -6, 3
    for seed in range(8):
        moved = move(waveform, positions, np.random.default_rng(seed))
        shift = int(np.abs(moved).max(axis=0).argmax()) - 5
        assert shift != 0
        expected = np.zeros_like(waveform)
        for channel in (4, 5, 6):
            if 0 <= channel + shift < 12:
                expected[:, channel + shift] = waveform[:, channel]
        np.testing.assert_array_equal(moved, expected)


def test_the_same_seed_gives_the_same_recording(small_sorted):
    made = [perturb(small_sorted.recording, small_sorted.sorting, seed=seed) for seed in (1, 1, 2)]
    identities = [one.recording.identity() for one in made]
    assert identities[0] == identities[1] != identities[2]
    assert isinstance(made[0].truth, Spikes)


def test_another_recording_is_refused(small_sorted):
    other = from_array(np.zeros((500, 8), np.int16), 30000)
    with pytest.raises(InputError, match="a sorting of this recording"):
        perturb(other, small_sorted.sorting)


# --- the command ---


def yass(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A sort by the command line, and its stability by the command line: what was said."""
    config = simulated(tmp_path_factory.mktemp("stable") / "r", n_units=3, seed=4)
    quick = ["--set", "n_refinements=0", "--backend", "numba", "--no-progress", "--workers", "1"]
    ran = yass("sort", config, *quick)
    assert ran.exit_code == 0, ran.output
    said = yass("stability", config.parent / "tmp", "--rate", 0.5, "--moved", 0, "--no-progress", "--workers", 1)
    assert said.exit_code == 0, said.output
    return config.parent / "tmp", said.output


@row("A13.5")
def test_the_command_measures_a_sort_as_it_was_sorted_and_keeps_the_table(measured):
    out, said = measured
    sorting, again = Sorting.open(out), Sorting.open(out / "stability")
    kept = read_stability(sorting)
    assert kept is not None and kept.how == {"rate": 0.5, "moved_share": 0.0, "seed": 0}
    assert [row["unit_id"] for row in kept.rows] == sorting.unit_ids.tolist()
    assert len(again.spike_train) > 1.2 * len(sorting.spike_train)
    with open(out / "stability.csv", newline="") as file:
        table = list(csv.DictReader(file))
    for written, found in zip(table, kept.rows, strict=True):
        assert float(written["stability"]) == found["stability"] == kept.of(found["unit_id"])["stability"]
        assert f"{found['stability']:.0%}" in said
        assert found["stability"] > 0.8  # the units are large
    assert f"{len(kept.rows)} of {len(kept.rows)} units are found again" in said


def test_another_perturbation_replaces_the_first_and_a_clean_sort_takes_it_away(measured, tmp_path):
    shutil.copytree(measured[0].parent, tmp_path / "r")
    config, out = tmp_path / "r" / "config.yaml", tmp_path / "r" / "tmp"
    assert yass("stability", out, "--seed", 5, "--no-progress", "--workers", 1).exit_code == 0
    assert read_stability(Sorting.open(out)).how["seed"] == 5
    quick = ["--set", "n_refinements=0", "--backend", "numba", "--no-progress", "--workers", "1"]
    assert yass("sort", config, "--clean", *quick).exit_code == 0
    assert not list(out.glob("stability*"))


def test_the_stability_of_other_spikes_is_not_taken_for_theirs(measured):
    sorting = Sorting.open(measured[0])
    assert read_stability(sorting) is not None
    assert read_stability(replace(sorting, sample_index=sorting.sample_index + 1)) is None
    assert read_stability(replace(sorting, path=None)) is None
    with pytest.raises(InputError, match="lies in no folder"):
        write_stability(replace(sorting, path=None), [])


def test_a_sort_from_python_is_told_what_to_call(small_sorted, tmp_path):
    folder = small_sorted.sorting.write(tmp_path / "o")
    ran = yass("stability", folder)
    assert ran.exit_code == 2
    assert "yass_dask.evaluate.stability(recording, sorting, sort)" in ran.output
