"""Recordings that are made while they are read: the same samples however they are cut, and true spikes in them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from yass_dask import InputError
from yass_dask.simulate import stream
from yass_dask.simulate.loops import LENGTHS
from yass_dask.simulate.stream import EPOCH_S

RATE = 10_000.0
SECONDS = 21.3
UNIT_FACTS = {"n_channels": 6, "n_units": 4, "seed": 5, "sampling_rate": RATE, "geometry": "linear"}


@pytest.fixture(scope="module")
def recording():
    return stream(seconds=SECONDS, **UNIT_FACTS)


@pytest.fixture(scope="module")
def whole(recording):
    return recording.source.read(0, recording.n_samples)


def band_passed(traces):
    return signal.sosfiltfilt(signal.butter(3, [300, 4500], btype="bandpass", fs=RATE, output="sos"), traces, axis=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, round(SECONDS * RATE)), st.integers(0, 30_000))
def test_any_stretch_has_the_same_samples(recording, whole, start, length):
    stop = min(start + length, recording.n_samples)
    read = recording.source.read(start, stop)
    assert read.dtype == np.int16
    np.testing.assert_array_equal(read, whole[start:stop])


def test_the_seed_decides_everything(whole):
    again = stream(seconds=SECONDS, **UNIT_FACTS).source
    other = stream(seconds=SECONDS, **{**UNIT_FACTS, "seed": 6}).source
    np.testing.assert_array_equal(again.read(0, 5000), whole[:5000])
    assert not np.array_equal(other.read(0, 5000), whole[:5000])
    assert again.identity() != other.identity()
    assert again.identity() == stream(seconds=SECONDS, **UNIT_FACTS).source.identity()


def test_a_longer_one_begins_the_same_and_is_no_larger_to_send(recording, whole):
    days = stream(seconds=7 * 86400.0, **UNIT_FACTS)
    np.testing.assert_array_equal(days.source.read(0, 200_000), whole[:200_000])
    late = days.n_samples - 3000
    assert days.source.read(late, days.n_samples).std() > 0
    assert len(pickle.dumps(days)) <= len(pickle.dumps(recording)) + 50


def test_no_two_loops_have_a_common_divisor():
    for i, length in enumerate(LENGTHS):
        assert all(np.gcd(length, other) == 1 for other in LENGTHS[i + 1 :])


def test_every_true_spike_is_in_the_traces(recording, whole):
    """The mean around a unit's spikes has its extremum at them, of the ratio that the truth tells."""
    spikes, ratios = recording.source.spikes(), recording.source.unit_snr
    clean = band_passed(whole * recording.gain_to_uv)
    noise = np.median(np.abs(clean), axis=0) / 0.6745
    for unit, ratio in enumerate(ratios):
        times = spikes.times[spikes.labels == unit]
        assert len(times) > 5
        mean = np.mean([clean[t - 20 : t + 21] for t in times], axis=0)
        row, channel = np.unravel_index(np.abs(mean).argmax(), mean.shape)
        assert abs(row - 20) <= 1
        assert np.abs(mean[row, channel]) / noise[channel] == pytest.approx(ratio, rel=0.35)


def test_trains_are_those_of_neurons_across_their_pieces(recording):
    spikes = recording.source.spikes()
    assert (np.diff(spikes.times) >= 0).all()
    for unit in range(4):
        times = spikes.times[spikes.labels == unit]
        assert np.diff(times).min() >= 0.002 * RATE - 1
        pieces = np.unique(times // round(EPOCH_S * RATE))
        assert {0, 1} <= set(pieces.tolist())
    np.testing.assert_array_equal(
        recording.source.spikes(30_000, 150_000).times,
        spikes.times[(spikes.times >= 30_000) & (spikes.times < 150_000)],
    )


def test_background_is_as_strong_as_the_files_of_the_simulator(recording, whole):
    """5 to 10 uV in the band, alike on neighbours, and not the same again a loop later."""
    clean = band_passed(whole * recording.gain_to_uv)
    sd = np.median(np.abs(clean), axis=0) / 0.6745
    assert (sd > 4).all()
    assert (sd < 12).all()
    correlation = np.corrcoef(clean.T)
    assert correlation[0, 1] > correlation[0, 5]
    for length in LENGTHS:
        again = np.corrcoef(clean[:-length, 0], clean[length:, 0])[0, 1]
        assert abs(again) < 0.3


def test_bad_numbers_are_refused():
    with pytest.raises(InputError, match="seconds is 0"):
        stream(seconds=0.0)
    with pytest.raises(InputError, match="n_channels is 0"):
        stream(n_channels=0)
