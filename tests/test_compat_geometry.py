"""`yass_dask.compat.geometry` and TemplatesProcessor: exact on small examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yass_dask.compat import geometry, templates

row = pytest.mark.coverage_row
LINE = np.column_stack([np.zeros(5), [0.0, 20.0, 40.0, 60.0, 85.0]])


@row("A9.1", "A1.3")
def test_parse_reads_text_and_npy_alike(tmp_path: Path):
    positions = np.array([[0, 1.5], [-3, 20], [7.25, 40]])
    np.save(tmp_path / "geom.npy", positions)
    (tmp_path / "geom.txt").write_text("0 1.5\n-3   20\n7.25 40\n")
    for name in ("geom.npy", "geom.txt"):
        np.testing.assert_array_equal(geometry.parse(str(tmp_path / name), n_channels=3), positions)
        with pytest.raises(ValueError, match="3 contact positions for a recording of 4 channels"):
            geometry.parse(tmp_path / name, 4)
    (tmp_path / "geom.csv").write_text("0,1\n")
    with pytest.raises(ValueError, match=r"\.txt or \.npy"):
        geometry.parse(tmp_path / "geom.csv", 1)


@row("A9.2", "A1.10")
def test_neighbours_are_within_the_radius_and_on_it():
    found = geometry.find_channel_neighbors(LINE, 20)
    expected = np.eye(5, dtype=bool)
    expected[[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]] = True  # the fifth is 25 away
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found, found.T)


@row("A9.3")
def test_steps_on_a_chain():
    near = geometry.find_channel_neighbors(LINE, 25)
    np.testing.assert_array_equal(geometry.n_steps_neigh_channels(near, 0), np.eye(5, dtype=bool))
    for steps in (1, 2, 3):
        distance = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
        np.testing.assert_array_equal(geometry.n_steps_neigh_channels(near, steps), distance <= steps)


@row("A9.4")
def test_channel_index_is_ordered_by_distance_and_padded():
    near = geometry.find_channel_neighbors(LINE, 25)
    expected = [[0, 1, 5], [1, 0, 2], [2, 1, 3], [3, 2, 4], [4, 3, 5]]
    np.testing.assert_array_equal(geometry.make_channel_index(near, LINE), expected)
    two = geometry.make_channel_index(near, LINE, steps=2)
    assert two[4].tolist() == [4, 3, 2, 5, 5]
    assert two[3].tolist() == [3, 2, 4, 1, 5]


@row("A9.5")
@pytest.mark.parametrize("radius", [10, 20, 45, 100])
def test_groups_are_a_partition_into_neighbours(radius):
    near = geometry.find_channel_neighbors(LINE, radius)
    groups = geometry.make_channel_groups(5, near, LINE)
    assert sorted(channel for group in groups for channel in group) == list(range(5))
    assert all(any(near[seed, list(group)].all() for seed in group) for group in groups)
    assert len(groups) == {10: 5, 20: 3, 45: 2, 100: 1}[radius]


@row("A9.6")
def test_order_by_distance_keeps_ties_in_the_order_given():
    ordered, index = geometry.order_channels_by_distance(1, np.array([4, 2, 0, 3]), LINE)
    assert ordered.tolist() == [2, 0, 3, 4]
    assert index.tolist() == [1, 2, 3, 0]
    assert geometry.order_channels_by_distance(1, np.array([0, 2]), LINE)[0].tolist() == [0, 2]


# --- TemplatesProcessor ---


@pytest.fixture
def waveforms() -> np.ndarray:
    """(3, 9, 5): peaks on channels 2, 0 and 4, the first one negative."""
    values = np.zeros((3, 9, 5))
    values[0, 4, 2], values[0, 5, 1] = -10, 3
    values[1, 2, 0], values[1, 3, 1] = 6, -4
    values[2, 6, 4] = 1
    return values


@row("A7.7", "A7.10")
def test_processor_takes_templates_and_tells_about_them(waveforms):
    processor = templates.TemplatesProcessor(waveforms)
    np.testing.assert_array_equal(processor.values, waveforms)
    assert processor.amplitudes.tolist() == [10, 6, 1]
    assert processor.main_channels.tolist() == [2, 0, 4]
    with pytest.raises(ValueError, match="templates have shape"):
        templates.TemplatesProcessor(waveforms[0])


@row("A7.8", "A7.10")
def test_choosing_templates_copies_unless_in_place(waveforms):
    processor = templates.TemplatesProcessor(waveforms)
    chosen = processor.choose_with_indexes([2, 0])
    np.testing.assert_array_equal(chosen.values, waveforms[[2, 0]])
    assert len(processor.values) == 3
    with pytest.raises(IndexError):
        processor.choose_with_indexes([3])
    processor.choose_with_indexes([1], inplace=True)
    np.testing.assert_array_equal(processor.values, waveforms[[1]])
    large = templates.TemplatesProcessor(waveforms).choose_with_minimum_amplitude(6)
    np.testing.assert_array_equal(large.values, waveforms[:2])


@row("A7.9")
def test_spatial_crop_puts_the_main_channel_first_and_pads(waveforms):
    near = geometry.find_channel_neighbors(LINE, 25)
    processor = templates.TemplatesProcessor(waveforms)
    cropped = processor.crop_spatially(near, LINE).values
    assert cropped.shape == (3, 9, 3)
    np.testing.assert_array_equal(cropped[0], waveforms[0][:, [2, 1, 3]])
    np.testing.assert_array_equal(cropped[1][:, :2], waveforms[1][:, [0, 1]])
    assert not cropped[1][:, 2].any()
    processor.crop_spatially(near, LINE, inplace=True)
    np.testing.assert_array_equal(processor.values, cropped)


@row("A7.10")
def test_temporal_crop_and_alignment(waveforms):
    processor = templates.TemplatesProcessor(waveforms)
    cropped = processor.crop_temporally(1, 2).values
    np.testing.assert_array_equal(cropped[0], waveforms[0][3:7])
    np.testing.assert_array_equal(cropped[1], waveforms[1][1:5])
    aligned = processor.align().values
    assert [int(np.abs(w).max(axis=1).argmax()) for w in aligned] == [4, 4, 4]
