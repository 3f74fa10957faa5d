"""Installing and releasing: the archive builds from a git tree, twice the same; the conda recipe says what pip does."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

row = pytest.mark.coverage_row
ROOT = Path(__file__).parents[1]
SHIPPED = ("yass_dask", "conda", "scripts", "pyproject.toml", "README.md", "LICENSE", "CITATION.cff")
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [{version}] - 2026-01-31\n\n### Added\n\n- All of it.\n"
CONDA_NAMES = {"dask": "dask-core"}
"""Packages of another name on conda-forge; what `dask[array]` adds is NumPy, which is asked for by itself."""
LEAST_SETUPTOOLS = 77

sys.path.insert(0, str(ROOT / "scripts"))
import release  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@b.example"]
    return subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository of this tree, ready for a release."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for name in SHIPPED:
        source, ignored = ROOT / name, shutil.ignore_patterns("__pycache__")
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    (folder / ".gitignore").write_text("dist/\nbuild/\n*.egg-info/\n__pycache__/\n", encoding="utf-8")
    (folder / "CHANGELOG.md").write_text(CHANGELOG.format(version=PROJECT["version"]), encoding="utf-8")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "config", "user.name", "A")
    git(folder, "config", "user.email", "a@b.example")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "All of it")
    return folder


def run_release(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "scripts" / "release.py"), "--check", "true", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_release_builds_the_same_bytes_on_any_day(repository: Path, tmp_path: Path):
    tried = run_release(repository, "--dry-run")
    assert tried.returncode == 0, tried.stderr
    wheel, archive = f"yass_dask-{PROJECT['version']}-py3-none-any.whl", f"yass_dask-{PROJECT['version']}.tar.gz"
    lines = (repository / "dist" / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    told = {line.split()[1]: line.split()[0] for line in lines}
    assert set(told) == {wheel, archive}
    assert git(repository, "tag") == "" and git(repository, "worktree", "list").count("\n") == 1
    for path in repository.rglob("*.py"):  # checked out at another time
        os.utime(path, (1, 1))
    assert release.sums(release.build(repository, tmp_path / "again")) == told


def quick_build(root: Path, target: Path) -> list[Path]:
    path = target / "it.whl"
    path.write_text("the same", encoding="utf-8")
    return [path]


def test_a_release_is_tagged_once(repository: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(release, "build", quick_build)
    digest = hashlib.sha256(b"the same").hexdigest()
    assert f"{digest}  dist/it.whl" in release.release(repository, ["true"], dry_run=False)
    assert git(repository, "tag").split() == [f"v{PROJECT['version']}"]
    with pytest.raises(release.Refused, match="is there already"):
        release.release(repository, ["true"], dry_run=False)


def test_a_release_is_refused_with_every_reason(repository: Path):
    citation = repository / "CITATION.cff"
    citation.write_text(citation.read_text(encoding="utf-8").replace("0.1.0", "0.0.9"), encoding="utf-8")
    (repository / "CHANGELOG.md").write_text("# Changelog\n\n## [0.1.0] - soon\n", encoding="utf-8")
    refused = run_release(repository, "--dry-run")
    assert refused.returncode == 1
    for reason in ("CITATION.cff says 0.0.9", "dates 0.1.0 'soon'", "not committed: ", "CHANGELOG.md"):
        assert reason in refused.stderr
    assert not (repository / "dist").exists()


def test_a_failing_check_stops_a_release(repository: Path):
    refused = run_release(repository, "--check", "false")
    assert refused.returncode == 1 and "false failed" in refused.stderr
    assert git(repository, "tag") == "" and not (repository / "dist").exists()


def test_another_second_build_is_noticed(repository: Path, monkeypatch: pytest.MonkeyPatch):
    count = iter(range(9))

    def build(root: Path, target: Path) -> list[Path]:
        path = target / "it.whl"
        path.write_text(str(next(count)), encoding="utf-8")
        return [path]

    monkeypatch.setattr(release, "build", build)
    with pytest.raises(release.Refused, match=r"other bytes: it\.whl"):
        release.build_twice(repository, repository / "dist")


@row("A0.2")
def test_pip_installs_from_a_git_address(repository: Path, tmp_path: Path):
    """`pip install git+https://...@main`, from a repository on the disk; the command it brings runs."""
    target = tmp_path / "installed"
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    words += ["--no-build-isolation"] if release.isolation(repository) else []
    subprocess.run([*words, f"git+file://{repository}@main"], check=True, capture_output=True)
    command = [sys.executable, str(target / "bin" / "yass"), "--version"]
    told = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(target)}, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["yass", PROJECT["version"]]
    where = [sys.executable, "-c", "import yass_dask, yass_dask.compat; print(yass_dask.__file__)"]
    told = subprocess.run(
        where, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(target)}, capture_output=True, text=True, check=True
    )
    assert Path(told.stdout.strip()).is_relative_to(target)
    # What is no code is there as well: weights of networks, the report's page.
    for pattern in ("neuralnetwork/weights/*", "report/page/*", "monitor/page/*", "py.typed"):
        assert len(list((target / "yass_dask").glob(pattern))) == len(list((ROOT / "yass_dask").glob(pattern))) > 0


def test_the_conda_recipe_renders_and_says_what_pip_does():
    import rattler_build

    path = ROOT / "conda" / "recipe.yaml"
    text = path.read_text(encoding="utf-8")
    stage = rattler_build.Stage0Recipe.from_yaml(text, recipe_dir=path.parent)
    (variant,) = stage.render(rattler_build.VariantConfig())
    package = variant.recipe.package
    assert (str(package.name), str(package.version)) == (PROJECT["name"], PROJECT["version"])
    recipe = yaml.safe_load(text)
    wanted = {asked.replace("[array]", "").replace(">", " >", 1) for asked in PROJECT["dependencies"]}
    wanted = {" ".join([CONDA_NAMES.get(name, name), bounds]) for name, bounds in map(str.split, sorted(wanted))}
    assert set(recipe["requirements"]["run"]) == wanted | {f"python {PROJECT['requires-python']}"}
    scripts = {f"{name} = {place}" for name, place in PROJECT["scripts"].items()}
    assert set(recipe["build"]["python"]["entry_points"]) == scripts
    assert recipe["about"]["license"] == PROJECT["license"]
    assert f"setuptools >={LEAST_SETUPTOOLS}" in recipe["requirements"]["host"]


def test_versions_are_one():
    assert len(set(release.versions(ROOT).values())) == 1
