"""Plots draw what they say, and say what is missing."""

import sys

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
    figure = plot.plot_templates(sorting, n_channels=2)
    axes = [panel for panel in figure.axes if panel.has_data()]
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
    figure = plot.plot_autocorrelograms(sorting, [7])
    assert [panel.get_title() for panel in figure.axes] == ["unit 7, 94 spikes"]


def test_traces_with_spikes_and_residual(recording, sorting):
    figure = plot.plot_traces(recording, 0.1, 0.15, sorting=sorting, residual=recording)
    (axes,) = figure.axes
    seconds, first = axes.lines[0].get_data()
    np.testing.assert_allclose(first, recording.source.read(2000, 3000)[:, 0] * 0.5, atol=1e-4)
    assert (seconds[0], len(seconds)) == (0.1, 1000)
    markers = [line for line in axes.lines if line.get_marker() == "v"]
    assert sorted(line.get_label() for line in markers) == ["3", "7"]
    assert sum(len(line.get_xdata()) for line in markers) == 10
    assert len(axes.lines) == 4 + 4 + 2


def test_channels_asked_for(recording, sorting):
    (axes,) = plot.plot_traces(recording, 0, 0.02, sorting=sorting, channels=[3]).axes
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
    assert not any(panel.lines for panel in plot.plot_templates(none).axes)
    assert not any(panel.patches for panel in plot.plot_autocorrelograms(none).axes)
    (axes,) = plot.plot_traces(recording, 0, 0.01, sorting=none).axes
    assert len(axes.lines) == 4


def test_bad_input_is_told(recording, sorting, monkeypatch):
    with pytest.raises(InputError, match=r"units \[4\] not found"):
        plot.plot_templates(sorting, [4])
    with pytest.raises(InputError, match="0 to 2 s is no stretch of a recording of 1 s"):
        plot.plot_traces(recording, 0, 2)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match="plots need matplotlib"):
        plot.plot_templates(sorting)
