"""Arguments of `yass`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks.fuzz.damage import ODD_NUMBERS, ODD_TEXTS
from benchmarks.fuzz.finished import Finished
from benchmarks.fuzz.ground import INSIDES, listing, untouched
from yass_dask.cli import app

# No text of these asks for a slow thing: SLURM's script starts a scheduler, and is asked for in the tests.
TEXTS = tuple(text for text in ODD_TEXTS if text != "slurm" and not text.startswith("/"))
odd_words = st.one_of(
    st.sampled_from(TEXTS), st.sampled_from(ODD_NUMBERS).map(str), st.text(max_size=8), st.integers().map(str)
)
SORT = {
    "--workers": ("1", "2"), "--scheduler": ("threads", "sync", "local"), "--jobs": ("2",), "--queue": ("short",),
    "--walltime": ("12:00:00",), "--gpus-per-job": ("0",), "--backend": ("auto", "numba", "numpy"), "--seed": ("3",),
    "--detector": ("threshold", "nnet"), "--model": ("model",), "--start": ("0.5",), "--end": ("2",),
    "--set": ("detect.threshold_sd=5", "n_refinements=1"), "--global_gpu_memory": ("0.5",),
    "--logger-level": ("INFO", "debug"), "--output-dir": ("new", "tmp", "../lab/deeper"), "--keep-traces": (None,),
    "--no-progress": (None,), "--profile": (None,),
}  # fmt: skip
OUT = ("tmp", "..", "config.yaml", "missing")
COMMANDS: dict[str, tuple[tuple[tuple[str, ...], ...], dict[str, tuple[str | None, ...]]]] = {
    "sort": ((("config.yaml", "missing.yaml", ".", "recording.bin"),), SORT),
    "info": ((("config.yaml", "missing.yaml", ".", "recording.bin", "tmp/config.yaml"),), {}),
    "compare": ((OUT, ("ground_truth.npz", "geometry.npy", "tmp", "missing")), {"--json": (None,)}),
    "export": ((OUT,), {"--format": ("npz",), "--output-dir": ("exported",), "--session": ("config.yaml",)}),
    "curated": ((OUT,), {"--phy": ("tmp/phy", "tmp"), "--output-dir": ("exported",)}),
    "report": ((OUT[1:],), {"--output": ("exported",)}),
    "status": ((("0", "abc", ""),), {"--json": (None,)}),
    "cancel": ((("0", "abc", ""),), {}),
    "jobs": ((), {}),
    "train": (
        (("missing.yaml", "recording.bin", "."),),
        {"--spike-train": ("geometry.npy",), "--seed": ("1",), "--logger-level": ("INFO",)},
    ),
    "simulate": (
        (("exported", "config.yaml"),),
        {"--units": ("1", "0"), "--rate": ("20000", "nan"), "--snr": ("3 9", "9 3", "nan nan"),
         "--geometry": ("linear", "grid", "tetrode")},
    ),
}  # fmt: skip
SECONDS = ("0.02", "0.02", "0", "-1", "nan", "inf")
SMALL = ("simulate",)
"""Their numbers are asked for as they are: a recording may be as long as the user likes."""


class Commands:
    """A case is a command with words: good ones, odd ones, too many, too few. `yass sort` only plans (--dry-run)."""

    def __init__(self, folder: Path) -> None:
        self.lab = folder / "lab"
        self.sorted = Finished(self.lab)
        self.folder = folder
        self.written = self.lab / "exported"
        self.environment = {"YASS_JOBS": str(folder / "jobs"), "HOME": str(folder)}
        self.runner = CliRunner()

    def cases(self) -> st.SearchStrategy[Any]:
        return st.sampled_from(sorted(COMMANDS)).flatmap(_words)

    def check(self, case: tuple[str, ...]) -> bool:
        with mock.patch.dict(os.environ, self.environment), _inside(self.lab), untouched(self.folder, self.written):
            ran = self.runner.invoke(app, list(case))
        story = f"{ran.stdout}{ran.stderr}"
        assert ran.exit_code in (0, 2), f"exit code {ran.exit_code}: {story} {ran.exception!r}"
        assert not INSIDES.search(story), story
        assert ran.exit_code == 0 or ran.stderr.strip(), "refused without a word"
        return ran.exit_code == 0

    def close(self) -> None:
        """Everything is as it was."""
        assert {path.split("/")[1] for path in listing(self.folder) if path.count("/") == 1} <= {
            *{path.split("/")[0] for path in self.sorted.before}, "exported"
        }  # fmt: skip


@st.composite
def _words(draw: st.DrawFn, command: str) -> tuple[str, ...]:
    places, options = COMMANDS[command]
    turn = st.integers(0, 5)
    words = [draw(odd_words if draw(turn) == 0 and command not in SMALL else st.sampled_from(good)) for good in places]
    for name in draw(st.lists(st.sampled_from(sorted(options)), max_size=3, unique=True)) if options else ():
        value = draw(st.sampled_from(options[name]))
        if value is not None and draw(turn) < 3 and command not in SMALL and name != "--output-dir":
            value = draw(odd_words)
        words += [name] if value is None else [name, *(value.split() if name == "--snr" else [value])]
    if draw(turn) == 0 and command not in SMALL:
        words.append(draw(odd_words))
    if draw(turn) == 0 and words and command not in SMALL:
        words.pop(draw(st.integers(0, len(words) - 1)))
    fixed = {"simulate": ["--channels", "2", "--seconds", draw(st.sampled_from(SECONDS))],
             "sort": ["--dry-run"], "export": ["--output-dir", "exported"], "curated": ["--output-dir", "exported"],
             "report": ["--output", "exported/report.html"]}.get(command, [])  # fmt: skip
    return (command, *words, *fixed)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
