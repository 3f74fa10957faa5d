"""The triage's threshold on a recording that nobody has labelled."""

from __future__ import annotations

import numpy as np
import pytest

from yass_dask import from_array
from yass_dask.conditioning import PreprocessParams
from yass_dask.detect import DetectParams, detect, fit_triage
from yass_dask.neuralnetwork.background import whitened
from yass_dask.neuralnetwork.prior import LEAST_WAVEFORMS, least_log_odds
from yass_dask.pipeline import SortParams, sort
from yass_dask.runtime import Executor

APART = 3.0
"""Standard deviations between the two classes."""


def judged(n: int, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of a perfect classifier of two normal distributions, and which are of class 1."""
    draw = np.random.default_rng(seed)
    one = draw.random(n) < share
    x = draw.normal(size=n) + np.where(one, 0.5, -0.5) * APART
    return APART * x, one


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("kept", [0.9, 0.95])
def test_the_wanted_share_is_kept_however_many_there_are(share, kept):
    odds, one = judged(20_000, share)
    least = least_log_odds(odds, kept)
    assert (odds[one] >= least).mean() == pytest.approx(kept, abs=0.015)


def test_too_few_waveforms_tell_nothing():
    odds, _ = judged(LEAST_WAVEFORMS, 0.9)
    assert least_log_odds(odds[1:], 0.9) == 0.0 == least_log_odds(odds[:0], 0.9)
    assert least_log_odds(odds, 0.9) != 0.0


def test_where_all_are_of_one_class_no_more_than_asked_are_lost():
    odds, one = judged(2000, 1.0)
    assert one.all() and (odds >= least_log_odds(odds, 0.95)).mean() > 0.93


def opened_by(n_chunk_blocks: int, simulation, folder) -> tuple[float, np.ndarray]:
    """The least probability of a single spike, and the clear peaks, of a detector with a triage."""
    recording = from_array(simulation.traces, simulation.sampling_rate, simulation.positions, simulation.gain_to_uv)
    recording = recording.with_chunks(n_chunk_blocks)
    with whitened(recording, folder, PreprocessParams(), client=Executor("sync")) as (white, keep):
        params = DetectParams(method="threshold", triage=True)
        fitted = fit_triage(keep, white.clean, white.noise, params, 24, "numba")
        peaks = keep("detect", detect(white.clean, white.noise, fitted, "numba")).load()
    return fitted.clean_probability, peaks["is_clear"]


def test_the_recordings_own_threshold_does_not_hang_on_the_chunks(simulation, tmp_path):
    (one, clear), (other, also) = (opened_by(n, simulation, tmp_path / str(n)) for n in (1, 4))
    assert one == other and 0 < one < 1 and one != 0.5
    np.testing.assert_array_equal(clear, also)
    assert 0.5 < clear.mean() < 1


def test_a_threshold_that_is_given_is_taken_and_nothing_measured(simulation, tmp_path):
    recording = from_array(simulation.traces, simulation.sampling_rate, simulation.positions, simulation.gain_to_uv)

    def keep(*_):
        pytest.fail("a stage was asked for")

    with whitened(recording, tmp_path, PreprocessParams(), client=Executor("sync")) as (white, _):
        for params in (DetectParams(triage=True, clean_probability=0.7), DetectParams(triage=False)):
            assert fit_triage(keep, white.clean, white.noise, params, 24, "numba") is params


def test_a_sort_keeps_the_threshold_as_a_stage(simulation, tmp_path):
    recording = from_array(simulation.traces, simulation.sampling_rate, simulation.positions, simulation.gain_to_uv)
    params = SortParams(detect=DetectParams(triage=True), n_refinements=0)
    sort(recording, tmp_path, params, client=Executor("sync"))
    kept = {path.name for path in (tmp_path / "yass.zarr").iterdir()}
    assert {"triage", "detect", "deconvolve"} <= kept
