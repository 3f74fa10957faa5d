"""A second recording sorted with the units of the first: neurons keep their ids, a new one comes after them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from yass_dask import InputError, Recording, Sorting, SortParams, from_array, sort
from yass_dask.cli import app
from yass_dask.conditioning import PreprocessParams
from yass_dask.evaluate import Spikes, compare
from yass_dask.known import Known, as_templates
from yass_dask.preprocess import Clean, Scale
from yass_dask.reuse import known_units
from yass_dask.runtime import Executor
from yass_dask.simulate import Scene, plan
from yass_dask.simulate.render import GAIN_UV, render
from yass_dask.templates import TemplatesParams

RATE, HALF = 30000.0, 18 * 30000
N_UNITS, NEW, GONE = 7, 6, 0
"""Of the neurons one is silent in the first recording, and one in the second."""


SPIKES = ("sample_index", "unit_index", "amplitudes")


class Pair(NamedTuple):
    recordings: tuple[Recording, Recording]
    truths: tuple[Spikes, Spikes]
    folder: Any
    first: Sorting
    second: Sorting


def heard(scene: Scene, silent: int) -> Scene:
    mask = scene.spike_labels != silent
    names = ("spike_times", "spike_labels", "spike_jitters", "spike_scales")
    spikes: dict[str, Any] = {name: getattr(scene, name)[mask] for name in names}
    return replace(scene, **spikes)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Pair:
    scene = plan(n_channels=12, seconds=2 * HALF / RATE, n_units=N_UNITS, seed=3, snr=(7, 20))
    recordings, truths = [], []
    for silent, start in ((NEW, 0), (GONE, HALF)):
        part = heard(scene, silent)
        traces = np.concatenate(list(render(part)))[start : start + HALF]
        recordings.append(from_array(traces, RATE, scene.positions, GAIN_UV))
        mine = (part.spike_times >= start) & (part.spike_times < start + HALF)
        truths.append(Spikes(part.spike_times[mine] - start, part.spike_labels[mine]))
    folder = tmp_path_factory.mktemp("known")
    one = sort(recordings[0], folder / "one", client=Executor("sync"))
    two = sort(recordings[1], folder / "two", client=Executor("sync"), templates=folder / "one")
    return Pair((recordings[0], recordings[1]), (truths[0], truths[1]), folder, one, two)


def found(truth: Spikes, sorting: Sorting) -> dict[int, tuple[int | None, float]]:
    """Of each true neuron the unit that it was found as, and the accuracy."""
    agreement = compare(truth, Spikes(sorting.sample_index, sorting.unit_index), RATE)
    return {unit.unit_id: (unit.matched_unit, unit.accuracy) for unit in agreement.units}


def test_neurons_keep_their_ids_and_a_new_one_comes_after_them(pair):
    before, after = (found(t, s) for t, s in zip(pair.truths, (pair.first, pair.second), strict=True))
    shared = sorted(set(range(N_UNITS)) - {NEW, GONE})
    assert all(before[neuron][0] is not None for neuron in shared)
    assert [after[neuron][0] for neuron in shared] == [before[neuron][0] for neuron in shared]
    accuracies = sorted(after[neuron][1] for neuron in shared)
    assert accuracies[0] > 0.7  # 23 spikes, which a sort without templates does not find
    assert accuracies[1] > 0.95
    unit, accuracy = after[NEW]
    assert unit is not None and accuracy > 0.95
    ever = [int(row["unit_id"]) for row in pair.first.units]
    assert unit > max(ever)
    assert set(pair.second.unit_ids.tolist()) == {*(before[neuron][0] for neuron in shared), unit}


def test_the_audit_says_which_are_known(pair):
    gone = found(pair.truths[0], pair.first)[GONE][0]
    assert gone is not None
    row = pair.second.about(gone)
    assert (row["state"], row["origin"]) == ("dropped", f"known from {pair.folder / 'one'}")
    kept = [pair.second.about(unit) for unit in pair.second.unit_ids.tolist() if unit in pair.first.unit_ids]
    assert kept and all(line["why"].startswith("known from another sort, and found here") for line in kept)


def test_it_is_the_same_on_other_chunks_and_made_again_for_other_units(pair, tmp_path):
    params = SortParams(n_refinements=1)
    how = {"params": params, "client": Executor("sync")}
    again = sort(pair.recordings[1].with_chunks(3), tmp_path / "o", templates=pair.first, **how)
    other = sort(pair.recordings[1].with_chunks(7), tmp_path / "p", templates=str(pair.folder / "one"), **how)
    assert len(again.spike_train) > 500
    np.testing.assert_array_equal(again.spike_train, other.spike_train)
    fewer = replace(
        pair.first, unit_ids=pair.first.unit_ids[1:], templates=pair.first.templates[1:],
        unit_locations=pair.first.unit_locations[1:], path=None,
        **{name: getattr(pair.first, name)[pair.first.unit_rows > 0] for name in SPIKES},
    )  # fmt: skip
    less = sort(pair.recordings[1], tmp_path / "o", templates=fewer, **how)
    assert pair.first.unit_ids[0] not in less.unit_ids


def test_a_curated_folder_serves_and_noise_is_left_out(pair, tmp_path):
    """As after `yass curated`: one unit was labelled noise in phy."""
    rows = [dict(row) for row in pair.first.units]
    bad = int(pair.first.unit_ids[1])
    next(row for row in rows if row["unit_id"] == bad)["label"] = "noise"
    folder = replace(pair.first, units=rows).write(pair.folder / "one" / "curated")
    known = known_units(folder, pair.recordings[1], PreprocessParams())
    assert known.ids.tolist() == [unit for unit in pair.first.unit_ids.tolist() if unit != bad]
    assert known.next_id == 1 + max(int(row["unit_id"]) for row in pair.first.units)


def test_the_command_takes_a_folder(pair, tmp_path, simulation):
    simulation.traces.tofile(tmp_path / "recording.bin")
    np.save(tmp_path / "geometry.npy", simulation.positions)
    config = {
        "data": {"root_folder": "./", "recordings": "recording.bin", "geometry": "geometry.npy"},
        "resources": {"max_memory": "100MB", "processes": 1},
        "recordings": {"dtype": "int16", "sampling_rate": 30000, "n_channels": 8, "spatial_radius": 70,
                       "spike_size_ms": 1.5, "order": "samples", "gain_to_uv": 0.195},
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    quick = ["--backend", "numba", "--set", "n_refinements=0", "--no-progress"]
    for words in (["-o", "a"], ["-o", "b", "--templates", tmp_path / "a"]):
        ran = CliRunner().invoke(app, [str(word) for word in ("sort", tmp_path / "config.yaml", *quick, *words)])
        assert ran.exit_code == 0, ran.output
    one, two = Sorting.open(tmp_path / "a"), Sorting.open(tmp_path / "b")
    assert len(one.unit_ids) > 1
    assert one.unit_ids.tolist() == two.unit_ids.tolist()
    told = yaml.safe_load((tmp_path / "b" / "metadata.yaml").read_text())["options"]["templates"]
    assert told == str(tmp_path / "a")
    ran = CliRunner().invoke(
        app, ["sort", str(tmp_path / "config.yaml"), "-o", "c", "--templates", str(pair.folder / "one")]
    )
    assert ran.exit_code == 2
    assert "they are on 12 channels, the recording has 8" in ran.output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sampling_rate": 20000.0}, "sampled at 30000 Hz, the recording at 20000 Hz"),
        ({"channel_ids": np.array([*range(11), 99])}, "channels have other names: 11 is 99 here"),
        ({"gain_to_uv": None}, "the gain of one of the two is not known"),
    ],
)
def test_units_of_another_recording_are_refused(pair, change, words):
    with pytest.raises(InputError, match=words):
        known_units(pair.folder / "one", replace(pair.recordings[1], **change), PreprocessParams())


def test_contacts_elsewhere_and_other_filters_are_refused(pair):
    recording = pair.recordings[1]
    moved = replace(recording.probe, positions=recording.probe.positions + np.array([0.0, 40.0]))
    with pytest.raises(InputError, match="contacts lie elsewhere: channel 0 40 um away"):
        known_units(pair.folder / "one", replace(recording, probe=moved), PreprocessParams())
    with pytest.raises(InputError, match=r"preprocessed otherwise \(filter_low_hz 300 -> 500\)"):
        known_units(pair.folder / "one", recording, PreprocessParams(filter_low_hz=500.0))
    with pytest.raises(InputError, match="no unit that could be looked for"):
        rows = [{**row, "label": "noise"} for row in pair.first.units]
        known_units(replace(pair.first, units=rows), recording, PreprocessParams())


@pytest.mark.parametrize(("before_ms", "after_ms"), [(0.2, 0.3), (2.0, 3.0)])
def test_known_templates_are_cut_or_filled_to_length(small_recording, before_ms, after_ms):
    rng = np.random.default_rng(0)
    waveforms = rng.normal(size=(2, 41, 8)).astype(np.float32)
    waveforms[:, 15, [2, 5]] = -50.0
    sd = np.array([1.0, 2, 1, 1, 1, 4, 1, 0])
    clean = Clean(replace(small_recording, gain_to_uv=None), Scale(np.zeros(8), sd, sd <= 0), "numpy")
    params = TemplatesParams(before_ms=before_ms, after_ms=after_ms)
    known = Known(waveforms, 15, np.array([3, 8]), np.array([100, 20]), 12, "x")
    made = as_templates(known, clean, params)
    before, after = small_recording.samples(before_ms), small_recording.samples(after_ms)
    assert (made.peak, made.n_samples, made.ids.tolist()) == (before, before + after + 1, [3, 8])
    dense = made.dense()
    assert dense[0, before, [2, 5, 7]].tolist() == [-50.0, -12.5, 0.0]
    inside = slice(max(0, before - 15), before + min(after, 25) + 1)
    there = waveforms[:, max(0, 15 - before) : 15 + min(after, 25) + 1, 1] / 2
    np.testing.assert_allclose(dense[:, inside, 1], there, rtol=1e-6)
    assert np.count_nonzero(dense[:, :, 1]) == there.size
