"""Sorting: parts that fit, the order of spikes, and the way to disk and back."""

import csv
import dataclasses
import io

import numpy as np
import pytest

from yass_dask.errors import InputError
from yass_dask.geometry import Probe, linear
from yass_dask.sorting import Sorting, units_csv


def make_sorting(n_units=3, n_spikes=50, n_channels=4, **changes):
    rng = np.random.default_rng(0)
    unit_ids = np.array([0, 2, 5, 6, 9][:n_units])
    parts = {
        "sample_index": rng.integers(100, 29000, n_spikes),
        "unit_index": rng.choice(unit_ids, n_spikes) if n_units else np.empty(0, int),
        "amplitudes": rng.uniform(50, 60, n_spikes),
        "templates": rng.normal(size=(n_units, 21, n_channels)).astype(np.float32),
        "unit_ids": unit_ids,
        "unit_locations": rng.uniform(0, 100, (n_units, 2)),
        "units": [
            {"unit_id": int(unit), "label": "good", "snr": np.float32(7.5), "contamination": float("nan")}
            for unit in unit_ids
        ],
        "sampling_rate": 30000.0,
        "n_samples": 30000,
        "template_peak": 8,
        "probe": linear(n_channels),
        "channel_ids": np.arange(n_channels),
    }
    return Sorting(**(parts | changes))


def test_spikes_are_put_in_order_together():
    sorting = make_sorting(
        n_spikes=4,
        sample_index=np.array([300, 100, 300, 200]),
        unit_index=np.array([5, 0, 2, 2]),
        amplitudes=np.array([1.0, 2.0, 3.0, 4.0]),
    )
    assert sorting.spike_train.tolist() == [[100, 0], [200, 2], [300, 2], [300, 5]]
    assert sorting.spike_train.dtype == np.int64
    assert sorting.amplitudes.tolist() == [2.0, 4.0, 3.0, 1.0]
    assert sorting.unit_rows.tolist() == [0, 1, 1, 2]
    assert sorting.times_of(2).tolist() == [200, 300]


def test_unknown_unit_is_told():
    with pytest.raises(InputError, match="unit 1 not found: the sorting's units are 0, 2, 5"):
        make_sorting().times_of(1)


def same(one, two):
    for field in dataclasses.fields(Sorting):
        if field.name not in ("units", "path", "probe", "trace_gain"):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(two, field.name), err_msg=field.name)
    np.testing.assert_array_equal(one.probe.positions, two.probe.positions)
    np.testing.assert_array_equal(one.probe.shanks, two.probe.shanks)


@pytest.mark.parametrize(("n_units", "n_spikes"), [(3, 50), (1, 1), (2, 0), (0, 0)])
def test_there_and_back(tmp_path, n_units, n_spikes):
    sorting = make_sorting(n_units, n_spikes)
    opened = Sorting.open(sorting.write(tmp_path / "out"))
    same(sorting, opened)
    assert opened.path == tmp_path / "out"
    assert opened.trace_gain is None
    assert opened.units == [
        {"unit_id": int(unit), "label": "good", "snr": 7.5, "contamination": None} for unit in sorting.unit_ids
    ]
    assert not list(tmp_path.glob("out/.*"))


def test_probe_and_channel_names_come_back(tmp_path):
    probe = Probe(np.array([[0.0, 0], [0, 0]]), np.array([0, 1]), np.array([0.0, 0.5]))
    names = np.array(["a", "b"], dtype=object)
    sorting = make_sorting(n_channels=2, probe=probe, channel_ids=names, trace_gain=[0.5, 0.25])
    opened = Sorting.open(sorting.write(tmp_path))
    assert opened.trace_gain.tolist() == [0.5, 0.25]
    same(sorting, opened)
    np.testing.assert_array_equal(opened.probe.sample_shifts, [0.0, 0.5])


def test_files_are_what_the_documentation_says(tmp_path):
    sorting = make_sorting()
    sorting.write(tmp_path)
    train = np.load(tmp_path / "spike_train.npy", allow_pickle=False)
    assert (train.dtype, train.shape) == (np.int64, (50, 2))
    templates = np.load(tmp_path / "templates.npy", allow_pickle=False)
    assert (templates.dtype, templates.shape) == (np.float32, (3, 21, 4))
    rows = list(csv.DictReader((tmp_path / "units.csv").open()))
    assert [row["unit_id"] for row in rows] == ["0", "2", "5"]
    assert rows[0]["snr"] == "7.5"
    assert rows[0]["contamination"] == ""


