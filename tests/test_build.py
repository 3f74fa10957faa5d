"""What is handed out: built twice it is the same bytes, it holds all that runs, and it installs without a compiler."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EPOCH = "1767225600"
BUILT = ("pyproject.toml", "README.md", "LICENSE", "yass_dask")


def build(folder: Path) -> tuple[Path, Path]:
    """sdist, and the wheel made of it, of a copy of the sources: what was built before must not slip in."""
    source = folder / "source"
    source.mkdir(parents=True)
    for name in BUILT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, source / name)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(folder), str(source)], capture_output=True, text=True,
        check=False, env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH, "CC": "false", "CXX": "false"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("first"))


def package_files() -> set[str]:
    """Every file of the package that is kept in the repository."""
    files = [path for path in (ROOT / "yass_dask").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(ROOT).as_posix() for path in files}


def test_the_wheel_is_the_same_twice(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Of the archive of the sources, too, the content is; scripts/release.py makes its bytes the same."""
    sdist, wheel = build(tmp_path)
    assert wheel.name == built[1].name
    assert hashlib.sha256(wheel.read_bytes()).digest() == hashlib.sha256(built[1].read_bytes()).digest()
    assert contents(sdist) == contents(built[0])


def contents(sdist: Path) -> dict[str, bytes]:
    with tarfile.open(sdist) as archive:
        found = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        return {name: file.read() for name, file in found.items() if file is not None}


def test_wheel_and_sdist_hold_the_whole_package(built: tuple[Path, Path]) -> None:
    sdist, wheel = built
    names = set(zipfile.ZipFile(wheel).namelist())
    assert package_files() - names == set()
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"yass_dask"}
    in_archive = {name.partition("/")[2] for name in contents(sdist)}
    assert package_files() - in_archive == set()
    assert {"pyproject.toml", "README.md", "LICENSE"} <= in_archive


def test_the_wheel_needs_no_compiler_and_runs(built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel = built[1]
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        (about,) = [name for name in archive.namelist() if name.endswith(".dist-info/WHEEL")]
        assert b"Root-Is-Purelib: true" in archive.read(about)
    target = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*install, str(wheel)], check=True, env={**os.environ, "CC": "false"})
    script = (
        "import yass_dask; from yass_dask.neuralnetwork.models import chosen_model; from yass_dask.cli import app\n"
        "print(yass_dask.__file__, chosen_model(None, 'detect')[1].kind)\napp(['--version'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(target)}
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"{target}{os.sep}yass_dask")
    assert " detect\nyass " in ran.stdout
