"""The whole sort under YASS's names: configuration, `pipeline.run`, the old flags of the command line."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from labs import simulated, yass

import yass_dask
import yass_dask.compat
from yass_dask import config
from yass_dask.compat import device, pipeline, set_tensorflow_config
from yass_dask.compat.batch.about import size_of
from yass_dask.evaluate import Spikes, compare, compare_files

row = pytest.mark.coverage_row
ROOT = Path(__file__).parents[1]

FILES = {
    "preprocess": {"standarized.bin", "standarized.yaml", "whitening.npy"},
    "detect": {"spike_index_clear.npy", "spike_index_all.npy", "rotation.npy", "scores_clear.npy"},
    "cluster": {"spike_train_cluster.npy", "tmp_loc.npy", "vbPar.npz"},
    "templates": {"templates.npy", "spike_train.npy", "groups.json", "idx_good_templates.npy"},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration of a simulated recording."""
    return simulated(tmp_path_factory.mktemp("lab"), seconds=12, seed=1)


class Ran(SimpleNamespace):
    """A run of pipeline.run: `train`, `lines` (messages logged), `out`."""


@pytest.fixture(scope="module")
def ran(lab: Path) -> Ran:
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("yass_dask").addHandler(handler)
    try:
        train = pipeline.run(lab, output_dir="api", complete=True, set_zero_seed=True)
    finally:
        logging.getLogger("yass_dask").removeHandler(handler)
    return Ran(train=train, lines=records, out=lab.parent / "api")


# --- configuration ---


@row("A1.11", "A1.15")
@pytest.mark.parametrize(
    ("rate", "ms", "size"), [(20000, 1.5, 15), (30000, 1, 15), (30000, 2, 30), (24414.0625, 1.5, 18)]
)
def test_half_a_waveform_in_samples(lab, rate, ms, size):
    raw = mapping(lab)
    raw["recordings"] |= {"sampling_rate": rate, "spike_size_ms": ms}
    yass_dask.compat.set_config(raw, "out")
    assert yass_dask.compat.read_config().spike_size == size


def mapping(lab: Path) -> dict[str, Any]:
    raw = yaml.safe_load(lab.read_text())
    raw["data"]["root_folder"] = str(lab.parent)
    return raw


