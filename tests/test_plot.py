"""Plots draw what they say, and say what is missing."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from yass_dask import plot
from yass_dask.errors import InputError
from yass_dask.geometry import linear
from yass_dask.readers import from_array
from yass_dask.sorting import Sorting

RATE = 20000.0


@pytest.fixture(autouse=True)
def no_window():
    import matplotlib

    matplotlib.use("Agg")
    yield
    matplotlib.pyplot.close("all")


@pytest.fixture
def sorting():
    templates = np.zeros((2, 20, 4), np.float32)
    templates[0, 8, 1], templates[1, 8, 3] = -50, -80
    return Sorting(
        sample_index=np.arange(100, 19000, 100),
        unit_index=np.tile([3, 7], 95)[:189],
        amplitudes=np.full(189, 50.0),
        templates=templates,
        unit_ids=np.array([3, 7]),
        unit_locations=np.zeros((2, 2)),
        units=[{"unit_id": 3, "label": "good"}],
        sampling_rate=RATE,
        n_samples=20000,
        template_peak=8,
        probe=linear(4),
        channel_ids=np.arange(4),
    )


@pytest.fixture
def recording():
    return from_array(np.random.default_rng(0).normal(0, 20, (20000, 4)).astype(np.int16), RATE, gain_to_uv=0.5)


def test_templates_lie_where_their_contacts_lie(sorting):
    axes = plot.plot_templates(sorting, n_channels=2)
    assert [panel.get_title() for panel in axes] == ["unit 3 good", "unit 7 "]
    wave = axes[1].lines[0].get_ydata()
    assert wave.max() == 75
    assert wave.min() == 75 - 40
    assert len(axes[0].lines) == 3


def test_autocorrelogram_counts_by_hand():
    times = np.array([0, 20, 60, 1000])
    edges, rates = plot.autocorrelogram(times, 20000.0, window_ms=4.0, bin_ms=1.0)
    # lags: 1, 3 and 2 ms, each once among 4 spikes, in bins of 1 ms
    np.testing.assert_allclose(edges, np.arange(-4, 5))
    np.testing.assert_allclose(rates, np.array([1, 1, 1, 0, 0, 1, 1, 1]) / 4 / 1e-3)
    assert plot.autocorrelogram(np.empty(0, int), 20000.0, 4.0, 1.0)[1].tolist() == [0.0] * 8


def test_autocorrelograms_have_a_panel_a_unit(sorting):
    axes = plot.plot_autocorrelograms(sorting, [7])
    assert [panel.get_title() for panel in axes] == ["unit 7, 94 spikes"]


def test_traces_with_spikes_and_residual(recording, sorting):
    axes = plot.plot_traces(recording, 0.1, 0.15, sorting=sorting, residual=recording)
    seconds, first = axes.lines[0].get_data()
    np.testing.assert_allclose(first, recording.source.read(2000, 3000)[:, 0] * 0.5, atol=1e-4)
    assert (seconds[0], len(seconds)) == (0.1, 1000)
    markers = [line for line in axes.lines if line.get_marker() == "v"]
    assert sorted(line.get_label() for line in markers) == ["3", "7"]
    assert sum(len(line.get_xdata()) for line in markers) == 10
    assert len(axes.lines) == 4 + 4 + 2


def test_channels_asked_for(recording, sorting):
    axes = plot.plot_traces(recording, 0, 0.02, sorting=sorting, channels=[3])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["3"]
    assert sum(line.get_marker() == "v" for line in axes.lines) == 1


def test_nothing_to_draw(recording, sorting):
    none = Sorting(
        sample_index=np.empty(0),
        unit_index=np.empty(0),
        amplitudes=np.empty(0),
        templates=np.zeros((0, 20, 4)),
        unit_ids=np.empty(0),
        unit_locations=np.zeros((0, 2)),
        units=[],
        sampling_rate=RATE,
        n_samples=20000,
        template_peak=8,
        probe=linear(4),
        channel_ids=np.arange(4),
    )
    assert plot.plot_templates(none) == []
    assert plot.plot_autocorrelograms(none) == []
    assert plot.plot_crosscorrelograms(none, []) == []
    assert len(plot.plot_traces(recording, 0, 0.01, sorting=none).lines) == 4
    assert not plot.plot_raster(none).lines


def test_crosscorrelograms_have_a_panel_a_pair(sorting):
    panels = plot.plot_crosscorrelograms(sorting, [3, 7], window_ms=10.0, bin_ms=1.0)
    assert [panel.get_title() for panel in panels] == ["3", "7 around 3", "3 around 7", "7"]
    # the units take turns every 5 ms: own spikes at 0 and 10 ms, the other's at 5 ms
    own, other = (panel.patches[0].get_data().values for panel in panels[:2])
    assert np.flatnonzero(own).tolist() == []
    assert np.flatnonzero(other).tolist() == [5, 15]


def test_raster_has_a_row_a_unit(sorting):
    axes = plot.plot_raster(sorting, [7, 3], start_s=0.5, end_s=0.6)
    rows = [line.get_data() for line in axes.lines]
    for unit, (seconds, heights), row in zip([7, 3], rows, [0, 1], strict=True):
        times = sorting.times_of(unit) / RATE
        np.testing.assert_allclose(seconds, times[(times >= 0.5) & (times <= 0.6)])
        assert set(heights) == {row}
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["7", "3"]


def test_drift_and_residual_of_a_sort(small_sorted):
    axes = plot.plot_drift(small_sorted.sorting)
    seconds, depth = axes.collections[0].get_offsets().T
    y = small_sorted.recording.probe.positions[:, 1]
    assert len(seconds) > 0.7 * small_sorted.sorting.n_spikes
    assert 9 < np.ptp(seconds) < 10
    assert y.min() <= depth.min() < depth.max() <= y.max()
    axes = plot.plot_residual(small_sorted.sorting, 1.0, 1.5, channels=[0, 1])
    clean, left = (axes.lines[k].get_ydata() for k in (0, 2))
    assert len(clean) == len(left) == 15000
    assert 0.8 < left.std() <= clean.std()
    with pytest.raises(InputError, match="open the sorting from the folder"):
        plot.plot_drift(replace(small_sorted.sorting, path=None))


def test_bad_input_is_told(recording, sorting, monkeypatch):
    with pytest.raises(InputError, match=r"units \[4\] not found"):
        plot.plot_templates(sorting, [4])
    with pytest.raises(InputError, match="0 to 2 s is no stretch of a recording of 1 s"):
        plot.plot_traces(recording, 0, 2)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match="plots need matplotlib"):
        plot.plot_templates(sorting)
