"""Names that people give: spaces, letters of all scripts, quotes, links, and folders told from where one stands."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labs import edit, files_below, simulated, yass
from typer.testing import CliRunner

from yass_dask import Sorting, from_config, read_binary, sort
from yass_dask.cli import app
from yass_dask.commands import SortOptions
from yass_dask.commands.sorting import check
from yass_dask.neuralnetwork.models import SHIPPED
from yass_dask.pipeline import SortParams
from yass_dask.runtime import Executor

ODD = "Ratte 7, 海馬 'a'&b;c #%41 {x}"
QUICK = ("--scheduler", "sync", "--no-progress", "--set", "n_refinements=0")


def run(*words: Any) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of an odd name: the recording and the probe are links to files of odd names elsewhere."""
    folder = tmp_path_factory.mktemp("paths") / ODD
    config = simulated(folder, n_channels=4, seconds=2, n_units=2)
    disk = folder.parent / "disk 1"
    disk.mkdir()
    for name, new in (("recording.bin", "aufnahme é 1.bin"), ("geometry.npy", "sonde ß.npy")):
        (folder / name).rename(disk / name)
        (folder / new).symlink_to(disk / name)
    edit(config, "data", root_folder="./", recordings="aufnahme é 1.bin", geometry="sonde ß.npy")
    edit(config, "resources", processes=1)
    config.rename(folder / "config é.yaml")
    return folder


@pytest.fixture(scope="module")
def out(lab: Path) -> Path:
    """Output folder of an odd name, of a sort told from the folder above by relative paths."""
    before = Path.cwd()
    os.chdir(lab.parent)
    try:
        run("sort", Path(ODD) / "config é.yaml", *QUICK, "--output-dir", "out ü/deeper")
    finally:
        os.chdir(before)
    return lab / "out ü" / "deeper"


def test_a_sort_of_odd_names(out: Path) -> None:
    """Results lie in the root folder, whatever the working directory was, and open again."""
    found = Sorting.open(out)
    assert found.n_spikes > 0
    assert "海馬" in (out / "config.yaml").read_text(encoding="utf-8")


def test_the_names_do_not_change_the_spikes(out: Path, tmp_path: Path) -> None:
    plain = simulated(tmp_path / "plain", n_channels=4, seconds=2, n_units=2)
    run("sort", plain, *QUICK)
    expected = np.load(plain.parent / "tmp" / "spike_train.npy")
    np.testing.assert_array_equal(Sorting.open(out).spike_train, expected)


def test_the_next_sort_finds_everything_from_elsewhere(out: Path, lab: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """From another folder, through a link to the folder: the same recipe, nothing is computed again."""
    link = tmp_path / "link to it"
    link.symlink_to(lab)
    monkeypatch.chdir(tmp_path)
    before = files_below(out / "yass.zarr")
    run("sort", "link to it/config é.yaml", *QUICK, "--output-dir", out)
    assert {name: value for name, value in files_below(out / "yass.zarr").items() if ".zattrs" not in name} == {
        name: value for name, value in before.items() if ".zattrs" not in name
    }


def test_exports_and_reports_of_odd_names(out: Path, lab: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(lab)
    relative = Path("out ü/deeper")
    run("export", relative, "--output-dir", "phy für später")
    assert np.load(lab / "phy für später" / "spike_times.npy").size == Sorting.open(out).n_spikes
    run("export", relative, "--format", "npz", "--output-dir", "npz 1")
    run("report", relative, "--output", "bericht ö.html")
    assert "</html>" in (lab / "bericht ö.html").read_text(encoding="utf-8")
    run("compare", relative, "ground_truth.npz")
    run("info", "config é.yaml")


def test_a_model_in_an_odd_folder(lab: Path, monkeypatch: Any) -> None:
    """`--model` is told from where one stands, not from the root folder."""
    shutil.copytree(SHIPPED, lab / "modell é 1", dirs_exist_ok=True)
    monkeypatch.chdir(lab)
    from yass_dask.commands import detect_overrides

    words = detect_overrides("nnet", Path("modell é 1"))
    job = check(SortOptions(Path("config é.yaml"), overrides=tuple(words)))
    assert job.params.detect.model == str(lab / "modell é 1")
    assert "chunks" in run("sort", "config é.yaml", "--detector", "nnet", "--model", "modell é 1", "--dry-run")


def test_odd_names_from_python(lab: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(lab)
    recording = from_config("config é.yaml")
    about = {"sampling_rate": 30000, "n_channels": 4, "dtype": "int16", "geometry": "sonde ß.npy"}
    same = read_binary("aufnahme é 1.bin", **about)
    np.testing.assert_array_equal(same.source.read(0, 100), recording.source.read(0, 100))
    monkeypatch.chdir(tmp_path)  # the recording stays where it is
    found = sort(recording, "näher dran/out", SortParams(n_refinements=0), client=Executor("sync"))
    assert Sorting.open(tmp_path / "näher dran" / "out").n_spikes == found.n_spikes


def test_a_link_that_leads_nowhere(lab: Path, tmp_path: Path) -> None:
    for path in lab.iterdir():
        if path.is_file() and path.suffix in (".yaml", ".npy"):
            shutil.copy(path, tmp_path / path.name)
    (tmp_path / "aufnahme é 1.bin").symlink_to(tmp_path / "gone")
    ran = yass("sort", tmp_path / "config é.yaml")
    assert ran.code == 2, ran.err
    assert "aufnahme é 1.bin" in ran.err


def test_slurms_script_quotes_odd_names(lab: Path) -> None:
    """What bash reads of it is the same name."""
    import shlex

    path = lab / "config é.yaml"
    script = run("slurm-script", path, "--jobs", "2", "--workers", "1")
    (line,) = [line for line in script.splitlines() if " -m yass_dask sort " in line]
    assert str(path) in shlex.split(line)
