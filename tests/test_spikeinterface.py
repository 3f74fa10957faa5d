"""SpikeInterface: its recordings sorted by its run_sorter, and recordings and sortings given back to it."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest

import yass_dask
from yass_dask import InputError, Sorting, SortParams, from_spikeinterface, read_binary, sort
from yass_dask.runtime import Executor
from yass_dask.sources import BinarySource

si = pytest.importorskip("spikeinterface.full")

import yass_dask.spikeinterface as ours  # noqa: E402

RATE = 30000.0
QUICK = {"n_refinements": 0, "backend": "numba", "job_kwargs": {"n_jobs": 1, "progress_bar": False}}


@pytest.fixture(scope="module")
def binary(simulation, tmp_path_factory):
    """The simulated recording as SpikeInterface's, unsigned, with an offset, in two segments of binary files."""
    traces = (simulation.traces.astype(np.int32) + 32768).astype(np.uint16)
    recording = si.NumpyRecording([traces[:120_000], traces[120_000:]], RATE)
    recording.set_channel_gains(simulation.gain_to_uv)
    recording.set_channel_offsets(-32768 * simulation.gain_to_uv)
    recording.set_dummy_probe_from_locations(simulation.positions)
    return recording.save(folder=tmp_path_factory.mktemp("si") / "saved", verbose=False)


