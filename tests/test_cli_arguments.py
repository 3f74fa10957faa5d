"""The command line: arguments in, one call, exit code out. Nothing is sorted here."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from yass_dask import commands
from yass_dask.backends import on_gpu
from yass_dask.cli import app
from yass_dask.commands import SortOptions, output_folder
from yass_dask.errors import InputError

COMMANDS = ("sort", "simulate", "compare", "export", "info")
Asked = dict[str, Any]


def yass(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command run in this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def yass_process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", "from yass_dask.cli import main; main()", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What `yass sort` would have run: the options, by name."""
    caught: Asked = {}

    def run_sort(options: SortOptions) -> str:
        caught.update(vars(options))
        return "sorted"

    monkeypatch.setattr(commands, "run_sort", run_sort)
    return caught


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """A good configuration of a short silent recording."""
    np.zeros((3000, 4), np.int16).tofile(tmp_path / "data.bin")
    np.save(tmp_path / "geometry.npy", 20.0 * np.arange(8).reshape(4, 2))
    path = tmp_path / "config.yaml"
    path.write_text(
        "data: {root_folder: ./, recordings: data.bin, geometry: geometry.npy}\n"
        "resources: {max_memory: 200MB, processes: 1}\n"
        "recordings: {dtype: int16, sampling_rate: 30000, n_channels: 4, spatial_radius: 70,\n"
        "  spike_size_ms: 1.5, order: samples}\n"
    )
    return path


# Help and version


def test_help_lists_the_commands_and_no_hidden_one() -> None:
    code, out, _ = yass("--help")
    assert code == 0
    listed = {line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line.strip()}
    assert set(COMMANDS) <= listed
    assert "demo" not in listed


@pytest.mark.coverage_row("A0.3")
@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command: str) -> None:
    code, out, err = yass(command, "--help")
    assert (code, err) == (0, "")
    assert f"yass {command}" in out or f" {command} [OPTIONS]" in out


def test_help_of_sort_lists_its_options() -> None:
    _, out, _ = yass("sort", "--help")
    for option in (
        "--output-dir", "--clean", "--workers", "--scheduler", "--backend", "--seed", "--set", "--start",
        "--end", "--keep-traces", "--delete-traces", "--logger-level", "--no-progress",
    ):  # fmt: skip
        assert option in out


@pytest.mark.coverage_row("A0.3")
def test_version() -> None:
    code, out, _ = yass("--version")
    assert (code, out) == (0, f"yass {version('yass-dask')}\n")


