"""Whatever a user may hand to `yass sort`: one readable message and exit code 2, or a sorting that makes sense."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from labs import Ran, edit, recorded, simulated, traces_of, yass
from typer.testing import CliRunner

from yass_dask import Sorting
from yass_dask.cli import app
from yass_dask.store import Store

RESULTS = ("spike_train.npy", "templates.npy", "units.csv", "config.yaml", "metadata.yaml", "yass.log", "yass.zarr")


@pytest.fixture(scope="module")
def simulated_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("bad") / "recording", seconds=6)


@pytest.fixture(scope="module")
def traces(simulated_config: Path) -> np.ndarray:
    return traces_of(simulated_config)


@pytest.fixture
def silence(tmp_path: Path) -> Path:
    """A recording that is refused or sorted within a moment: noise, two channels, a third of a second."""
    return recorded(tmp_path / "silence", noise(10_000, 2))


def noise(n_samples: int, n_channels: int) -> np.ndarray:
    return np.random.default_rng(5).normal(0, 20, (n_samples, n_channels)).round().astype(np.int16)


def run(*words: Any) -> Ran:
    """A command in this process, which patches reach."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    return Ran(result.exit_code, result.stdout, result.stderr)


def sort(config: Path, *words: Any) -> Ran:
    return run("sort", config, "--scheduler", "sync", "--no-progress", "--set", "n_refinements=1", *words)


def check_refused(ran: Ran, *told: str) -> None:
    """Exit code 2, nothing on stdout, one message that tells what is wrong and no story of our insides."""
    assert ran.code == 2, ran.err
    assert ran.out == ""
    message = ran.err[ran.err.index("yass: ") :]
    for part in told:
        assert part in message
    assert "Traceback" not in ran.err
    assert message.count("yass: ") == 1


def check_sorted(ran: Ran, folder: Path) -> Sorting:
    """Exit code 0, all files, and the sorting opens."""
    assert ran.code == 0, ran.err
    assert [name for name in RESULTS if not (folder / name).exists()] == []
    return Sorting.open(folder)


# Files


def test_missing_file(silence: Path) -> None:
    (silence.parent / "recording.bin").rename(silence.parent / "recordings.bin")
    check_refused(sort(silence), "data.recordings", "recording.bin", "did you mean recordings.bin?")


@pytest.mark.parametrize("n_bytes", [0, 39_998, 39_997])
def test_file_of_a_wrong_size(silence: Path, n_bytes: int) -> None:
    """Empty, cut in the middle of a sample, cut in the middle of a number."""
    os.truncate(silence.parent / "recording.bin", n_bytes)
    check_refused(sort(silence), "recording.bin", str(n_bytes))
    assert not (silence.parent / "tmp").exists(), "nothing was begun"


def test_wrong_number_of_channels(silence: Path) -> None:
    edit(silence, "recordings", n_channels=3)
    check_refused(sort(silence), "n_channels", "3")


def test_unknown_dtype(silence: Path) -> None:
    edit(silence, "recordings", dtype="int17")
    check_refused(sort(silence), "recordings.dtype", "int17", "int16")


def test_integers_read_as_floats(tmp_path: Path) -> None:
    """Pairs of small negative numbers are NaN when they are read as float32."""
    config = recorded(tmp_path, noise(30_000, 4))
    edit(config, "recordings", dtype="float32")
    check_refused(sort(config), "NaN or infinity", "dtype")


