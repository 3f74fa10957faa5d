"""Geometry: files, neighbours, orders, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from yass_dask import geometry
from yass_dask.errors import InputError
from yass_dask.geometry import Probe

SQUARE = np.array([[0.0, 0.0], [30.0, 0.0], [0.0, 40.0], [30.0, 40.0]])


@pytest.mark.parametrize("text", ["0 0\n30 0\n0 40\n30 40\n", "0,  0\n30,0\n0\t40\n  30 40 \n\n"])
def test_parse_text(tmp_path, text):
    path = tmp_path / "geometry.txt"
    path.write_text(text)
    assert np.array_equal(geometry.parse(path, 4), SQUARE)


def test_parse_npy_keeps_the_first_two_columns(tmp_path):
    path = tmp_path / "geometry.npy"
    np.save(path, np.column_stack([SQUARE, np.arange(4)]).astype("f4"))
    found = geometry.parse(path, 4)
    assert found.dtype == np.float64
    assert np.array_equal(found, SQUARE)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.csv", "0 0", "end in .txt or .npy, found '.csv'"),
        ("g.txt", "0 0\n30 0\n", "2 contact positions for a recording of 4 channels"),
        ("g.txt", "0 a\n", "not a table"),
        ("g.txt", "0\n1\n2\n3\n", r"shape \(n_channels, 2\), found \(4, 1\)"),
        ("g.txt", "0 0\n1 1\n2 nan\n3 3\n", r"channel 2 has position \[2.0, nan\]"),
        ("g.npy", "not an array", "not a table"),
        ("g.txt", None, "does not exist"),
    ],
)
def test_parse_refuses(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        geometry.parse(path, 4)
    assert str(path) in str(error.value)


def test_parse_refuses_pickles_and_folders(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="not a table"):
        geometry.parse(tmp_path / "objects.npy", 1)
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        geometry.parse(tmp_path / "folder.txt", 1)


@pytest.mark.parametrize("radius", [0, 29.9, 30.0, 40.0, 49.9, 50.0, 1e6])
def test_neighbors_are_those_within_the_radius(radius):
    expected = np.array([[np.hypot(*(a - b)) <= radius for b in SQUARE] for a in SQUARE])
    assert np.array_equal(geometry.find_channel_neighbors(SQUARE, radius), expected)


def test_neighbors_of_many_channels_are_computed_in_pieces():
    probe = geometry.linear(1100, pitch_um=10)
    near = probe.neighbors(10)
    expected = np.abs(np.subtract.outer(np.arange(1100), np.arange(1100))) <= 1
    assert np.array_equal(near, expected)


def test_neighbors_never_cross_shanks():
    near = Probe(SQUARE, shanks=[0, 1, 0, 1]).neighbors(1e6)
    assert near.tolist() == [[True, False] * 2, [False, True] * 2] * 2


def test_steps_on_a_chain():
    chain = geometry.linear(5).neighbors(25)
    assert np.array_equal(geometry.n_steps_neigh_channels(chain, 0), np.eye(5, dtype=bool))
    assert np.array_equal(geometry.n_steps_neigh_channels(chain, 1), chain)
    assert geometry.n_steps_neigh_channels(chain, 2)[0].tolist() == [True, True, True, False, False]


def test_channel_index_by_distance_padded():
    chain = geometry.linear(4)
    index = geometry.make_channel_index(chain.neighbors(25), chain.positions)
    assert index.tolist() == [[0, 1, 4], [1, 0, 2], [2, 1, 3], [3, 2, 4]]
    two = geometry.make_channel_index(chain.neighbors(25), chain.positions, steps=2)
    assert two.tolist() == [[0, 1, 2, 4], [1, 0, 2, 3], [2, 1, 3, 0], [3, 2, 1, 4]]


def test_channel_index_starts_with_self_where_shanks_share_positions():
    probe = Probe(np.zeros((3, 2)), shanks=[0, 1, 2])
    index = geometry.make_channel_index(np.ones((3, 3), dtype=bool), probe.positions)
    assert index.tolist() == [[0, 1, 2], [1, 0, 2], [2, 0, 1]]


def test_order_by_distance_keeps_ties_in_place():
    ordered, order = geometry.order_channels_by_distance(0, [3, 2, 1], np.array([[0, 0], [0, 9], [9, 0], [0, 1]]))
    assert ordered.tolist() == [3, 2, 1]
    assert order.tolist() == [0, 1, 2]


@given(
    hnp.arrays(np.int64, st.tuples(st.integers(1, 12), st.just(2)), elements=st.integers(0, 4)),
    st.integers(0, 5),
)
def test_groups_are_a_partition(positions, radius):
    neighbors = geometry.find_channel_neighbors(positions, radius)
    groups = geometry.make_channel_groups(len(positions), neighbors, positions)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(positions)))
    assert all(any(neighbors[seed, group].all() for seed in group) for group in groups)


def test_probe_subset_keeps_what_belongs_to_a_channel():
    probe = Probe(SQUARE, shanks=[0, 0, 1, 1], sample_shifts=[0.0, 0.1, 0.2, 0.3]).subset([3, 1])
    assert probe.positions.tolist() == [[30, 40], [30, 0]]
    assert probe.shanks.tolist() == [1, 0]
    assert probe.sample_shifts.tolist() == [0.3, 0.1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"positions": [[0, 0], [0, 25], [0, 0]]},
            r"channels 0 and 2 are both at \[0.0, 0.0\] um on shank 0",
        ),
        ({"positions": [[0, 0], [np.inf, 25]]}, "channel 1 has position"),
        ({"positions": [0, 1]}, "expected positions of shape"),
        ({"positions": np.empty((0, 2))}, "expected positions of shape"),
        ({"positions": [["a", "b"]]}, "must be numbers"),
        ({"positions": SQUARE, "shanks": [0, 1]}, r"shanks: expected one value per channel \(4\)"),
        ({"positions": SQUARE, "sample_shifts": [0, 0, 0, np.nan]}, "sample_shifts: values must be finite"),
    ],
)
def test_probe_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        Probe(**arguments)


def test_two_shanks_may_share_a_position():
    assert Probe([[0, 0], [0, 0]], shanks=[0, 1]).n_channels == 2


def test_as_probe_takes_what_users_have(tmp_path):
    np.save(tmp_path / "g.npy", SQUARE)
    for given_geometry in (
        SQUARE,
        SQUARE.tolist(),
        Probe(SQUARE),
        tmp_path / "g.npy",
        str(tmp_path / "g.npy"),
    ):
        assert np.array_equal(geometry.as_probe(given_geometry, 4).positions, SQUARE)
    assert geometry.as_probe(None, 3).positions.tolist() == [[0, 0], [0, 25], [0, 50]]
    with pytest.raises(InputError, match="4 contact positions for a recording of 5 channels"):
        geometry.as_probe(Probe(SQUARE), 5)


def test_probe_shows_itself():
    probe = Probe(SQUARE, shanks=[0, 0, 1, 1])
    assert repr(probe) == "Probe: 4 channels, 2 shanks, 30 x 40 um"
    assert probe.sketch().count("<circle") == 4
    assert geometry.linear(1).sketch().count("<circle") == 1
    assert json.loads(json.dumps(probe.identity()))["shanks"] == [0, 0, 1, 1]


def write_probes(path, wirings, units="um", shifts=None):
    """A probeinterface file of square probes 100 um apart, wired as told."""
    import probeinterface

    group = probeinterface.ProbeGroup()
    for number, wiring in enumerate(wirings):
        probe = probeinterface.Probe(ndim=2, si_units=units)
        scale = {"um": 1, "mm": 1e-3}[units]
        probe.set_contacts(
            (SQUARE + np.array([100 * number, 0])) * scale,
            shapes="circle",
            shape_params={"radius": 5 * scale},
        )
        probe.set_shank_ids(["a", "a", "b", "b"])
        if wiring is not None:
            probe.set_device_channel_indices(wiring)
        if shifts is not None:
            probe.annotate_contacts(inter_sample_shift=np.asarray(shifts))
        group.add_probe(probe)
    probeinterface.write_probeinterface(path, group)
    return path


def test_probe_file_in_order_of_channels(tmp_path):
    path = write_probes(tmp_path / "p.json", [[2, 0, 3, 1]], shifts=[0.0, 0.1, 0.2, 0.3])
    probe = geometry.read_probe(path, 4)
    assert np.array_equal(probe.positions, SQUARE[[1, 3, 0, 2]])
    assert probe.shanks.tolist() == [0, 1, 0, 1]
    assert probe.sample_shifts.tolist() == [0.1, 0.3, 0.0, 0.2]


def test_probe_file_of_two_probes_with_contacts_not_recorded(tmp_path):
    path = write_probes(tmp_path / "p.json", [[0, -1, 1, -1], [-1, 2, -1, 3]], units="mm")
    probe = geometry.read_probe(path, 4)
    assert np.allclose(probe.positions, [[0, 0], [0, 40], [130, 0], [130, 40]])
    assert probe.shanks.tolist() == [0, 1, 2, 3]
    assert probe.sample_shifts is None


def test_probe_file_not_wired_is_in_its_own_order(tmp_path):
    probe = geometry.read_probe(write_probes(tmp_path / "p.json", [None]), 4)
    assert np.array_equal(probe.positions, SQUARE)


@pytest.mark.parametrize(
    ("wirings", "n_channels", "message"),
    [
        ([None], 5, "4 contact positions for a recording of 5"),
        ([[0, 1, 2, -1]], 4, "3 contact positions for a recording of 4"),
        ([[0, 1, 2, 7]], 4, r"must be the channels 0 ... 3, each once; found \[0, 1, 2, 7\]"),
        ([], 4, "holds no probe"),
    ],
)
def test_probe_file_refuses(tmp_path, wirings, n_channels, message):
    path = write_probes(tmp_path / "p.json", wirings)
    with pytest.raises(InputError, match=message):
        geometry.read_probe(path, n_channels)


@pytest.mark.parametrize("content", ["{}", "[1]", "not json"])
def test_probe_file_that_is_none(tmp_path, content):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(InputError, match="not a probeinterface file"):
        geometry.read_probe(tmp_path / "p.json", 4)


def test_a_message_about_a_probe_file_shows_no_classes(tmp_path):
    path = write_probes(tmp_path / "p.json", [[0, 1, 2, 3]])
    content = json.loads(path.read_text())
    content["probes"][0]["contact_annotations"] = {"brain_area": {}}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="not a probeinterface file") as caught:
        geometry.read_probe(path, 4)
    assert "<class" not in str(caught.value)
