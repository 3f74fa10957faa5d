"""A real recording: a tetrode in the antennal lobe of a locust, sorted without a parameter of its own."""

from pathlib import Path

import numpy as np
import pytest

import yass_dask
from yass_dask import commands, config, refine
from yass_dask.events import Events
from yass_dask.preprocess import measure_scale, preprocess
from yass_dask.residual import residual
from yass_dask.store import Store

DATA = Path(__file__).parents[2] / "shared" / "data" / "locust_tetrode"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="no shared data beside the project")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("locust")
    commands.run_sort(commands.SortOptions(config=DATA / "config.yaml", output_dir=folder, progress=False))
    return folder


def crossings(traces: np.ndarray, threshold: float) -> int:
    strength = np.abs(traces)
    inner = strength[1:-1]
    peaks = (inner > threshold) & (inner >= strength[:-2]) & (inner > strength[2:])
    return int(peaks.sum())


def test_units_have_refractory_periods(out):
    sorting = yass_dask.Sorting.open(out)
    good = [row for row in sorting.units if row["label"] == "good"]
    assert len(good) >= 4
    for row in good:
        gaps = np.diff(sorting.times_of(row["unit_id"])) / sorting.sampling_rate
        assert np.mean(gaps < 0.002) < 0.02
    assert max(row["snr"] for row in good) > 12


def test_the_spikes_explain_what_crosses_the_threshold(out):
    loaded = config.load(out / "config.yaml")
    raw, params = loaded.recording(), config.sort_params(loaded.params)
    store = Store(out)
    scale = measure_scale(raw, params.preprocess, "numba").open(store.open("scale"))
    clean = preprocess(raw, scale, params.preprocess, "numba").open(store.open("preprocess"))
    units = refine.open_units(store.open(f"templates_{params.n_refinements - 1}"))
    left = residual(clean, units.templates, Events(store.open("deconvolve")))
    before = clean.to_sd(clean.recording.source.read(0, clean.recording.n_samples))
    after = left.source.read(0, left.n_samples)
    assert crossings(before, 5.0) > 1000
    assert crossings(after, 5.0) < 0.02 * crossings(before, 5.0)
