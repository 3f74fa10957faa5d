"""The simulator keeps what it promises: repeatable, seamless, and as honest as it says."""

import numpy as np
import pytest
import yaml
from scipy import signal

from yass_dask.errors import InputError
from yass_dask.simulate import plan, render, simulate, write
from yass_dask.simulate.band import band_pass
from yass_dask.simulate.layout import LAYOUTS
from yass_dask.simulate.noise import noise_blocks

GAIN = 0.195


@pytest.fixture(scope="module")
def small():
    return simulate(n_channels=16, seconds=8, n_units=10, seed=1)


def band_passed(traces, rate):
    sections = signal.butter(3, [300, min(6000, 0.45 * rate)], btype="bandpass", fs=rate, output="sos")
    return signal.sosfiltfilt(sections, traces, axis=0)


def test_shapes_and_types(small):
    assert small.traces.shape == (240000, 16)
    assert small.traces.dtype == np.int16
    assert small.spike_times.dtype == small.spike_labels.dtype == np.int64
    assert len(small.spike_times) == len(small.spike_labels) > 100
    assert np.all(np.diff(small.spike_times) >= 0)
    assert small.templates.shape[0] == len(small.snr) == len(small.unit_positions) == 10
    assert small.templates.shape[2] == len(small.positions) == len(small.gain_to_uv) == 16


