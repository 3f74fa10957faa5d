"""The documentation: every snippet runs as it stands there, page by page, and the pages build without a warning."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pytest
import yaml
from conftest import Sorted
from typer.testing import CliRunner

import yass_dask.compat as yass
from yass_dask import config
from yass_dask.cli import app
from yass_dask.simulate import plan, write

row = pytest.mark.coverage_row
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
BLOCK = re.compile(r"^```(python|shell|yaml)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NODE = "tcp://node:8786"
"""The scheduler's address in the pages; here it is one that runs."""
OTHERS = {"conda", "dask", "git", "phy", "python", "rattler-build", "sbatch"}
"""Programs that the pages name and no test can run: other people's, or the network is needed."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of each snippet, in order."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


OWN_STAGE = DOCS / "guide" / "own-stage.md"
SNIPPETS = [p for p in PAGES if p != OWN_STAGE and any(language != "yaml" for language, _ in blocks(p))]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small recording on disk: config.yaml, recording.bin, geometry.npy, ground_truth.npz."""
    folder = tmp_path_factory.mktemp("docs")
    write(folder, plan(n_channels=8, seconds=10, n_units=4, seed=3, snr=(8, 20)))
    return folder


@pytest.fixture
def lab(recorded: Path, small_sorted: Sorted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of a page's reader: the recording, and it sorted, in `sorted`."""
    matplotlib.use("Agg")
    folder = tmp_path / "reader"
    shutil.copytree(recorded, folder)
    shutil.copytree(small_sorted.folder, folder / "sorted")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("YASS_JOBS", str(tmp_path / "jobs"))
    yield folder
    yass.reset_config()
    plt.close("all")


class Reader:
    """Who does what a page says, line by line."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "page"}
        self.job, self.address = "", ""
        self.told: list[str] = []

    def python(self, text: str, page: str) -> None:
        # A page's last expression may leave figures and files open, as a reader's session does.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            exec(compile(text, page, "exec"), self.names)

    def yaml(self, text: str, page: str) -> None:
        if named := re.match(r"# (\S+\.yaml)\n", text):
            Path(named[1]).write_text(text, encoding="utf-8")

    def shell(self, text: str, page: str) -> None:
        for line in filter(None, text.splitlines()):
            words, target = shlex.split(line.partition(" > ")[0]), line.partition(" > ")[2]
            if words[0] == "yass":
                told = self.yass(words[1:])
                if target:
                    Path(target).write_text(told, encoding="utf-8")
            else:
                check_other(words, line)

    def yass(self, words: list[str]) -> str:
        words = [{"ID": self.job, NODE: self.address}.get(word, word) for word in words]
        if "slurm" in words and "--dry-run" not in words:
            words.append("--dry-run")
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"yass {' '.join(words)}: {result.output}"
        self.told.append(result.output)
        if started := re.search(r"yass status (\w+)", result.output):
            self.job = started[1]
        return result.output


def check_other(words: list[str], line: str) -> None:
    """A line for another program names targets and extras that there are."""
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert words[1] in targets, line
    elif words[0] == "pip":
        asked = {name for group in re.findall(r"\.\[([\w,]+)\]", line) for name in group.split(",")}
        assert asked <= set(PROJECT["optional-dependencies"]), line
    else:
        assert words[0] in OTHERS, f"{line}: not a program that the pages may name"


@contextlib.contextmanager
def scheduler(wanted: bool) -> Iterator[str]:
    """The address of a dask scheduler with one worker process, where a page needs one."""
    if not wanted:
        yield ""
        return
    import distributed

    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.mark.parametrize("page", SNIPPETS, ids=lambda page: str(page.relative_to(DOCS)))
def test_snippets_of_a_page_run_in_order(page: Path, lab: Path):
    told = blocks(page)
    with scheduler(any(NODE in text for _, text in told)) as address:
        reader = Reader()
        reader.address = address
        for language, text in told:
            getattr(reader, language)(text, str(page))
    if agreement := reader.names.get("agreement"):
        assert agreement.mean_accuracy_above(5.0) > 0.9


def test_a_stage_of_ones_own_finds_units_and_is_found_again(lab: Path):
    reader = Reader()
    for language, text in blocks(OWN_STAGE):
        getattr(reader, language)(text, "own-stage.md")
    agreement = reader.names["compare_files"](lab / "by-energy", lab / "ground_truth.npz")
    assert agreement.mean_accuracy > 0.8
    stage = lab / "by-energy" / "yass.zarr" / "detect"
    before = {path: path.stat().st_mtime_ns for path in stage.rglob("*") if path.is_file()}
    recording, params = reader.names["from_config"]("config.yaml"), reader.names["SortParams"]()
    reader.names["sort_by_energy"](recording, "by-energy", params, reader.names["EnergyParams"]())
    assert {path: path.stat().st_mtime_ns for path in stage.rglob("*") if path.is_file()} == before
    # No border shows: other chunks, the same spikes.
    other = reader.names["sort_by_energy"](recording.with_chunks(3), "other", params, reader.names["EnergyParams"]())
    assert other.spike_train.tolist() == reader.names["sorting"].spike_train.tolist()


def test_configurations_of_the_pages_are_valid(lab: Path):
    for page in PAGES:
        for language, text in blocks(page):
            section = yaml.safe_load(text) if language == "yaml" else {}
            if "data" in section:
                Path("page.yaml").write_text(text, encoding="utf-8")
                assert config.load("page.yaml").recordings.n_channels == 8
            elif "params" in section:
                config.sort_params(section["params"])
            elif "cluster" in section:
                whole = yaml.safe_load(Path("config.yaml").read_text(encoding="utf-8")) | section
                assert config.load(whole).cluster is not None


@row("A0.4", "A14.8")
def test_commands_that_readme_and_pages_name_are_there():
    """`make test`, `make docs`, `make demo` and the rest; conda's guide, autoreload, the release script."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    told = [(ROOT / "README.md").read_text(encoding="utf-8"), *(page.read_text(encoding="utf-8") for page in PAGES)]
    named = {name for text in told for name in re.findall(r"(?:`|^)make ([a-z][\w-]+)", text, re.MULTILINE)}
    assert named >= {"demo", "test", "docs", "release"} and named <= targets
    assert "autoreload" in (DOCS / "about" / "contributing.md").read_text(encoding="utf-8")
    assert "conda create" in (DOCS / "start" / "install.md").read_text(encoding="utf-8")


@row("A0.5", "A14.6")
def test_pages_build_and_warnings_are_errors(tmp_path: Path):
    def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", str(source), str(target)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    done = build(DOCS, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    for page in PAGES:
        assert (tmp_path / "site" / page.relative_to(DOCS)).with_suffix(".html").is_file()
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "pipeline.svg" in index and "yass-coverage.html" in index
    reference = (tmp_path / "site" / "guide" / "configuration.html").read_text(encoding="utf-8")
    assert "params.detect.threshold_sd" in reference and "resources.max_memory_gpu" in reference
    broken = tmp_path / "broken"
    broken.mkdir()
    shutil.copy(DOCS / "conf.py", broken)
    (broken / "index.md").write_text("# Broken\n\n[nowhere](no-such-page.md)\n", encoding="utf-8")
    assert build(broken, tmp_path / "never").returncode != 0


@row("A14.5")
def test_the_four_kinds_of_tests_are_there_and_ci_runs_them():
    """Unit, smoke, reference, integration, as the page says; every file of examples/ is run by a test."""
    page = (DOCS / "about" / "contributing.md").read_text(encoding="utf-8")
    for kind in ("unit", "smoke", "reference", "integration"):
        (line,) = re.findall(rf"^\| {kind} \|.*$", page, re.MULTILINE)
        for pattern in re.findall(r"`(test_[\w*]+\.py)`", line):
            assert list((ROOT / "tests").glob(pattern)), pattern
    examples = {path.relative_to(ROOT / "examples").as_posix() for path in (ROOT / "examples").glob("*/*.py")}
    run = (ROOT / "tests" / "test_compat_examples.py").read_text(encoding="utf-8")
    assert len(examples) > 10 and {name for name in examples if f'"{name}"' not in run} == set()
    assert {"make test", "make lint"} <= set(
        re.findall(r"make \w+", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    )


def test_every_parameter_of_a_sort_is_in_the_reference():
    """No model of the configuration is forgotten, and each field has its text."""
    sys.path.insert(0, str(DOCS / "_ext"))
    from models import rows

    from yass_dask.pipeline import SortParams

    page = (DOCS / "guide" / "configuration.md").read_text(encoding="utf-8")
    for name, field in SortParams.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            assert f"{field.annotation.__module__}.{field.annotation.__name__}" in page, name
            assert all(all(cells) for cells in rows(field.annotation))


def test_tables_tell_kinds_units_bounds_and_defaults():
    sys.path.insert(0, str(DOCS / "_ext"))
    from models import rows

    from yass_dask.config.models import Recordings, Resources
    from yass_dask.detect import DetectParams
    from yass_dask.preprocess import PreprocessParams

    models = (DetectParams, PreprocessParams, Recordings, Resources)
    told = {key: (value.replace("\u00a0", " "), default) for model in models for key, value, default, _ in rows(model)}
    assert told["clear_ms"] == ("number, ms, > 0", "`1.0`")
    assert told["triage"] == ("true or false", "`false`")
    assert told["sign"] == ("`both`, `negative`, `positive`", "`both`")
    assert told["filter_high_hz"] == ("number or none, Hz, > 0", "`6000.0`")
    assert told["n_channels"] == ("whole number, ≥ 1", "required")
    assert told["max_memory_gpu"] == ("bytes, or text such as `200MB`", "`1024MB`")
    assert told["memory_limit"] == ("bytes, or text such as `200MB` or none", "`null`")
    assert told["bad_channels"][1] == "`[]`" and told["processes"][1] == "`max`"


def test_no_page_waits_for_something():
    assert [page.name for page in PAGES if "@@" in page.read_text(encoding="utf-8")] == []


def test_links_to_the_repository_lead_to_pages_or_are_text():
    sys.path.insert(0, str(DOCS / "_ext"))
    from outside import included, rewritten

    kept = "[c](index.md), [d](../no.md), ![e](../README.md)"
    told = f"[a](../benchmarks/results/accuracy.md), [b](../pyproject.toml#x), {kept}"
    made = rewritten(told, DOCS / "new.md", DOCS, included(DOCS))
    assert made == f"[a](about/accuracy.md), b (`pyproject.toml`), {kept}"


def test_pictures_are_those_that_the_scripts_make():
    sys.path.insert(0, str(DOCS))
    import draw_pipeline
    import pictures

    shown = {name for page in PAGES for name in re.findall(r"pictures/([\w.]+)\)", page.read_text(encoding="utf-8"))}
    made = {f"{name}.png" for name in pictures.PICTURES} | {"motion.png", "pipeline.svg"}
    assert shown == made == {path.name for path in (DOCS / "pictures").iterdir()}
    assert (DOCS / "pictures" / "pipeline.svg").read_text(encoding="utf-8") == draw_pipeline.drawn()


def test_pictures_can_be_drawn(tmp_path: Path):
    """By today's stages, of a smaller recording."""
    sys.path.insert(0, str(DOCS))
    import pictures

    with plt.rc_context(pictures.STYLE):
        work = pictures.sorted_recording(tmp_path / "sorted", n_channels=8, seconds=20, n_units=6)
        for name, draw in pictures.PICTURES.items():
            draw(work)
            pictures.save(name, tmp_path)
            assert len(plt.imread(tmp_path / f"{name}.png")) > 200
