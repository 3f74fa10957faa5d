"""Kill `yass sort` at any moment and run it again: it goes on, ends with the same bytes, and says what it did."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from labs import COMMAND, edit, files_below, found_chunks, simulated, yass

from yass_dask import Sorting

N_CHUNKS = 10
QUICK = ("--workers", 1, "--set", "n_refinements=1")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of ten chunks of one block."""
    path = simulated(tmp_path_factory.mktemp("resume"), seconds=N_CHUNKS)
    return edit(path, "resources", max_memory="6MB")


@pytest.fixture(scope="module")
def whole(config: Path) -> Path:
    """Output folder of a sort that nothing interrupted."""
    ran = yass("sort", config, *QUICK, "--output-dir", "whole")
    assert ran.code == 0, ran.err
    assert found_chunks(log_of(config.parent / "whole"))["preprocess"] == (0, N_CHUNKS)
    return config.parent / "whole"


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """The finished sort in a folder that a test may change."""
    return shutil.copytree(whole, tmp_path / "copy")


def log_of(folder: Path) -> str:
    return (folder / "yass.log").read_text()


def kill_when(ready: Callable[[], bool], *words: object) -> None:
    """Start a command and end it with SIGKILL as soon as `ready()`."""
    running = subprocess.Popen([*COMMAND, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not ready():
        assert running.poll() is None, "it ended before it could be killed"
        time.sleep(0.0005)
    running.kill()
    assert running.wait() == -signal.SIGKILL


def some_parts(folder: Path, stage: str) -> bool:
    """Whether a stage has written its first parts and is not complete."""
    scratch = folder / "yass.zarr" / stage / ".unfinished"
    return len([*scratch.glob("[0-9c]*.npz"), *scratch.glob("[0-9]*.json")]) >= 2


@pytest.mark.kill
@pytest.mark.parametrize("stage", ["preprocess", "cluster", "even_0", "deconvolve"])
def test_killed_sort_goes_on(config: Path, whole: Path, tmp_path: Path, stage: str) -> None:
    words = ("sort", config, *QUICK, "--output-dir", tmp_path)
    kill_when(lambda: some_parts(tmp_path, stage), *words)
    (tmp_path / "yass.log").unlink()
    ran = yass(*words)
    assert ran.code == 0, ran.err
    log = log_of(tmp_path)
    found, in_all = found_chunks(log)[stage]
    assert 2 <= found <= in_all, log
    before, after = _split_at(list(found_chunks(log)), stage)
    assert all(n == m for n, m in (found_chunks(log)[name] for name in before)), log
    assert all(n == 0 for n, _ in (found_chunks(log)[name] for name in after)), log
    assert (tmp_path / "spike_train.npy").read_bytes() == (whole / "spike_train.npy").read_bytes()
    assert (tmp_path / "templates.npy").read_bytes() == (whole / "templates.npy").read_bytes()


def _split_at(stages: list[str], stage: str) -> tuple[list[str], list[str]]:
    place = stages.index(stage)
    return stages[:place], stages[place + 1 :]


@pytest.mark.kill
def test_finished_chunks_of_traces_are_not_written_again(config: Path, tmp_path: Path) -> None:
    words = ("sort", config, *QUICK, "--output-dir", tmp_path)
    kill_when(lambda: some_parts(tmp_path, "preprocess"), *words)
    stage = tmp_path / "yass.zarr" / "preprocess"
    marked = {f"{int(mark.name[:8])}.0" for mark in (stage / ".unfinished").glob("[0-9]*.json")}
    before = {name: stamp for name, stamp in files_below(stage / "traces").items() if name in marked}
    assert len(before) >= 2
    assert yass(*words).code == 0
    after = files_below(stage / "traces")
    assert {name: after[name] for name in before} == before
    assert len(after) == N_CHUNKS + 2, "ten blocks, the array's metadata and checksums"


@pytest.mark.kill
def test_killed_again_and_again(config: Path, whole: Path, tmp_path: Path) -> None:
    words = ("sort", config, *QUICK, "--output-dir", tmp_path, "--scheduler", "sync")
    for stage in ("noise", "features", "deconvolve_0"):
        kill_when(lambda stage=stage: (tmp_path / "yass.zarr" / stage).exists(), *words)  # type: ignore[misc]
    assert yass(*words).code == 0
    assert (tmp_path / "spike_train.npy").read_bytes() == (whole / "spike_train.npy").read_bytes()


def test_nothing_is_computed_twice(config: Path, whole: Path, copy: Path) -> None:
    before = files_below(copy / "yass.zarr")
    (copy / "yass.log").unlink()
    ran = yass("sort", config, *QUICK, "--output-dir", copy)
    assert ran.code == 0, ran.err
    assert files_below(copy / "yass.zarr") == before
    assert all(found == count for found, count in found_chunks(log_of(copy)).values())
    assert len(found_chunks(log_of(copy))) == len(found_chunks(log_of(whole)))
    assert (copy / "spike_train.npy").read_bytes() == (whole / "spike_train.npy").read_bytes()


def test_other_chunks_and_workers_find_the_result(config: Path, copy: Path) -> None:
    (copy / "yass.log").unlink()
    ran = yass("sort", config, "--workers", 2, "--scheduler", "sync", *QUICK[2:], "--output-dir", copy)
    assert ran.code == 0, ran.err
    assert all(found == count for found, count in found_chunks(log_of(copy)).values())


def test_changed_param_computes_from_its_stage_on(config: Path, copy: Path, tmp_path: Path) -> None:
    (copy / "yass.log").unlink()
    changed = (*QUICK, "--set", "detect.clear_ms=1.2")
    ran = yass("sort", config, *changed, "--output-dir", copy)
    assert ran.code == 0, ran.err
    news = "detect: params changed: clear_ms 1 -> 1.2; computing from here"
    assert news in ran.err.splitlines(), "told on the console"
    assert "its input changed" not in ran.err, "what follows from it is for the log"
    log = log_of(copy)
    assert news in log
    assert "basis: its input changed; computing from here" in log
    found = found_chunks(log)
    assert [stage for stage, (n, _) in found.items() if n] == ["scale", "preprocess", "noise", "spectrum"]
    assert yass("sort", config, *changed, "--output-dir", tmp_path / "fresh").code == 0
    assert (copy / "spike_train.npy").read_bytes() == (tmp_path / "fresh" / "spike_train.npy").read_bytes()


def test_clean_starts_over(config: Path, whole: Path, copy: Path) -> None:
    before = files_below(copy / "yass.zarr")
    (copy / "notes.txt").write_text("mine")
    ran = yass("sort", config, *QUICK, "--clean", "--output-dir", copy)
    assert ran.code == 0, ran.err
    assert all(n == 0 for n, _ in found_chunks(log_of(copy)).values()), "the old log is gone as well"
    assert not set(before.values()) & set(files_below(copy / "yass.zarr").values())
    assert (copy / "notes.txt").read_text() == "mine"
    assert (copy / "spike_train.npy").read_bytes() == (whole / "spike_train.npy").read_bytes()


@pytest.mark.parametrize("clean", [(), ("--clean",)])
def test_foreign_folder_is_refused(config: Path, tmp_path: Path, clean: tuple[str, ...]) -> None:
    (tmp_path / "yass.zarr").mkdir()
    (tmp_path / "thesis.tex").write_text("five years")
    before = files_below(tmp_path)
    ran = yass("sort", config, *clean, "--output-dir", tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert str(tmp_path) in ran.err
    assert "Traceback" not in ran.err
    assert files_below(tmp_path) == before
    assert {entry.name for entry in tmp_path.iterdir()} == {"yass.zarr", "thesis.tex"}


def test_delete_traces(config: Path, whole: Path, copy: Path) -> None:
    """The traces go, the sorting stays; what needs them says so."""
    assert yass("sort", config, *QUICK, "--delete-traces", "--output-dir", copy).code == 0
    assert not (copy / "yass.zarr" / "preprocess" / "traces").exists()
    again = yass("sort", config, *QUICK, "--output-dir", copy)
    assert again.code == 0, again.err
    assert "preprocess: 10 of 10 chunks, found complete" in again.err
    assert Sorting.open(copy).spike_train.tobytes() == Sorting.open(whole).spike_train.tobytes()
    for words in (("sort", config, *QUICK, "--set", "detect.threshold_sd=5", "--output-dir", copy), ("export", copy)):
        ran = yass(*words)
        assert ran.code == 2
        assert "--delete-traces" in ran.err
        assert "--clean" in ran.err
        assert "Traceback" not in ran.err


def test_one_line_a_stage_where_there_is_no_terminal(config: Path, whole: Path, tmp_path: Path) -> None:
    ran = yass("sort", config, *QUICK, "--output-dir", tmp_path)
    first, second, *stages = ran.err.splitlines()
    assert "of disk" in first
    assert "backend" in second
    assert [line.partition(":")[0] for line in stages] == list(found_chunks(log_of(whole)))
    assert "\x1b" not in ran.out + ran.err + log_of(tmp_path)
    assert len(ran.out.splitlines()) == 1


def test_silence(config: Path, copy: Path) -> None:
    ran = yass("sort", config, *QUICK, "--no-progress", "--logger-level", "WARNING", "--output-dir", copy)
    assert (ran.code, ran.err) == (0, "")
