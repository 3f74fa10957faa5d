"""Deterministic pieces against arrays made by plain NumPy and SciPy (tests/golden/make.py)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

import yass_dask.compat as yass
from yass_dask.compat import detect, geometry, preprocess, templates
from yass_dask.compat.preprocess.filter import butterworth, standarize

row = pytest.mark.coverage_row
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "golden.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def make() -> ModuleType:
    """The script that made the arrays, for its constants."""
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, golden: dict[str, np.ndarray], make: ModuleType) -> Path:
    """The recording as a lab has it."""
    root = tmp_path_factory.mktemp("golden")
    golden["raw"].tofile(root / "data.bin")
    np.save(root / "geometry.npy", golden["geom"])
    config = {
        "data": {"root_folder": str(root), "recordings": "data.bin", "geometry": "geometry.npy"},
        "resources": {"max_memory": "200MB", "processes": 1},
        "recordings": {"dtype": "int16", "sampling_rate": make.RATE, "n_channels": make.C, "order": "samples",
                       "spatial_radius": make.RADIUS, "spike_size_ms": 1.5},
    }  # fmt: skip
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    return root


@pytest.fixture(scope="module")
def preprocessed(folder: Path, make: ModuleType) -> tuple[str, dict[str, Any], np.ndarray]:
    yass.set_config(str(folder / "config.yaml"), "out")
    return preprocess.run(filter_high_factor=make.HIGH_FACTOR)


def test_the_script_still_makes_these_arrays(golden, make):
    raw, _, planted = make.recording()
    np.testing.assert_array_equal(raw, golden["raw"])
    np.testing.assert_array_equal(planted, golden["planted"])
    np.testing.assert_allclose(make.band_passed(raw), golden["filtered"], atol=1e-2)


@row("A4.11", "A4.7")
def test_butterworth_is_scipys_zero_phase_band_pass(golden, make):
    found = butterworth(golden["raw"], make.LOW_HZ, make.HIGH_FACTOR, make.ORDER, make.RATE)
    np.testing.assert_allclose(found, golden["filtered"], rtol=2e-5, atol=5e-3)
    one = butterworth(golden["raw"][:, 2], make.LOW_HZ, make.HIGH_FACTOR, make.ORDER, make.RATE)
    np.testing.assert_allclose(one, golden["filtered"][:, 2], atol=2e-3)


@row("A4.11")
def test_standarize_divides_by_the_noise(golden, make):
    expected = golden["filtered"] / golden["noise_sd"]
    np.testing.assert_allclose(standarize(golden["filtered"], make.RATE), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(standarize(golden["filtered"][:, 1], make.RATE), expected[:, 1], rtol=1e-4, atol=1e-6)


@row("A4.2", "A4.9")
def test_preprocessing_filters_and_standardizes(golden, make, folder, preprocessed):
    path, params, _ = preprocessed
    assert params == {"dtype": "float64", "n_channels": make.C, "data_order": "samples"}
    found = np.fromfile(path).reshape(-1, make.C)
    np.testing.assert_allclose(found, golden["standardized"], rtol=2e-5, atol=2e-4)
    filtered = np.fromfile(folder / "out" / "preprocess" / "filtered.bin").reshape(-1, make.C)
    np.testing.assert_allclose(filtered, golden["filtered"], rtol=2e-5, atol=5e-3)


@row("A9.2")
def test_neighbours(golden, make):
    found = geometry.find_channel_neighbors(golden["geom"], make.RADIUS)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, golden["neighbours"])


@row("A9.4")
@pytest.mark.parametrize("steps", [1, 2])
def test_channel_index(golden, steps):
    found = geometry.make_channel_index(golden["neighbours"], golden["geom"], steps=steps)
    np.testing.assert_array_equal(found, golden[f"channel_index_{steps}"])


@pytest.fixture(scope="module")
def detected(preprocessed, make, folder) -> tuple[np.ndarray, np.ndarray]:
    """Without whitening, so that the rules are all there is to it."""
    yass.set_config(str(folder / "config.yaml"), "out")
    path, params, _ = preprocessed
    return detect.run(path, params, np.eye(make.C), save_results=True, std_factor=make.THRESHOLD)


@row("A5.1", "A5.4", "A5.10")
def test_threshold_detection_is_what_the_rules_say(golden, detected):
    clear, everything = detected
    np.testing.assert_array_equal(everything, golden["spikes"])
    np.testing.assert_array_equal(clear, golden["spikes"][golden["clear"]])


@row("A5.5", "A5.6")
def test_scores_are_projections_on_principal_axes(golden, make, folder):
    """In white noise scores are, but for a rotation, what plain PCA gives, to a few percent."""
    yass.set_config(str(folder / "config.yaml"), "white")
    path = folder / "white.bin"
    (golden["white"] / 64).astype(np.float32).tofile(path)
    params = {"dtype": "float32", "n_channels": make.C, "data_order": "samples"}
    clear, _ = detect.run(path, params, np.eye(make.C), save_results=True, std_factor=make.THRESHOLD)
    np.testing.assert_array_equal(clear, golden["white_spikes"])
    scores = np.load(folder / "white" / "detect" / "scores_clear.npy")
    main = scores[:, :, 0].astype(np.float64)
    assert scores.shape[:2] == (len(clear), 5)
    assert np.corrcoef((main @ main.T).ravel(), golden["score_products"].ravel())[0, 1] > 0.98


@row("A7.9")
def test_spatial_crop(golden):
    processor = templates.TemplatesProcessor(golden["templates"])
    cropped = processor.crop_spatially(golden["neighbours"], golden["geom"])
    np.testing.assert_array_equal(cropped.values, golden["cropped"])
    assert processor.values.shape == golden["templates"].shape


@row("A7.1", "A7.2")
def test_templates_are_mean_waveforms(golden, make, preprocessed, folder):
    yass.set_config(str(folder / "config.yaml"), "out")
    train = np.column_stack([golden["planted"], np.ones(len(golden["planted"]))])
    found, _, groups, good = templates.run(train, np.arange(make.C))
    assert found.shape == (make.C, 4 * make.SPIKE_SIZE + 1, len(groups))
    np.testing.assert_array_equal(good, np.arange(make.C))
    for k, (unit,) in enumerate(groups):
        expected = golden["templates"][unit].astype(np.float64)
        main = found[unit, :, k]
        assert np.abs(main).argmax() == 2 * make.SPIKE_SIZE
        np.testing.assert_allclose(main, expected[:, unit], atol=0.1 * np.abs(expected).max())