@row("A1.15")
def test_configuration_tells_what_follows_from_it_and_cannot_be_changed(lab):
    yass_dask.compat.set_config(lab, "out")
    settings = yass_dask.compat.read_config()
    positions = np.load(lab.parent / "geometry.npy")
    np.testing.assert_array_equal(settings.geom, positions)
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    np.testing.assert_array_equal(settings.neigh_channels, apart <= settings.recordings.spatial_radius)
    two = (settings.neigh_channels.astype(int) @ settings.neigh_channels.astype(int)) > 0
    assert [set(r[r < 8].tolist()) for r in settings.channel_index] == [set(np.flatnonzero(r).tolist()) for r in two]
    assert sorted(c for group in settings.channel_groups for c in group) == list(range(8))
    assert settings.path_to_output_directory == str(lab.parent / "out")
    assert (settings.recordings.n_channels, settings.resources.max_memory) == (8, 200 * 1024**2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.config = None  # type: ignore[misc]
    for section in (settings.data, settings.recordings, settings.resources):
        with pytest.raises(ValueError, match="frozen"):
            section.n_channels = 3


@row("A1.16")
def test_a_mapping_is_as_good_as_a_file(lab):
    settings = []
    for given in (str(lab), lab, mapping(lab)):
        yass_dask.compat.set_config(given, "out")
        settings.append(yass_dask.compat.read_config())
    assert settings[0].config == settings[1].config == settings[2].config


@row("A3.2")
def test_configuration_is_read_and_forgotten(lab):
    yass_dask.compat.set_config(lab, "out")
    assert yass_dask.compat.read_config() is yass_dask.compat.read_config()
    yass_dask.compat.reset_config()
    with pytest.raises(ValueError, match="no configuration was set"):
        yass_dask.compat.read_config()


@row("A1.13")
def test_section_templates_is_accepted_and_filled_up(lab, caplog):
    raw = mapping(lab)
    assert config.load(raw).templates is None
    raw["templates"] = {"max_shift": 5}
    yass_dask.compat.set_config(raw, "out")
    section = yass_dask.compat.read_config().templates
    assert (section.save_results, section.if_file_exists, section.max_shift) == (True, "skip", 5)
    assert section.merge_threshold == (0.85, 0.8)
    assert "without effect" not in caplog.text
    yass_dask.compat.set_config({**raw, "templates": {"merge_threshold": [0.9, 0.7]}}, "out")
    assert "templates.merge_threshold is without effect" in caplog.text
    raw["templates"] = {"max_shift": -1, "sift": 2}
    with pytest.raises(ValueError, match=r"templates\.max_shift(.|\n)*templates\.sift"):
        yass_dask.compat.set_config(raw, "out")


@row("A1.4")
def test_sizes_in_words_and_numbers_are_the_same():
    assert size_of("200MB") == size_of(209715200) == 209715200


@row("A1.17", "A14.2", "A14.4")
def test_no_stage_reads_the_global_configuration():
    """Steps take the global configuration and hand explicit parameters on; nothing outside compat knows of it."""
    package = Path(yass_dask.__file__).parent
    knowing = {
        path.relative_to(package).parts[0]
        for path in package.rglob("*.py")
        if re.search(r"compat(\.settings)? import [^\n]*(read|set)_config", path.read_text(encoding="utf-8"))
    }
    assert knowing == {"compat"}
    assert set(config.Config.model_fields) == {"data", "resources", "recordings", "cluster", "templates", "params"}


# --- pipeline.run ---


@row("A3.4")
def test_pipeline_run_returns_the_train_of_the_sort(ran, lab):
    assert (ran.train.shape[1], ran.train.dtype) == (2, np.dtype("int64"))
    assert (np.diff(ran.train[:, 0]) >= 0).all()
    np.testing.assert_array_equal(np.load(ran.out / "spike_train.npy"), ran.train)
    agreement = compare_files(ran.out, lab.parent / "ground_truth.npz")
    with np.load(lab.parent / "ground_truth.npz") as stored:
        truth = Spikes(stored["spike_times"], stored["spike_labels"])
    again = compare(truth, Spikes(*ran.train.T), 30000)
    assert again.mean_accuracy == agreement.mean_accuracy > 0.9


@row("A3.4")
def test_pipeline_run_tells_the_time_of_five_steps(ran):
    steps = [re.fullmatch(r"(\w+): [\d.]+ s \((\d+)%\)", line) for line in ran.lines[-6:-1]]
    assert [step[1] for step in steps if step] == ["preprocess", "detect", "cluster", "templates", "deconvolute"]
    assert 97 <= sum(int(step[2]) for step in steps if step) <= 103
    assert ran.lines[-1].startswith("in all: ")
    assert "deconvolute: " in (ran.out / "yass.log").read_text()


@row("A15")
def test_complete_writes_the_files_of_every_step(ran):
    for folder, names in FILES.items():
        assert {path.name for path in (ran.out / folder).iterdir()} == names
    everything = np.load(ran.out / "detect" / "spike_index_all.npy")
    clear = np.load(ran.out / "detect" / "spike_index_clear.npy")
    assert len(np.load(ran.out / "detect" / "scores_clear.npy")) == len(clear) <= len(everything)
    train = np.load(ran.out / "cluster" / "spike_train_cluster.npy")
    assert set(train[:, 0].astype(int)) <= set(clear[:, 0])
    waveforms = np.load(ran.out / "templates" / "templates.npy")
    assert waveforms.shape[0] == 8
    assert set(np.load(ran.out / "templates" / "spike_train.npy")[:, 1].astype(int)) == set(range(waveforms.shape[2]))
    about = yaml.safe_load((ran.out / "preprocess" / "standarized.yaml").read_text())
    traces = np.fromfile(ran.out / "preprocess" / "standarized.bin", about["dtype"]).reshape(-1, about["n_channels"])
    assert np.median(np.abs(traces), axis=0) * 1.4826 == pytest.approx(1, abs=0.1)
    for name in ("yass.log", "config.yaml", "metadata.yaml", "spike_train.npy"):
        assert (ran.out / name).is_file()


def test_another_detector_is_refused(lab):
    with pytest.raises(ValueError, match="detector is 'magic'"):
        pipeline.run(lab, output_dir="unused", detector="magic")


# --- the command line ---


@row("A2.1", "A2.2", "A2.4", "A2.5", "A2.6", "A2.7", "A3.8")
def test_sort_with_every_old_flag_gives_the_same_and_can_be_exported(lab, ran):
    done = yass("sort", lab, "-o", "cli", "-l", "DEBUG", "-c", "-cm", "-z", "-g", "0.5", "--no-progress")
    assert done.code == 0, done.err
    out = lab.parent / "cli"
    np.testing.assert_array_equal(np.load(out / "spike_train.npy"), ran.train)
    assert yaml.safe_load((out / "metadata.yaml").read_text())["options"]["seed"] == 0
    assert (out / "detect" / "spike_index_all.npy").is_file()
    debug = (out / "yass.log").read_text()
    assert debug.count("\n") < 400  # DEBUG is no flood
    exported = yass("export", out)
    assert exported.code == 0, exported.err
    assert (out / "phy" / "params.py").is_file()


@row("A2.3")
def test_clean_deletes_what_earlier_runs_left(lab):
    out = lab.parent / "cleaned"
    yass_dask.compat.set_config(lab, "cleaned")
    yass_dask.compat.preprocess.run()
    (out / "notes.txt").write_text("mine")
    (out / "detect").mkdir()
    (out / "detect" / "mine.npy").write_text("mine")
    assert (out / "preprocess" / "standarized.bin").is_file()
    assert yass("sort", lab, "--output_dir", "cleaned", "--clean", "--logger_level", "ERROR", "--no-progress").code == 0
    assert not (out / "preprocess").exists()
    assert not (out / "yass.work").exists()
    assert (out / "notes.txt").read_text() == (out / "detect" / "mine.npy").read_text() == "mine"
    assert (out / "spike_train.npy").is_file()


@row("A2.7", "A3.3")
@pytest.mark.parametrize(
    "given",
    [0.4, {"per_process_gpu_memory_fraction": 0.4}, {"gpu_options": {"per_process_gpu_memory_fraction": 0.4}},
     SimpleNamespace(gpu_options=SimpleNamespace(per_process_gpu_memory_fraction=0.4))],
)  # fmt: skip
def test_share_of_gpu_memory_is_handed_to_jax(monkeypatch, given):
    monkeypatch.setenv(device.MEMORY_SHARE, "0.9")
    set_tensorflow_config(given)
    assert os.environ[device.MEMORY_SHARE] == "0.4"
    set_tensorflow_config(1.0)
    assert device.MEMORY_SHARE not in os.environ


@row("A2.7")
@pytest.mark.parametrize("given", ["0", "1.5", "-1"])
def test_a_share_that_cannot_be_is_refused(lab, given):
    done = yass("sort", lab, "-o", "unused", "-g", given)
    assert done.code == 2
    assert "GPU memory" in done.err
    with pytest.raises(ValueError, match="GPU memory"):
        set_tensorflow_config({"other": 1})


# --- the package ---


@row("A0.1", "A4.10")
def test_the_threshold_path_needs_no_network_library(lab, tmp_path):
    script = (
        "import sys; sys.modules['jax'] = None; sys.modules['tensorflow'] = None\n"
        "import yass_dask.compat as yass\n"
        "from yass_dask.compat import preprocess, detect\n"
        f"yass.set_config({str(lab)!r}, {str(tmp_path)!r})\n"
        "print(len(detect.run(*preprocess.run())[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 50
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(package.startswith("jax") for package in extras["jax"])


@row("A0.6")
def test_reference_and_contact_are_told():
    assert "Lee et al., NeurIPS 2017" in (ROOT / "README.md").read_text()
    assert (ROOT / "CITATION.cff").is_file()


@row("A14.7")
def test_tools_that_keep_the_style_are_configured():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert {"E", "F", "W", "T20"} <= set(tools["ruff"]["lint"]["select"])
    assert tools["ruff"]["line-length"] <= 120
    assert "ruff check" in (ROOT / "Makefile").read_text()


@row("A3.1")
def test_modules_are_there_under_their_documented_names():
    for name in ("preprocess", "detect", "cluster", "templates", "deconvolute", "geometry", "batch", "pipeline"):
        assert getattr(yass_dask.compat, name).__name__ == f"yass_dask.compat.{name}"
        assert name in dir(yass_dask.compat)
    names = ("preprocess.filter", "preprocess.batch", "preprocess.experimental", "detect.threshold", "detect.nnet",
             "detect.nnet_experimental", "cluster.legacy", "deconvolute.legacy", "batch.pipeline")  # fmt: skip
    for name in names:
        assert importlib.util.find_spec(f"yass_dask.compat.{name}") is not None
    assert not hasattr(yass_dask.compat, "nothing")