def test_table_has_a_head_even_without_units_and_takes_new_columns():
    assert units_csv([]).startswith("unit_id,label,origin,why")
    rows = [{"unit_id": 3, "why": "merged into 1, 2"}, {"unit_id": 4, "speed": 2}]
    read = list(csv.DictReader(io.StringIO(units_csv(rows))))
    assert read[0]["why"] == "merged into 1, 2"
    assert (read[0]["speed"], read[1]["speed"]) == ("", "2")


def test_writing_again_replaces_what_was_there(tmp_path):
    make_sorting(3, 50).write(tmp_path)
    mapped = Sorting.open(tmp_path)
    before = np.array(mapped.templates)
    make_sorting(1, 7).write(tmp_path)
    assert Sorting.open(tmp_path).n_spikes == 7
    np.testing.assert_array_equal(mapped.templates, before)


def test_files_of_two_sorts_are_refused(tmp_path):
    make_sorting().write(tmp_path)
    train = np.load(tmp_path / "spike_train.npy")
    train[0, 0] += 1
    np.save(tmp_path / "spike_train.npy", train)
    with pytest.raises(InputError, match="not of one sort"):
        Sorting.open(tmp_path)


def test_folder_without_a_sort_is_told(tmp_path):
    with pytest.raises(InputError, match=r"no spike_train\.npy, templates\.npy, sorting\.npz"):
        Sorting.open(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"amplitudes": np.ones(3)}, r"differ in length: \[3, 50\]"),
        ({"templates": np.zeros((2, 21, 4))}, r"templates have shape \(2, 21, 4\)"),
        ({"templates": np.zeros((3, 21))}, r"templates have shape \(3, 21\)"),
        ({"unit_ids": np.array([5, 2, 0])}, "must ascend"),
        ({"unit_index": np.full(50, 1)}, r"spikes of units \[1\]"),
        ({"trace_gain": np.ones(3)}, r"trace_gain has shape \(3,\)"),
        ({"channel_ids": np.arange(3)}, "one id a channel"),
        ({"unit_locations": np.zeros((1, 2))}, "one location a unit"),
    ],
)
def test_parts_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        make_sorting(**wrong)


def test_it_says_what_it_is():
    sorting = make_sorting()
    assert repr(sorting) == "Sorting: 3 units (3 good), 50 spikes, 1.0 s, 4 channels at 30000 Hz"
    page = make_sorting(units=[{"unit_id": 2, "label": "<mua>", "snr": 3.14159}])._repr_html_()
    assert page.count("<tr>") == 4
    assert "&lt;mua&gt;" in page
    assert "3.14" in page
    assert repr(make_sorting(0, 0)) == "Sorting: 0 units, 0 spikes, 1.0 s, 4 channels at 30000 Hz"


# --- tables ---


def test_tables_of_pandas():
    sorting = make_sorting()
    spikes, units = sorting.spikes_table(), sorting.units_table()
    assert spikes[["sample_index", "unit_id"]].to_numpy().tolist() == sorting.spike_train.tolist()
    np.testing.assert_allclose(spikes["time_s"], sorting.sample_index / 30000)
    assert spikes["amplitude"].tolist() == sorting.amplitudes.tolist()
    assert units.index.tolist() == sorting.unit_ids.tolist()
    assert units["label"].tolist() == ["good"] * 3
    np.testing.assert_array_equal(units[["x_um", "y_um"]], sorting.unit_locations)
    assert len(make_sorting(n_units=0, n_spikes=0).units_table()) == 0


def test_npz_as_spikeinterface_reads_it(tmp_path):
    extractors = pytest.importorskip("spikeinterface.extractors")
    sorting = make_sorting()
    found = extractors.read_npz_sorting(sorting.to_npz(tmp_path / "new" / "s.npz"))
    assert found.get_sampling_frequency() == 30000
    assert found.unit_ids.tolist() == sorting.unit_ids.tolist()
    for unit in found.unit_ids:
        assert found.get_unit_spike_train(unit).tolist() == sorting.times_of(unit).tolist()
