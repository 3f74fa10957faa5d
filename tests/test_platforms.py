"""What other systems lack or do otherwise, as far as one can stand in for them here; see docs/platforms.md."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import yass_dask

PACKAGE = Path(yass_dask.__file__).parent
SOURCES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
UNIX_ONLY = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "posix", "syslog"}
FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f]|[. ]$')
"""In names on Windows"""
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)

AS_ON_WINDOWS = """
import os, signal, sys
# Libraries have ways of their own on each system; what is looked at is this package's.
import asyncio, dask.array, distributed, numba, psutil, pydantic, probeinterface, scipy.signal, subprocess, zarr
for name in ("fcntl", "resource", "pwd", "grp", "termios", "pty"):
    sys.modules[name] = None  # importing it fails
for name in ("fork", "sched_getaffinity", "O_DIRECTORY", "getuid", "geteuid", "setsid", "killpg"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGKILL", "SIGSTOP", "SIGHUP"):
    delattr(signal, name)
import ctypes
library = ctypes.CDLL
def no_c_library(name, *args, **more):
    if name is None:
        raise TypeError("bad argument type for built-in operation")
    return library(name, *args, **more)
"""

SORT = """
import numpy as np
import yass_dask
from yass_dask.config.models import Resources
from yass_dask.pipeline import SortParams
from yass_dask.runtime import threads, Executor
threads.ctypes.CDLL = no_c_library
assert Resources(max_memory="200MB").processes >= 1
made = yass_dask.simulate(n_channels=4, seconds=2, n_units=2, seed=1)
recording = yass_dask.from_array(made.traces, made.sampling_rate, made.positions, made.gain_to_uv)
for _ in range(2):  # the second finds what the first has kept
    found = yass_dask.sort(recording, sys.argv[1], SortParams(n_refinements=0), client=Executor("threads", 2))
print(found.n_spikes)
"""


def calls(name: str) -> list[ast.Call]:
    return [node for node in ast.walk(SOURCES[name]) if isinstance(node, ast.Call)]


def test_a_sort_with_what_windows_has(tmp_path: Path) -> None:
    """No fcntl, no fork, no folders to sync, no glibc: threads sort, and what is kept is found again."""
    command = [sys.executable, "-c", AS_ON_WINDOWS + SORT, str(tmp_path / "out")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 0
    assert (tmp_path / "out" / "metadata.yaml").is_file()


def test_the_stand_in_lacks_what_it_should() -> None:
    probes = "import fcntl", "os.fork()", "os.sched_getaffinity(0)", "signal.SIGKILL"
    for probe in probes:
        ran = subprocess.run([sys.executable, "-c", AS_ON_WINDOWS + probe], capture_output=True, check=False)
        assert ran.returncode == 1, probe


@pytest.mark.parametrize("name", SOURCES)
def test_no_module_needs_unix_when_it_is_imported(name: str) -> None:
    """Such imports stand in a `try`, or in a function."""
    top = [node for node in SOURCES[name].body if isinstance(node, ast.Import | ast.ImportFrom)]
    named = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    named |= {str(node.module) for node in top if isinstance(node, ast.ImportFrom)}
    assert not named & UNIX_ONLY
    called = {ast.unparse(call.func) for call in calls(name)}
    assert not called & {"os.fork", "os.forkpty", "os.mkfifo", "os.getuid", "os.killpg"}


@pytest.mark.parametrize("name", SOURCES)
def test_text_files_are_utf_8_everywhere(name: str) -> None:
    """The system's own encoding is another one on Windows."""
    for call in calls(name):
        function = ast.unparse(call.func)
        given = {keyword.arg for keyword in call.keywords}
        words = [ast.unparse(argument) for argument in call.args]
        opens_text = function == "open" and not any("b" in mode for mode in words[1:2])
        if opens_text or function.endswith((".read_text", ".write_text")):
            assert "encoding" in given, ast.unparse(call)


def test_names_of_results_are_allowed_on_all_systems(small_sorted: Any) -> None:
    """And none differ by the case of letters alone: macOS and Windows would take them for one."""
    names = [path.relative_to(small_sorted.folder) for path in small_sorted.folder.rglob("*")]
    assert len(names) > 50
    assert [str(name) for name in names if any(FORBIDDEN.search(p) or RESERVED.match(p) for p in name.parts)] == []
    assert len({str(name).lower() for name in names}) == len(names)
    assert max(len(str(name)) for name in names) < 120, "Windows allows 260 with what lies above"


def test_processes_are_spawned_not_forked() -> None:
    """macOS and Windows know no other way that works; what a worker gets must be picklable here, too."""
    import dask
    import distributed

    assert distributed.Nanny
    assert dask.config.get("distributed.worker.multiprocessing-method") == "spawn"
    forking = [name for name in SOURCES if "multiprocessing" in ast.unparse(SOURCES[name])]
    assert forking == []