def test_help_loads_nothing_heavy() -> None:
    heavy = ("numba", "scipy", "dask", "distributed", "zarr", "pydantic", "probeinterface", "numpy")
    script = (
        "import sys\nfrom yass_dask.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        f"sys.stderr.write(' '.join(name for name in {heavy!r} if name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "Commands:" in done.stdout


# yass sort: what arrives


def test_sort_with_nothing_but_a_config(asked: Asked) -> None:
    code, out, _ = yass("sort", "c.yaml")
    assert (code, out) == (0, "sorted\n")
    assert SortOptions(**asked) == SortOptions(config=Path("c.yaml"))
    assert asked["output_dir"] == Path("tmp/")
    assert (asked["backend"], asked["seed"], asked["logger_level"]) == ("auto", 0, "INFO")
    assert asked["keep_traces"]
    assert asked["progress"]


@pytest.mark.coverage_row("A2.2", "A2.3", "A2.4")
@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--output-dir", "out/"], "output_dir", Path("out")),
        (["-o", "/out"], "output_dir", Path("/out")),
        (["--clean"], "clean", True),
        (["-c"], "clean", True),
        (["--workers", "3"], "workers", 3),
        (["--scheduler", "sync"], "scheduler", "sync"),
        (["--scheduler", "tcp://host:8786"], "scheduler", "tcp://host:8786"),
        (["--backend", "numpy"], "backend", "numpy"),
        (["--seed", "7"], "seed", 7),
        (["--set", "detect.threshold_sd=5"], "overrides", ("detect.threshold_sd=5",)),
        (["--set", "a.b=1", "--set", "c.d=[1, 2]"], "overrides", ("a.b=1", "c.d=[1, 2]")),
        (["--start", "1.5"], "start_s", 1.5),
        (["--end", "60"], "end_s", 60.0),
        (["--keep-traces"], "keep_traces", True),
        (["--delete-traces"], "keep_traces", False),
        (["--logger-level", "DEBUG"], "logger_level", "DEBUG"),
        (["-l", "warning"], "logger_level", "warning"),
        (["--no-progress"], "progress", False),
    ],
)
def test_sort_option_arrives(asked: Asked, arguments: list[str], name: str, value: Any) -> None:
    code, _, err = yass("sort", "c.yaml", *arguments)
    assert (code, err) == (0, "")
    assert asked[name] == value
    changed = {key for key, default in vars(SortOptions(config=Path("c.yaml"))).items() if asked[key] != default}
    assert changed <= {name}


# Exit codes


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (InputError("the probe has 3 channels"), 2, "yass: the probe has 3 channels\n"),
        (KeyboardInterrupt(), 130, "yass: interrupted; the same command goes on from what is finished\n"),
        (RuntimeError("broken"), 1, "yass: RuntimeError: broken\n"),
        (MemoryError(), 1, "yass: MemoryError: \n"),
    ],
)
def test_exit_code_of_an_error(monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, told: str) -> None:
    def run_sort(options: SortOptions) -> str:
        raise error

    monkeypatch.setattr(commands, "run_sort", run_sort)
    found, out, err = yass("sort", "c.yaml")
    assert (found, out) == (code, "")
    assert err.startswith(told)


def test_a_path_that_no_file_system_has_is_told() -> None:
    code, _, err = yass("export", "a" * 3000)
    assert code == 2
    assert "longer than the file system allows" in err
    assert "Traceback" not in err


def test_a_fault_tells_its_log_instead_of_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_sort(options: SortOptions) -> str:
        error = RuntimeError("broken")
        error.add_note("the log is /results/yass.log")
        raise error

    monkeypatch.setattr(commands, "run_sort", run_sort)
    assert yass("sort", "c.yaml") == (1, "", "yass: RuntimeError: broken\nthe log is /results/yass.log\n")


# Bad input: exit code 2, one message, no traceback


def told_in_one_message(arguments: list[str | Path]) -> str:
    done = yass_process(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["c.yaml", "d.yaml"], "d.yaml"),
        (["c.yaml", "--workers", "0"], "--workers"),
        (["c.yaml", "--workers", "many"], "--workers"),
        (["c.yaml", "--seed", "-1"], "--seed"),
        (["c.yaml", "--seed", "0.5"], "--seed"),
        (["c.yaml", "--start", "-3"], "--start"),
        (["c.yaml", "--end", "noon"], "--end"),
        (["c.yaml", "--sed", "1"], "--seed"),
    ],
)
def test_arguments_that_cannot_be(asked: Asked, arguments: list[str], told: str) -> None:
    code, out, err = yass("sort", *arguments)
    assert (code, out) == (2, "")
    assert told in err
    assert not asked


def test_unknown_command() -> None:
    code, _, err = yass("srot")
    assert code == 2
    assert "srot" in err


@pytest.mark.parametrize("command", ["sort", "info"])
def test_config_that_is_not_there(tmp_path: Path, command: str) -> None:
    message = told_in_one_message([command, tmp_path / "absent.yaml"])
    assert message == f"yass: {tmp_path / 'absent.yaml'}: no such configuration file\n"


@pytest.mark.skipif(on_gpu("cupy"), reason="no GPU is missing here")
def test_backend_without_a_gpu(config_file: Path) -> None:
    message = told_in_one_message(["sort", config_file, "--backend", "cupy"])
    assert "backend 'cupy' needs CuPy and a GPU that it finds; missing on this machine" in message
    assert not (config_file.parent / "tmp").exists()


