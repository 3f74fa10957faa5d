"""TemplatesProcessor: choose, crop, align."""

import numpy as np
import pytest

from yass_dask.errors import InputError
from yass_dask.geometry import find_channel_neighbors
from yass_dask.templatesprocessor import TemplatesProcessor

POSITIONS = np.array([[0.0, 0.0], [0.0, 20.0], [0.0, 40.0], [0.0, 60.0]])


@pytest.fixture
def templates():
    values = np.zeros((3, 9, 4))
    values[0, 4, 1] = -10
    values[0, 4, 2] = -3
    values[1, 6, 3] = 5
    values[1, 6, 2] = 2
    values[2, 2, 0] = -1
    return values


def test_main_channels_and_amplitudes_take_either_sign(templates):
    processor = TemplatesProcessor(templates)
    assert processor.main_channels.tolist() == [1, 3, 0]
    assert processor.amplitudes.tolist() == [10, 5, 1]


def test_choosing_copies_unless_in_place(templates):
    processor = TemplatesProcessor(templates)
    chosen = processor.choose_with_indexes([2, 0])
    assert chosen.amplitudes.tolist() == [1, 10]
    assert len(processor.values) == 3
    assert processor.choose_with_indexes([1], inplace=True) is processor
    assert processor.amplitudes.tolist() == [5]


def test_bad_index_and_bad_shape_are_refused(templates):
    with pytest.raises(IndexError):
        TemplatesProcessor(templates).choose_with_indexes([3])
    with pytest.raises(InputError, match=r"\(9, 4\)"):
        TemplatesProcessor(templates[0])


def test_minimum_amplitude_is_inclusive(templates):
    assert len(TemplatesProcessor(templates).choose_with_minimum_amplitude(5).values) == 2


def test_crop_spatially_puts_the_main_channel_first_then_by_distance(templates):
    neighbors = find_channel_neighbors(POSITIONS, 25)
    cropped = TemplatesProcessor(templates).crop_spatially(neighbors, POSITIONS)
    assert cropped.values.shape == (3, 9, 3)
    assert cropped.values[0, 4].tolist() == [-10, 0, -3]
    # Channel 3 has one neighbour within 25 um: the last place is padding.
    assert cropped.values[1, 6].tolist() == [5, 2, 0]


def test_crop_temporally_and_align_keep_the_peak(templates):
    cropped = TemplatesProcessor(templates).crop_temporally(3, 4)
    assert cropped.values.shape == (3, 8, 4)
    assert [cropped.values[k, 3, c] for k, c in enumerate((1, 3, 0))] == [-10, 5, -1]
    aligned = TemplatesProcessor(templates).align()
    assert aligned.values.shape == templates.shape
    assert [aligned.values[k, 4, c] for k, c in enumerate((1, 3, 0))] == [-10, 5, -1]