def test_file_that_shrinks_before_it_is_read(silence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from yass_dask.sources import BinarySource

    read = BinarySource.read

    def shrink_then_read(self: BinarySource, start: int, stop: int) -> np.ndarray:
        os.truncate(self.path, 1000)
        return read(self, start, stop)

    monkeypatch.setattr(BinarySource, "read", shrink_then_read)
    check_refused(sort(silence), "recording.bin", "40000 bytes")


# Channels


@pytest.mark.parametrize("value", [np.nan, 7.0, 0.0, np.inf])
def test_dead_channel_is_masked(tmp_path: Path, traces: np.ndarray, simulated_config: Path, value: float) -> None:
    """A channel that holds one value or none is left out; the others are sorted, and the log tells which it was."""
    broken = traces.astype(np.float32)
    broken[:, 2] = value
    geometry = np.load(simulated_config.parent / "geometry.npy")
    found = check_sorted(sort(recorded(tmp_path, broken, geometry=geometry)), tmp_path / "tmp")
    assert found.n_units >= 2
    assert not np.asarray(found.templates)[:, :, 2].any()
    assert np.asarray(found.templates).any()
    log = (tmp_path / "tmp" / "yass.log").read_text()
    assert [line for line in log.splitlines() if "WARNING" in line and "channel" in line and " 2" in line], log


def test_nan_in_a_good_channel(tmp_path: Path) -> None:
    broken = noise(30_000, 4).astype(np.float32)
    broken[12_345, 1] = np.nan
    check_refused(sort(recorded(tmp_path, broken)), "channel 1", "12345", "bad_channels", "excluded_periods_s")


def test_nan_in_an_excluded_period(tmp_path: Path, traces: np.ndarray) -> None:
    broken = traces.astype(np.float32)
    broken[40_000:50_000] = np.nan
    config = recorded(tmp_path, broken, excluded_periods_s=[[1.3, 1.7]])
    found = check_sorted(sort(config), tmp_path / "tmp")
    assert found.n_spikes >= 20
    assert not ((found.sample_index > 40_000) & (found.sample_index < 50_000)).any()


def test_nan_in_a_channel_marked_bad(tmp_path: Path) -> None:
    broken = noise(30_000, 4).astype(np.float32)
    broken[100:200, 3] = np.nan
    check_sorted(sort(recorded(tmp_path, broken, bad_channels=[3])), tmp_path / "tmp")


@pytest.mark.parametrize("value", [0, 7])
def test_all_channels_constant(tmp_path: Path, value: int) -> None:
    check_refused(sort(recorded(tmp_path, np.full((30_000, 3), value, np.int16))), "every channel is constant")


def test_one_channel(tmp_path: Path, traces: np.ndarray) -> None:
    best = int(np.ptp(traces, axis=0).argmax())
    found = check_sorted(sort(recorded(tmp_path, traces[:, best : best + 1])), tmp_path / "tmp")
    assert found.n_channels == 1
    assert found.n_units >= 1


def test_two_channels(tmp_path: Path, traces: np.ndarray) -> None:
    """Few channels once kept the mixture splitting for ever."""
    best = min(int(np.ptp(traces, axis=0).argmax()), 6)
    found = check_sorted(sort(recorded(tmp_path, traces[:, best : best + 2])), tmp_path / "tmp")
    assert found.n_units >= 1


def test_two_contacts_at_one_place(tmp_path: Path) -> None:
    geometry = np.array([[0.0, 0], [0, 20], [0, 20]])
    check_refused(sort(recorded(tmp_path, noise(30_000, 3), geometry=geometry)), "geometry", "1 and 2", "[0.0, 20.0]")


# Lengths, and recordings without spikes


def test_shorter_than_a_chunk(tmp_path: Path, traces: np.ndarray) -> None:
    found = check_sorted(sort(recorded(tmp_path, traces[:20_000])), tmp_path / "tmp")
    assert found.n_samples == 20_000


@pytest.mark.parametrize("n_samples", [2, 50])
def test_shorter_than_a_template(tmp_path: Path, n_samples: int) -> None:
    check_refused(sort(recorded(tmp_path, noise(n_samples, 4))), f"{n_samples} samples", "fewer than a template", "91")


@pytest.mark.parametrize("kind", ["noise", "silent after a second"])
def test_no_spikes(tmp_path: Path, kind: str) -> None:
    """An empty sorting is a sorting: it has all files, compares and exports."""
    data = noise(90_000, 4)
    if kind != "noise":
        data[30_000:] = 0
    config, out = recorded(tmp_path, data), tmp_path / "tmp"
    found = check_sorted(sort(config), out)
    assert (found.n_units, found.n_spikes) == (0, 0)
    assert np.load(out / "spike_train.npy").shape == (0, 2)
    assert np.load(out / "spike_train.npy").dtype == np.int64
    assert np.load(out / "templates.npy").shape[0::2] == (0, 4)
    assert (out / "units.csv").read_text().startswith("unit_id,")
    np.savez(tmp_path / "truth.npz", spike_times=np.array([100, 5000]), spike_labels=np.array([0, 0]))
    compared = run("compare", out, tmp_path / "truth.npz")
    assert compared.code == 0, compared.err
    assert "found units 0" in compared.out
    exported = run("export", out)
    assert exported.code == 0, exported.err
    assert np.load(out / "phy" / "spike_times.npy").size == 0


def test_spikes_in_the_first_second_of_six(tmp_path: Path, traces: np.ndarray, simulated_config: Path) -> None:
    """An amplifier switched off does not hide what was recorded before, nor make its noise look like spikes."""
    silent = traces.copy()
    silent[60_000:] = 0
    geometry = np.load(simulated_config.parent / "geometry.npy")
    found = check_sorted(sort(recorded(tmp_path, silent, geometry=geometry)), tmp_path / "tmp")
    with np.load(simulated_config.parent / "ground_truth.npz") as truth:
        n_true = np.count_nonzero(truth["spike_times"] < 60_000)
    assert 10 < len(Store(tmp_path / "tmp").open("detect")["sample_index"]) < 2 * n_true
    assert found.n_spikes >= 10
    assert found.sample_index.max() < 60_030, "the switch itself may look like a spike"


# Output folders


def test_output_folder_is_a_file(silence: Path) -> None:
    (silence.parent / "tmp").write_text("not a folder")
    check_refused(sort(silence), "tmp", "file")


def test_folder_of_another_recording(silence: Path, tmp_path: Path) -> None:
    assert sort(silence).code == 0
    other = recorded(tmp_path / "other", noise(10_000, 2) + 1)
    refused = sort(other, "--output-dir", silence.parent / "tmp")
    check_refused(refused, str(silence.parent / "tmp"), "another recording", "--clean")
    assert sort(silence).code == 0, "the first result is still there"
    assert sort(other, "--clean", "--output-dir", silence.parent / "tmp").code == 0


def test_read_only_file_system(silence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "mkdir", refuse)
    check_refused(sort(silence), str(silence.parent / "tmp"), "read-only", "another output folder")


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES])
def test_folder_that_became_read_only(silence: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    assert sort(silence).code == 0

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "replace", refuse)
    check_refused(sort(silence, "--set", "detect.threshold_sd=5"), str(silence.parent / "tmp"), "output folder")