def test_unknown_backend(config_file: Path) -> None:
    assert "backend 'torch' is unknown" in told_in_one_message(["sort", config_file, "--backend", "torch"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "detect.threshold_sd"], "must be stage.key=value"),
        (["--set", "detect.threshold_sd=high"], "params.detect.threshold_sd: found 'high'"),
        (["--set", "detekt.threshold_sd=5"], "params.detekt: unknown key"),
        (["--set", "detect.treshold_sd=5"], "did you mean threshold_sd?"),
        (["--scheduler", "slum"], "--scheduler: found 'slum': must be threads, sync, local"),
        (["--start", "0.05", "--end", "0.02"], "0 <= start < stop"),
        (["--end", "1"], "0.1 s"),
        (["--logger-level", "LOUD"], "--logger-level is 'LOUD': use one of DEBUG"),
    ],
)
def test_sort_option_that_does_not_fit(config_file: Path, arguments: list[str], told: str) -> None:
    message = told_in_one_message(["sort", config_file, *arguments])
    assert message.startswith("yass: ")
    assert told in message
    assert not (config_file.parent / "tmp").exists()


def test_all_problems_of_a_config_are_told(config_file: Path) -> None:
    config_file.write_text(config_file.read_text().replace("n_channels: 4", "n_channels: 7, dtipe: x"))
    message = told_in_one_message(["sort", config_file])
    assert message.splitlines()[0] == f"yass: {config_file}: 3 problems in the configuration"
    assert "recordings.dtipe: unknown key (value 'x'); did you mean dtype?" in message
    assert "data.geometry: " in message
    assert "recordings.n_channels: found 7" in message


# Where results go


@pytest.mark.coverage_row("A2.4")
@pytest.mark.parametrize(
    ("output_dir", "told"),
    [("tmp/", "root/tmp"), ("a/../b", "root/b"), ("../beside", "beside"), (".", "root")],
)
def test_output_folder_is_within_the_root(config_file: Path, output_dir: str, told: str) -> None:
    from yass_dask.config import load

    root = config_file.parent / "root"
    root.mkdir()
    for name in ("data.bin", "geometry.npy"):
        (config_file.parent / name).rename(root / name)
    config_file.write_text(config_file.read_text().replace("root_folder: ./", "root_folder: root"))
    assert output_folder(load(config_file), Path(output_dir)) == config_file.parent / told


@pytest.mark.coverage_row("A2.4")
def test_absolute_output_folder_stays(config_file: Path) -> None:
    from yass_dask.config import load

    assert output_folder(load(config_file), Path("/results/here")) == Path("/results/here")


# The other commands