def test_the_seed_decides_everything(small):
    again, other = (simulate(n_channels=16, seconds=8, n_units=10, seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(again.traces, small.traces)
    np.testing.assert_array_equal(again.spike_times, small.spike_times)
    assert not np.array_equal(other.traces, small.traces)
    assert not np.array_equal(other.templates, small.templates)


def test_template_peak_is_the_extremum_in_the_band_too(small):
    for templates in (small.templates, band_pass(small.templates.astype(float), 30000.0)):
        main = np.abs(templates).max(axis=1).argmax(axis=1)
        waves = templates[np.arange(len(templates)), :, main]
        assert set(np.abs(waves).argmax(axis=1)) == {small.template_peak}


def test_some_units_are_positive_going():
    scene = plan(n_channels=8, seconds=1, n_units=60)
    peaks = scene.templates[:, scene.template_peak]
    main = np.abs(peaks).argmax(axis=1)
    positive = peaks[np.arange(60), main] > 0
    assert 3 <= positive.sum() <= 20


def test_ratio_is_extremum_over_noise_in_the_band(small):
    noise = simulate(n_channels=16, seconds=8, n_units=0, seed=1)
    sd = band_passed(noise.traces * GAIN, 30000.0).std(axis=0)
    assert np.all((sd > 4.9) & (sd < 10.4))
    sizes = np.abs(band_pass(small.templates.astype(float), 30000.0)).max(axis=1)
    main = sizes.argmax(axis=1)
    np.testing.assert_allclose(sizes[np.arange(10), main] / sd[main], small.snr, rtol=0.05)
    assert 3 <= small.snr.min() < 4.2
    assert 22 < small.snr.max() <= 30


def test_noise_is_correlated_in_space_and_coloured_in_time():
    noise = simulate(n_channels=32, seconds=8, n_units=0, seed=3)
    uv = noise.traces * GAIN
    correlation = np.corrcoef(band_passed(uv, 30000.0).T)
    distance = np.linalg.norm(noise.positions[:, None] - noise.positions[None], axis=-1)
    near = correlation[(distance > 0) & (distance < 40)].mean()
    far = correlation[distance > 250].mean()
    assert near > 0.4
    assert 0.05 < far < near - 0.2
    frequency, power = signal.welch(uv[:, 0], 30000.0, nperseg=16384)
    slow, low, high, top = (power[np.searchsorted(frequency, f)] for f in (15, 150, 800, 8000))
    assert slow > 10 * low > 10 * high
    assert high > 2 * top


def test_blocks_of_noise_join_without_a_seam():
    scene = plan(n_channels=4, seconds=3, n_units=0, seed=5)
    traces = np.concatenate(list(noise_blocks(scene.noise, 8)))
    steps = np.abs(np.diff(traces, axis=0))
    seams = steps[scene.noise.block - 1 :: scene.noise.block]
    assert len(seams) == 7
    assert seams.max() < steps.max()
    # a seam would be a step as large as the slow potential itself, tens of uV
    assert seams.mean() < 1.5 * steps.mean()


def test_traces_are_noise_plus_scaled_templates():
    scene = plan(n_channels=4, seconds=2, n_units=4, seed=7, geometry="tetrode")
    spikes = np.concatenate(list(render(scene))) * GAIN - np.concatenate(list(noise_blocks(scene.noise, 2)))
    expected = np.zeros_like(spikes)
    for time, unit, jitter, scale in zip(
        scene.spike_times, scene.spike_labels, scene.spike_jitters, scene.spike_scales, strict=True
    ):
        begin = time - scene.template_peak
        expected[begin : begin + scene.waveforms.shape[2]] += scale * scene.waveforms[unit, jitter]
    assert np.abs(expected).max() > 50
    assert np.abs(spikes - expected).max() <= GAIN / 2 + 1e-3


def test_jitter_moves_a_waveform_by_fifths_of_a_sample():
    scene = plan(n_channels=8, seconds=1, n_units=12, seed=2)
    fine = signal.resample_poly(np.pad(scene.waveforms, [(0, 0), (0, 0), (40, 40), (0, 0)]), 20, 1, axis=2)
    main = np.abs(scene.templates).max(axis=1).argmax(axis=1)
    peaks = np.abs(fine[np.arange(12), :, :, main]).argmax(axis=2)
    moved = (peaks - peaks[:, 2:3]) / 20
    np.testing.assert_allclose(moved, np.tile([-0.4, -0.2, 0, 0.2, 0.4], (12, 1)), atol=0.11)
    assert set(plan(n_channels=4, seconds=20, n_units=3).spike_jitters) == {0, 1, 2, 3, 4}


def test_trains_rest_after_each_spike_and_a_third_bursts():
    scene = plan(n_channels=4, seconds=300, n_units=30, seed=4)
    rates, falls, shortest = [], [], []
    for unit in range(30):
        own = scene.spike_labels == unit
        intervals = np.diff(scene.spike_times[own]) / 30.0
        rates.append(own.sum() / 300)
        falls.append(scene.spike_scales[own].std())
        shortest.append(intervals.min())
    assert min(shortest) >= 2.0 - 0.05
    assert min(rates) > 0.25
    assert max(rates) < 40
    assert np.std(np.log(rates)) > 0.5
    steady = np.sort(falls)[:20]
    np.testing.assert_allclose(steady, 0.06, atol=0.012)
    assert (np.array(falls) > 0.075).sum() == 10


def test_overlaps_arise():
    scene = plan(n_channels=16, seconds=60, n_units=20)
    gaps = np.diff(scene.spike_times)
    assert (gaps[np.diff(scene.spike_labels) != 0] < 15).mean() > 0.01


@pytest.mark.parametrize("geometry", sorted(LAYOUTS))
def test_layouts_have_no_two_contacts_at_one_place(geometry):
    positions = plan(n_channels=21, seconds=0.1, n_units=1, geometry=geometry).positions
    assert positions.shape == (21, 2)
    assert len(np.unique(positions, axis=0)) == 21


@pytest.mark.parametrize("rate", [10000.0, 20000.0, 24414.0625, 32000.0])
def test_other_rates(rate):
    made = simulate(n_channels=2, seconds=2.5, n_units=2, sampling_rate=rate)
    assert made.traces.shape == (round(2.5 * rate), 2)
    peak = np.abs(made.templates).max(axis=2).argmax(axis=1)
    assert np.all(np.abs(peak - made.template_peak) <= 1)


def test_one_channel_and_own_positions():
    assert simulate(n_channels=1, seconds=1, n_units=1).traces.shape == (30000, 1)
    positions = np.array([[0.0, 0.0], [5.0, 7.0]])
    np.testing.assert_array_equal(plan(n_channels=2, seconds=1, geometry=positions).positions, positions)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_channels": 0}, "n_channels is 0"),
        ({"seconds": 0.001}, "seconds is 0.001"),
        ({"seconds": np.inf}, "seconds is inf"),
        ({"seconds": np.nan}, "seconds is nan"),
        ({"n_units": -1}, "n_units is -1"),
        ({"sampling_rate": 30.0}, "sampling_rate is 30"),
        ({"snr": (5.0, 2.0)}, "snr is"),
        ({"snr": (5.0, np.inf)}, "snr is"),
        ({"geometry": "utah"}, "choose one of neuropixels"),
        ({"geometry": np.zeros((3, 2))}, r"geometry has shape \(3, 2\)"),
    ],
)
def test_bad_input_is_told(wrong, message):
    with pytest.raises(InputError, match=message):
        plan(**wrong)


def test_written_folder_holds_the_same_recording(small, tmp_path):
    config = yaml.safe_load(write(tmp_path, small.scene).read_text())
    stored = np.fromfile(tmp_path / config["data"]["recordings"], config["recordings"]["dtype"])
    np.testing.assert_array_equal(stored.reshape(-1, 16), small.traces)
    np.testing.assert_array_equal(np.load(tmp_path / config["data"]["geometry"]), small.positions)
    assert config["data"]["root_folder"] == "./"
    assert config["recordings"]["sampling_rate"] == 30000
    assert config["recordings"]["n_channels"] == 16
    assert config["recordings"]["gain_to_uv"] == GAIN
    with np.load(tmp_path / "ground_truth.npz", allow_pickle=False) as truth:
        np.testing.assert_array_equal(truth["spike_times"], small.spike_times)
        np.testing.assert_array_equal(truth["spike_labels"], small.spike_labels)
        np.testing.assert_array_equal(truth["snr"], small.snr)