@pytest.fixture(scope="module")
def run(binary, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    found = si.run_sorter(
        "yass_dask", binary, folder=folder, remove_existing_folder=True, delete_output_folder=False, verbose=False,
        raise_error=True, **QUICK,
    )  # fmt: skip
    return folder, found


def test_it_is_among_the_sorters():
    assert "yass_dask" in si.available_sorters()
    assert "yass_dask" in si.installed_sorters()
    defaults = si.get_default_sorter_params("yass_dask")
    described = si.get_sorter_params_description("yass_dask")
    assert set(described) == set(defaults)
    assert all(described.values())
    assert "threshold_sd (4.5): Least height of a peak, in noise standard deviations" in described["detect"]
    assert json.loads(json.dumps(defaults)) == defaults


def test_run_sorter_splits_the_segments(run, binary, simulation):
    folder, found = run
    assert found.get_num_segments() == 2
    whole = Sorting.open(folder / "sorter_output")
    for unit in whole.unit_ids.tolist():
        trains = [found.get_unit_spike_train(unit, segment_index=segment) for segment in (0, 1)]
        assert np.concatenate([trains[0], trains[1] + 120_000]).tolist() == whole.times_of(unit).tolist()
        assert all(len(train) for train in trains)
    assert found.get_property("label").tolist() == [whole.about(u)["label"] for u in whole.unit_ids.tolist()]
    assert set(found.sorting_info) >= {"recording", "params", "log"}
    assert found.has_recording()
    truth = si.NumpySorting.from_samples_and_labels([simulation.spike_times], [simulation.spike_labels], RATE)
    joined = whole.to_spikeinterface()
    scores = si.compare_sorter_to_ground_truth(truth, joined).get_performance()["accuracy"]
    assert sorted(scores)[1] > 0.9  # one of the four is not found in so short a recording


def test_the_same_spikes_whichever_way_in(run, binary, tmp_path):
    folder, _ = run
    mine = sort(from_spikeinterface(binary), tmp_path / "o", SortParams(n_refinements=0), backend="numba",
                client=Executor("sync"))  # fmt: skip
    np.testing.assert_array_equal(mine.spike_train, Sorting.open(folder / "sorter_output").spike_train)


def test_units_of_an_earlier_run_keep_their_ids(run, binary, tmp_path):
    known = str(run[0] / "sorter_output")
    found = si.run_sorter("yass_dask", binary, folder=tmp_path / "o", verbose=False, known_units=known, **QUICK)
    assert found.unit_ids.tolist() == run[1].unit_ids.tolist()
    assert Sorting.open(tmp_path / "o" / "sorter_output").units[0]["origin"] == f"known from {known}"


def test_params_are_checked_and_filled_up(run, binary, tmp_path):
    params = ours.YassDaskSorter._check_params(
        None, None, ours.YassDaskSorter.default_params() | {"detect": {"threshold_sd": 6}}
    )
    assert (params["detect"]["threshold_sd"], params["detect"]["clear_ms"]) == (6.0, 1.0)
    with pytest.raises(InputError, match="threshold"):
        si.run_sorter("yass_dask", binary, folder=tmp_path / "a", detect={"threshold": 6})
    with pytest.raises(ValueError, match="Invalid parameters"):
        si.run_sorter("yass_dask", binary, folder=tmp_path / "b", detekt={})
    stored = json.loads((run[0] / "spikeinterface_params.json").read_text())["sorter_params"]
    assert (stored["n_refinements"], stored["job_kwargs"]["n_jobs"]) == (0, 1)


def test_a_failed_sort_leaves_its_story(binary, tmp_path):
    tiny = (
        binary.frame_slice(0, 40) if binary.get_num_segments() == 1 else binary.select_segments([0]).frame_slice(0, 40)
    )
    with pytest.raises(Exception, match="fewer than a template"):
        si.run_sorter("yass_dask", tiny, folder=tmp_path / "o", raise_error=True, **QUICK)
    log = json.loads((tmp_path / "o" / "spikeinterface_log.json").read_text())
    assert log["error"]
    assert any("fewer than a template" in line for line in log["error_trace"])
    assert any("fewer than a template" in line for line in log["runtime_trace"])


def test_groups_are_sorted_apart(binary, tmp_path):
    grouped = binary.select_segments([0])
    grouped.set_property("group", np.repeat([0, 1], 4))
    found = si.run_sorter_by_property("yass_dask", grouped, grouping_property="group", folder=tmp_path / "o", **QUICK)
    assert set(found.get_property("group")) <= {0, 1}
    assert found.get_num_units() >= 2


# --- what goes back ---


def test_a_binary_recording_is_opened_as_such_and_comes_back_the_same(tmp_path):
    traces = np.random.default_rng(0).integers(0, 4000, (500, 3)).astype(np.uint16)
    traces.tofile(tmp_path / "t.bin")
    positions = np.array([[0.0, 0], [0, 20], [0, 0]])
    from yass_dask.geometry import Probe

    probe = Probe(positions, np.array([0, 0, 1]), np.array([0, 0.25, 0.5]))
    mine = read_binary(
        tmp_path / "t.bin", sampling_rate=RATE, n_channels=3, dtype="uint16", geometry=probe, gain_to_uv=0.5
    )
    theirs = mine.to_spikeinterface()
    assert theirs.check_serializability("json")
    np.testing.assert_array_equal(theirs.get_traces(), traces)
    np.testing.assert_allclose(theirs.get_traces(return_in_uV=True), traces * 0.5)
    back = from_spikeinterface(theirs)
    assert isinstance(back.source, BinarySource)
    assert back.probe.identity() == probe.identity()
    assert back.gain_to_uv.tolist() == [0.5] * 3


def test_any_other_recording_is_read_when_asked_for(small_recording):
    part = small_recording[1000:5000]
    theirs = part.to_spikeinterface()
    assert theirs.get_num_samples() == 4000
    np.testing.assert_array_equal(theirs.get_traces(start_frame=7, end_frame=90), part.source.read(7, 90))
    picked = theirs.select_channels(theirs.channel_ids[[5, 2]])
    np.testing.assert_array_equal(picked.get_traces(end_frame=10), part.source.read(0, 10)[:, [5, 2]])
    back = from_spikeinterface(theirs)
    np.testing.assert_array_equal(back.source.read(0, 4000), part.source.read(0, 4000))
    assert back.probe.positions.tolist() == part.probe.positions.tolist()


def test_analyzer_and_metrics_on_the_clean_traces(small_sorted):
    sorting = small_sorted.sorting
    analyzer = sorting.to_analyzer(sparse=False)
    analyzer.compute(["random_spikes", "waveforms", "templates", "noise_levels"], n_jobs=1, progress_bar=False)
    averages = analyzer.get_extension("templates").get_data()
    for row, average in enumerate(averages):
        channel = int(np.ptp(sorting.templates[row], axis=0).argmax())
        extent = np.ptp(sorting.templates[row][:, channel])
        assert np.ptp(average[:, channel]) == pytest.approx(extent, rel=0.15)
    analyzer.compute("quality_metrics", metric_names=["num_spikes", "firing_rate", "snr"])
    table = analyzer.get_extension("quality_metrics").get_data()
    assert table["num_spikes"].tolist() == [len(sorting.times_of(unit)) for unit in sorting.unit_ids]


def test_what_cannot_be_given(small_sorted):
    with pytest.raises(InputError, match="are not the 300000 samples"):
        small_sorted.sorting.to_spikeinterface([1000, 2000])
    with pytest.raises(InputError, match="give the recording"):
        replace(small_sorted.sorting, path=None).to_analyzer()


def test_a_sorting_without_units(small_sorted):
    s = small_sorted.sorting
    none = replace(s, sample_index=[], unit_index=[], amplitudes=[], templates=s.templates[:0], unit_ids=[],
                   unit_locations=[], units=[])  # fmt: skip
    assert none.to_spikeinterface().get_num_units() == 0


def test_the_version_is_told():
    """SpikeInterface asks the package of an extractor for it."""
    assert yass_dask.__version__ == version("yass-dask")