def test_simulate_writes_what_sort_reads(tmp_path: Path) -> None:
    out = tmp_path / "sim"
    code, text, err = yass(
        "simulate", out, "--channels", "5", "--seconds", "1", "--units", "2", "--seed", "3",
        "--rate", "20000", "--snr", "6", "12",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert f"yass sort {out / 'config.yaml'}" in text
    assert {path.name for path in out.iterdir()} == {
        "recording.bin", "geometry.npy", "config.yaml", "ground_truth.npz",
    }  # fmt: skip
    from yass_dask.config import load

    loaded = load(out / "config.yaml")
    assert (loaded.root, loaded.recordings.n_channels, loaded.recordings.sampling_rate) == (out, 5, 20000)
    truth = np.load(out / "ground_truth.npz")
    assert len(truth["snr"]) == 2
    assert ((truth["snr"] >= 6) & (truth["snr"] <= 12)).all()
    assert len(truth["spike_times"]) == len(truth["spike_labels"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--channels", "0"], "--channels"),
        (["--units", "-1"], "--units"),
        (["--snr", "3"], "--snr"),
        (["--snr", "9", "3"], "snr is (9.0, 3.0)"),
        (["--rate", "0"], "sampling_rate is 0"),
        (["--seconds", "0"], "seconds is 0"),
    ],
)
def test_simulation_that_cannot_be(tmp_path: Path, arguments: list[str], told: str) -> None:
    code, out, err = yass("simulate", tmp_path / "sim", *arguments)
    assert (code, out) == (2, "")
    assert told in err
    assert not (tmp_path / "sim").exists()


def test_simulate_into_a_file(config_file: Path) -> None:
    code, _, err = yass("simulate", config_file)
    assert code == 2
    assert f"{config_file} is a file" in err


def test_simulate_where_nothing_can_be_written(config_file: Path) -> None:
    code, _, err = yass("simulate", config_file / "sim", "--seconds", "0.1")
    assert code == 2
    assert "cannot write the recording there" in err


@pytest.fixture
def sorted_folder(tmp_path: Path) -> Path:
    """The two files that `yass compare` reads: every second spike was found."""
    times = np.arange(100, 30000, 300)
    np.savez(tmp_path / "truth.npz", spike_times=times, spike_labels=0 * times, sampling_rate=30000.0)
    np.save(tmp_path / "spike_train.npy", np.stack([times[::2], 0 * times[::2]], axis=1))
    return tmp_path


def test_compare_prints_a_table(sorted_folder: Path) -> None:
    code, out, _ = yass("compare", sorted_folder, sorted_folder / "truth.npz")
    assert code == 0
    assert "mean accuracy 0.500" in out


def test_compare_prints_json(sorted_folder: Path) -> None:
    code, out, _ = yass("compare", sorted_folder, sorted_folder / "truth.npz", "--json")
    assert code == 0
    assert json.loads(out)["mean_accuracy"] == 0.5


@pytest.mark.parametrize("missing", ["spike_train.npy", "truth.npz"])
def test_compare_without_a_file(sorted_folder: Path, missing: str) -> None:
    (sorted_folder / missing).unlink()
    code, out, err = yass("compare", sorted_folder, sorted_folder / "truth.npz")
    assert (code, out) == (2, "")
    assert missing in err


def test_export_in_an_unknown_format(tmp_path: Path) -> None:
    code, _, err = yass("export", tmp_path, "--format", "nex")
    assert code == 2
    assert "--format is 'nex': allowed are phy, npz, nwb" in err


@pytest.mark.parametrize("content", ["absent", "empty"])
def test_export_of_nothing(tmp_path: Path, content: str) -> None:
    out = tmp_path / content
    if content == "empty":
        out.mkdir()
    code, _, err = yass("export", out)
    assert code == 2, err
    assert str(out) in err
    assert not (out / "phy").exists()


@pytest.mark.coverage_row("A2.8")
@pytest.mark.parametrize(
    ("arguments", "target"), [([], "phy"), (["--format", "phy"], "phy"), (["-o", "elsewhere"], None)]
)
def test_export_goes_where_it_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], target: str | None
) -> None:
    written = []

    def export(sorting: str, clean: str, folder: Path, *, raw: str) -> Path:
        written.append((sorting, clean, folder, raw))
        return folder / "params.py"

    monkeypatch.setattr("yass_dask.sorting.Sorting.open", lambda path: f"sorting in {path}")
    clean = SimpleNamespace(recording=f"clean in {tmp_path}")
    monkeypatch.setattr(commands.tools, "clean_of_sort", lambda path: (clean, f"raw in {path}"))
    monkeypatch.setattr("yass_dask.phy.export", export)
    code, out, _ = yass("export", tmp_path, *arguments)
    folder = tmp_path / target if target else Path("elsewhere")
    assert code == 0
    assert str(folder / "params.py") in out
    assert written == [(f"sorting in {tmp_path}", f"clean in {tmp_path}", folder, f"raw in {tmp_path}")]


def test_info_tells_the_recording(config_file: Path) -> None:
    code, out, err = yass("info", config_file)
    assert (code, err) == (0, "")
    for told in (str(config_file.parent / "data.bin"), "0.1 s", "30000 Hz", "int16", " MB of disk", "last pursuit"):
        assert told in out
