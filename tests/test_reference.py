"""Deterministic pieces against golden arrays of an independent implementation (tests/reference/make.py).

Each piece gets the golden result of the one before it, so that a difference shows where it arises.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import dask
import numpy as np
import pytest

from yass_dask import subsample
from yass_dask.chunked import LazyParts
from yass_dask.conditioning import PreprocessParams
from yass_dask.detect import DetectParams, detect
from yass_dask.events import Events
from yass_dask.features import FeatureParams, measure_basis, measure_features
from yass_dask.matching import low_rank, pair_overlaps, pairs
from yass_dask.noise import Noise, measure_noise, measure_spectrum
from yass_dask.preprocess import Clean, Scale, measure_scale, preprocess
from yass_dask.projector import Basis
from yass_dask.readers import from_array
from yass_dask.recording import Recording
from yass_dask.templates import Templates, TemplatesParams, average

FOLDER = Path(__file__).parent / "reference"
BACKENDS = ("numpy", "numba")
pytestmark = pytest.mark.parametrize("chunk_blocks", [1, 2])


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_make", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def golden(make) -> dict[str, np.ndarray]:
    with np.load(make.GOLDEN, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture
def raw(make, golden, chunk_blocks) -> Recording:
    return from_array(golden["traces"], make.RATE, make.POSITIONS).with_chunks(chunk_blocks)


@pytest.fixture
def clean(make, golden, chunk_blocks) -> Clean:
    """The golden clean traces."""
    recording = from_array(golden["counts"], make.RATE, make.POSITIONS).with_chunks(chunk_blocks)
    assert recording.block_samples == make.BLOCK
    bad = np.zeros(4, bool)
    return Clean(recording, Scale(golden["median"].astype(np.float32), golden["sd"].astype(np.float32), bad))


@pytest.fixture
def noise(golden) -> Noise:
    """The golden whitening."""
    channels = np.tile(np.arange(4, dtype=np.int32), (4, 1))
    return Noise(golden["whitening"].T.astype(np.float32), channels)


@pytest.fixture
def peaks(golden) -> Events:
    samples, channels, clear = golden["peaks"].T
    return Events({"sample_index": samples, "channel_index": channels.astype(np.int32), "is_clear": clear == 1})


def compute(lazy: LazyParts) -> Any:
    parts = dask.compute(*lazy.parts.values(), scheduler="sync")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return lazy.open(joined if lazy.reduce is None else lazy.reduce(iter(parts)))


def test_the_reference_is_independent_small_and_up_to_date(make, golden, chunk_blocks):
    """Run again on the stored recording, the script gives the stored arrays (but for BLAS's last bits)."""
    tree = ast.parse((FOLDER / "make.py").read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not any(module.startswith("yass_dask") for module in modules)
    assert make.GOLDEN.stat().st_size < 200_000
    again = make.compute(golden) if chunk_blocks == 1 else {}
    for name, values in again.items():
        if name in ("basis", "features"):
            values, stored = np.abs(values), np.abs(golden[name])
        else:
            stored = golden[name]
        np.testing.assert_allclose(values, stored, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_filter_and_scale(golden, raw, backend):
    params = PreprocessParams()
    scale = compute(measure_scale(raw, params, backend))
    # float32 traces; the filter's transient at the file's ends is cut at 1e-6.
    np.testing.assert_allclose(scale.median, golden["median"], atol=1e-3)
    np.testing.assert_allclose(scale.sd, golden["sd"], rtol=1e-4)
    assert not scale.bad.any()
    fine = Scale(np.zeros(4, np.float32), np.full(4, 1 / 16, np.float32), np.zeros(4, bool))
    traces = preprocess(raw, fine, params, backend).traces.compute(scheduler="sync") / 1024
    # Half a count of 1/1024, and float32.
    np.testing.assert_allclose(traces[::50], np.clip(golden["filtered"], -32, 32), atol=1.5e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_clean_counts(golden, raw, clean, backend):
    counts = preprocess(raw, clean.scale, PreprocessParams(), backend).traces.compute(scheduler="sync")
    # float32 filters fall on the other side of a half count now and then, never further.
    off = np.abs(counts.astype(int) - golden["counts"])
    assert off.max() <= 1
    assert (off > 0).mean() < 1e-3


def test_whitening(golden, clean):
    noise = compute(measure_noise(clean, PreprocessParams(whitening_floor=0.05), "numba"))
    # Sums of some thousand float32 products.
    np.testing.assert_allclose(noise.matrix(), golden["whitening"], atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_spectrum(clean, noise, golden, backend):
    matched = compute(measure_spectrum(clean, noise, PreprocessParams(), backend))
    np.testing.assert_allclose(matched.lags, golden["autocovariance"], atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_peaks(golden, clean, noise, backend):
    found = compute(detect(clean, noise, DetectParams(method="threshold"), backend)).load()
    rows = np.column_stack([found["sample_index"], found["channel_index"], found["is_clear"]])
    np.testing.assert_array_equal(rows, golden["peaks"])
    assert len(rows) > 150 and 0.5 < found["is_clear"].mean() < 1
    white = golden["counts"] / 64 @ golden["whitening"]
    np.testing.assert_allclose(found["amplitude"], white[rows[:, 0], rows[:, 1]], rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_basis(golden, clean, noise, peaks, backend):
    basis = compute(measure_basis(clean, noise, peaks, FeatureParams(), backend))
    assert basis.before == 5
    # Components are known up to their sign; float32 waveforms of about 1e2 sd turn them by some 1e-5.
    sign = np.sign((basis.project * golden["basis"]).sum(axis=0))
    np.testing.assert_allclose(basis.project * sign, golden["basis"], atol=1e-3 * np.abs(golden["basis"]).max())


@pytest.mark.parametrize("backend", BACKENDS)
def test_features(golden, clean, noise, peaks, backend):
    basis = Basis(golden["basis"].astype(np.float32), 5)
    chosen = Events({name: values[peaks.table["is_clear"]] for name, values in peaks.table.items()})
    features = compute(measure_features(clean, noise, chosen, basis, FeatureParams(), backend))
    # A top close to the border between two sixteenths may go to the other one: few, and all else agrees.
    off = np.abs(features.table["features"] - golden["features"]).max(axis=(1, 2))
    tolerance = 2e-5 * np.abs(golden["features"]).max()
    assert (off > tolerance).mean() < 0.02
    assert np.median(off) < tolerance / 4


@pytest.mark.parametrize("backend", BACKENDS)
def test_template_averages(golden, clean, backend):
    units = golden["spike_units"]
    events = Events({
        "sample_index": golden["spike_samples"],
        "unit_index": units.astype(np.int32),
        "shift": np.full(len(units), subsample.CENTER, np.int32),
        "amplitude": np.ones(len(units), np.float32),
        "main_channel": np.array([0, 1, 3], np.int32)[units],
    })  # fmt: skip
    means = compute(average(clean, events, TemplatesParams(before_ms=1.0, after_ms=2.0), backend)).load()
    assert means.margin == 10
    np.testing.assert_array_equal(means.n_spikes, np.bincount(units))
    for unit, main in enumerate([0, 1, 3]):
        order = np.argsort(np.abs(np.arange(4) - main), kind="stable")
        # Sums are kept in whole 1/1024 sd.
        np.testing.assert_allclose(means.waveforms[unit], golden["averages"][unit][:, order], atol=0.5 / 1024)


def test_overlaps(make, golden, noise, chunk_blocks):
    waveforms = golden["averages"][:, 10 : 10 + make.LENGTH]
    channels = np.tile(np.arange(4, dtype=np.int32), (3, 1))
    # So many spikes that nothing of the templates is taken for noise.
    templates = Templates(waveforms, channels, np.full(3, 10**9), np.arange(3), make.PEAK, 4)
    ranked = low_rank(templates, noise, 4, 4)
    start, other = pairs(ranked, 4)
    found = pair_overlaps(ranked, start, other, 4)
    largest = np.abs(golden["overlaps"]).max()
    assert len(other) == 9
    for u in range(3):
        norm = golden["overlaps"][u, u, make.LENGTH - 1]
        assert ranked.norms[u] == pytest.approx(norm, rel=2e-3)
        for p in range(start[u], start[u + 1]):
            # Channels with less than 1/1000 of the largest one's energy are left out; FFT in float32.
            np.testing.assert_allclose(found[p], golden["overlaps"][u, other[p]], atol=2e-3 * largest)