def test_too_little_disk_is_told_before_the_start(silence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(silence)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    check_refused(sort(silence), "MB of disk", "are free", str(silence.parent / "tmp"))
    assert not (silence.parent / "tmp" / "yass.zarr").exists()


def test_finished_traces_need_no_disk_again(silence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed, they are smaller than what the plan reckons with."""
    import shutil

    assert sort(silence).code == 0
    usage = shutil.disk_usage(silence)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=7_000))
    assert sort(silence).code == 0


@pytest.mark.parametrize("n_files", [1, 6, 12, 30, 60])
def test_disk_that_runs_full(silence: Path, monkeypatch: pytest.MonkeyPatch, n_files: int) -> None:
    """The message says that it goes on from here, and it does."""
    replace, count = os.replace, [0]

    def replace_some(*args: Any, **kwargs: Any) -> None:
        count[0] += 1
        if count[0] > n_files:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace_some)
        check_refused(sort(silence), str(silence.parent / "tmp"), "the disk is full", "run again")
    check_sorted(sort(silence), silence.parent / "tmp")
    assert not [*silence.parent.rglob("*.tmp"), *silence.parent.rglob("*.part")], "nothing half-written is left"


# Configurations and options


def test_unknown_keys_are_told_together(silence: Path) -> None:
    edit(silence, "recordings", sampling_rte=30000)
    edit(silence, "resources", procesess=2)
    check_refused(sort(silence), "sampling_rte", "sampling_rate", "procesess", "processes")


def test_unknown_param(silence: Path) -> None:
    check_refused(sort(silence, "--set", "detect.treshold_sd=5"), "treshold_sd", "threshold_sd")


def test_memory_that_cannot_do(silence: Path) -> None:
    edit(silence, "resources", memory_limit="100MB")
    check_refused(sort(silence), "resources.memory_limit", "at least")


def test_filter_without_a_band(silence: Path) -> None:
    check_refused(sort(silence, "--set", "preprocess.filter_low_hz=14000"), "filter_low_hz", "6000 Hz")


def test_scheduler_that_is_unknown(silence: Path) -> None:
    ran = yass("sort", silence, "--scheduler", "nonsense")
    check_refused(ran, "nonsense", "threads")


# Faults


def test_fault_tells_its_log(silence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is our fault has exit code 1, one line on the console, and its story in the log."""
    from yass_dask import pipeline

    def fail(*args: Any) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(pipeline, "cluster", fail)
    ran = sort(silence)
    log = silence.parent / "tmp" / "yass.log"
    assert (ran.code, ran.out) == (1, "")
    assert "ZeroDivisionError: planted" in ran.err
    assert str(log) in ran.err
    assert "Traceback" not in ran.err
    assert "Traceback" in log.read_text()
    monkeypatch.undo()
    assert sort(silence).code == 0, "it goes on once the fault is mended"


def test_what_ran_is_recorded(silence: Path) -> None:
    assert sort(silence, "--seed", "3").code == 0
    facts = yaml.safe_load((silence.parent / "tmp" / "metadata.yaml").read_text())
    assert facts["seed"] == 3
    assert facts["startup_s"] >= 0
    assert all(stage["peak_bytes"] > 0 and stage["seconds"] > 0 for stage in facts["stages"].values())
    assert {"yass-dask", "dask", "zarr", "numpy"} <= facts["versions"].keys()
