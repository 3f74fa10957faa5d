"""The examples of YASS's documentation, run on simulated data; what they give is checked, not only that they run."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml
from scipy import signal

import yass_dask.compat as yass
from yass_dask.detect import DetectParams
from yass_dask.evaluate import Spikes, compare
from yass_dask.simulate import plan, write

row = pytest.mark.coverage_row
EXAMPLES = Path(__file__).parents[1] / "examples"
N_UNITS, N_CHANNELS = 4, 385


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with config.yaml and config_sample.yaml, which the examples of the pipeline read."""
    folder = tmp_path_factory.mktemp("lab")
    scene = plan(n_channels=8, seconds=20, n_units=N_UNITS, seed=6, sampling_rate=20000, snr=(8, 20))
    shutil.copy(write(folder, scene), folder / "config_sample.yaml")
    return folder


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs an example and gives its names; figures are looked at, not shown."""
    matplotlib.use("Agg")
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(name: str, folder: Path = tmp_path) -> dict[str, Any]:
        monkeypatch.chdir(folder)
        try:
            return runpy.run_path(str(EXAMPLES / name))
        finally:
            yass.reset_config()

    yield run
    plt.close("all")


def truth_of(lab: Path) -> Spikes:
    with np.load(lab / "ground_truth.npz") as stored:
        return Spikes(stored["spike_times"], stored["spike_labels"])


def share_found(times: np.ndarray, lab: Path) -> float:
    """Share of the true spikes with a found one within two samples."""
    return float(np.mean([np.abs(times - time).min(initial=9) <= 2 for time in truth_of(lab).times]))


def check_units(found: dict[str, Any], lab: Path) -> None:
    """Templates, and the spikes that were pursued, are those of the true units."""
    assert found["templates_"].shape == (8, 61, N_UNITS)
    agreement = compare(truth_of(lab), Spikes(*found["spike_train"].T), 20000)
    assert agreement.n_matched == N_UNITS
    assert agreement.mean_accuracy > 0.95


# --- the pipeline ---


@row("A4.1", "A13.4")
def test_preprocess(example, lab):
    found = example("pipeline/preprocess.py", lab)
    assert Path(found["standarized_path"]) == lab / "example-preprocess" / "preprocess" / "standarized.bin"
    traces = np.fromfile(found["standarized_path"], found["standarized_params"]["dtype"]).reshape(-1, 8)
    assert np.median(np.abs(traces), axis=0) * 1.4826 == pytest.approx(1, abs=0.05)
    assert found["whiten_filter"].shape == (8, 8)


@row("A5.3", "A13.4")
def test_detect(example, lab):
    found = example("pipeline/detect.py", lab)
    assert share_found(found["collision"][:, 0], lab) > 0.9
    assert len(found["clear"]) < len(found["collision"])


@row("A6.1", "A13.4")
def test_cluster(example, lab):
    found = example("pipeline/cluster.py", lab)
    train = found["spike_train_clear"]
    agreement = compare(truth_of(lab), Spikes(*train[:, :2].astype(int).T), 20000, min_score=0.1)
    assert all(unit.precision > 0.9 for unit in agreement.units)
    assert len(found["tmp_loc"]) == len(set(train[:, 1]))
    again = example("pipeline/cluster.py", lab)
    np.testing.assert_array_equal(again["spike_train_clear"], train)


@row("A7.1", "A13.4")
def test_templates(example, lab):
    found = example("pipeline/templates.py", lab)
    assert found["templates_"].shape == (8, 61, N_UNITS)
    train = found["spike_train"][:, :2].astype(int)
    agreement = compare(truth_of(lab), Spikes(*train.T), 20000, min_score=0.1)
    assert all(unit.precision > 0.9 for unit in agreement.units)
    assert sorted(unit for group in found["groups"] for unit in group) == found["idx_good_templates"].tolist()


@row("A8.1", "A13.4")
def test_the_whole_pipeline(example, lab):
    check_units(example("pipeline/deconvolute.py", lab), lab)


@row("A14.1", "A14.9", "A5.6", "A5.8")
@pytest.mark.skipif("method" not in DetectParams.model_fields, reason="the networks are not there yet")
def test_custom_pipeline(example, lab):
    found = example("pipeline/custom.py", lab)
    assert found["standarized_params"]["dtype"] == "float32"
    assert share_found(found["spike_index_all"][:, 0], lab) > 0.9
    # A network calls more things spikes than a threshold; the true units must be there whatever else is.
    agreement = compare(truth_of(lab), Spikes(*found["spike_train"].T), 20000)
    assert agreement.n_matched == N_UNITS
    assert agreement.mean_accuracy > 0.9


# --- batches ---


def neuropixels_file(home: Path, n_samples: int) -> np.ndarray:
    """Write the recording that the examples read; its first three channels are signals, the others silence.

    Returns (n_samples, 3) int16: slow waves, a tone of 1 kHz, and noise.
    """
    folder = home / "data" / "ucl-neuropixel"
    folder.mkdir(parents=True)
    t = np.arange(n_samples) / 30000
    noise = np.random.default_rng(0).normal(0, 20, (3, n_samples))
    data = 500 * np.sin(2 * np.pi * 4 * t) + np.array([[100.0], [50.0], [0.0]]) * np.sin(2 * np.pi * 1000 * t) + noise
    with open(folder / "rawDataSample.bin", "wb") as file:
        np.rint(data).astype(np.int16).tofile(file)
        file.truncate(N_CHANNELS * n_samples * 2)  # zeros that take no disk
    return np.rint(data).astype(np.int16).T


def plotted(axis: Any) -> np.ndarray:
    return axis.lines[0].get_ydata()


@row("A10.4", "A10.5")
def test_multi_channel(example, tmp_path, capsys):
    data = neuropixels_file(tmp_path, 200_000)
    found = example("batch/multi_channel.py")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Shape: (200000, 385). Index: (slice(0, 200000, None), slice(0, 385, None))"
    assert lines[1] == "Shape: (100000, 3). Index: (slice(100000, 200000, None), [0, 1, 2])"
    batch = 100 * 1024 // 6
    assert lines[2].startswith(f"Shape: ({batch + 20}, 3). Local: (slice(10, {batch + 10}, None), slice(0, 3, None)). ")
    assert sum(line.startswith("Shape") for line in lines[2:]) == -(-100_000 // batch)
    rebuilt = [d[local] for d, local, _ in found["bp2"].multi_channel(0, 100_000, [0, 1, 2])]
    np.testing.assert_array_equal(np.concatenate(rebuilt), data[:100_000])


@row("A10.6", "A10.7")
def test_multi_channel_apply_disk(example, tmp_path):
    data = neuropixels_file(tmp_path, 5000)
    found = example("batch/multi_channel_apply_disk.py")
    np.testing.assert_array_equal(found["filtered"][:, :], data + 1)
    np.testing.assert_array_equal(plotted(found["ax1"]), data[:2000, 0])
    np.testing.assert_array_equal(plotted(found["ax2"]), data[:2000, 0] + 1)
    about = yaml.safe_load((tmp_path / "data/ucl-neuropixel/tmp/modified.yaml").read_text())
    assert (about["n_channels"], about["data_order"], about["dtype"]) == (3, "samples", "int16")


@row("A10.6", "A10.8")
def test_multi_channel_apply_memory(example, tmp_path):
    data = neuropixels_file(tmp_path, 5000)
    found = example("batch/multi_channel_apply_memory.py")
    np.testing.assert_array_equal(found["largest"], data.max(axis=0))
    assert len(found["res"]) == len(list(found["bp"].multi_channel(channels=[0, 1, 2], return_data=False)))


@row("A10.12")
def test_single_channel(example, tmp_path, capsys):
    n_samples = 600_000  # more than 1 MB a channel
    data = neuropixels_file(tmp_path, n_samples)
    found = example("batch/single_channel.py")
    pieces = [f"({n},) Data from channel {c}" for c in range(3) for n in (524288, n_samples - 524288)]
    assert capsys.readouterr().out.splitlines() == [*pieces, *["(100000,)"] * 3]
    np.testing.assert_array_equal(list(found["bp"].single_channel(True, 0, 9, [2])), [data[:9, 2]])
    with pytest.raises(ValueError, match="max_memory"):
        next(found["bp"].single_channel())


def band_passed(data: np.ndarray) -> np.ndarray:
    """What SciPy makes of it."""
    sos = signal.butter(3, [300, 3000], "bandpass", fs=30000, output="sos")
    padded = np.pad(data.astype(float), ((5000, 5000), (0, 0)), mode="edge")
    return signal.sosfiltfilt(sos, padded, axis=0)[5000:-5000]


@row("A4.11", "A10.13")
def test_single_channel_apply(example, tmp_path):
    data = neuropixels_file(tmp_path, 20_000)
    found = example("batch/single_channel_apply.py")
    np.testing.assert_allclose(found["filtered"][:, :], band_passed(data), atol=0.01)
    np.testing.assert_array_equal(plotted(found["ax2"]), found["filtered"][:2000, 0])
    assert found["filtered"].data_order == "channels"


@row("A4.11", "A10.16", "A10.17")
def test_batch_pipeline(example, tmp_path):
    data = neuropixels_file(tmp_path, 6000)
    before = (tmp_path / "data/ucl-neuropixel/rawDataSample.bin").stat()
    found = example("batch/pipeline.py")
    filtered, standarized = found["filtered"], found["standarized"]
    assert filtered.shape == standarized.shape == (6000, N_CHANNELS)
    np.testing.assert_allclose(filtered[:, :3], band_passed(data), atol=0.01)
    expected = filtered[:, :3] / (np.median(np.abs(filtered[:, :3]), axis=0) / 0.6745)
    np.testing.assert_allclose(standarized[:, :3], expected, rtol=1e-4, atol=1e-5)
    assert [len(axis.lines[0].get_ydata()) for axis in (found["ax1"], found["ax2"], found["ax3"])] == [2000] * 3
    after = (tmp_path / "data/ucl-neuropixel/rawDataSample.bin").stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


@row("A10.18", "A10.19")
def test_reader(example):
    found = example("batch/reader.py")
    assert found["reader_wide"].shape == found["reader_long"].shape == (100000, 50)
    expected = found["wide_data"].T[10000:20000, 20:30]
    np.testing.assert_array_equal(found["obs_wide"], expected)
    np.testing.assert_array_equal(found["obs_long"], expected)


@row("A9.1")
def test_geometry_parse(tmp_path):
    """`geometry.parse(path, n_channels=500)` of both kinds of files."""
    from yass_dask.compat import geometry

    positions = np.random.default_rng(0).integers(0, 1000, (500, 2)).astype(float)
    np.save(tmp_path / "geom.npy", positions)
    np.savetxt(tmp_path / "geom.txt", positions, fmt="%g")
    for name in ("geom.npy", "geom.txt"):
        np.testing.assert_array_equal(geometry.parse(str(tmp_path / name), n_channels=500), positions)


def test_every_example_is_run_here():
    text = Path(__file__).read_text(encoding="utf-8")
    names = [path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py")]
    assert len(names) == 13
    assert all(f'"{name}"' in text for name in names)
