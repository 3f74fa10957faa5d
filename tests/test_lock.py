"""One sort at a time in a folder, where locks work and where nothing but signs of life does."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from yass_dask import InputError
from yass_dask.store import lock

HOLD = """
import sys, time
from pathlib import Path
from yass_dask.store import lock
lock.BEAT_S = 0.05
{patch}
with lock.folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
ELSEWHERE = "import socket; socket.gethostname = lambda: 'elsewhere'"
NO_LOCKS = """
import errno, fcntl
def flock(*args):
    raise OSError(errno.ENOLCK, "no locks")
fcntl.flock = flock
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.05)
    monkeypatch.setattr(lock, "SILENT_S", 1.0)


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a shared file system that has none."""

    def refuse(*args: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)


def hold(path: Path, patch: str = "") -> subprocess.Popen[str]:
    """Hold the lock in another process."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(patch=patch), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_a_crash_releases_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = hold(path)
    try:
        with (
            pytest.raises(InputError, match=f"process {process.pid} on {socket.gethostname()}"),
            lock.folder_lock(path),
        ):
            pytest.fail("both hold it")
    finally:
        kill(process)
    with lock.folder_lock(path):
        assert lock._owner(path)["pid"] == os.getpid()
    assert lock._owner(path) == {}, "it has ended"


@pytest.mark.parametrize("patch", [ELSEWHERE + NO_LOCKS, NO_LOCKS], ids=["another host", "this host"])
def test_signs_of_life_stand_for_locks(tmp_path: Path, without_locks: None, patch: str) -> None:
    path = tmp_path / "lock"
    process = hold(path, patch)
    try:
        host = "elsewhere" if "elsewhere" in patch else socket.gethostname()
        with pytest.raises(InputError, match=f"process {process.pid} on {host}"), lock.folder_lock(path):
            pytest.fail("both hold it")
    finally:
        kill(process)
    with lock.folder_lock(path):
        assert lock._owner(path)["pid"] == os.getpid()


def test_a_host_with_locks_of_its_own(tmp_path: Path) -> None:
    """The lock is free here, as where a file system's locks are not seen by other hosts; its owner lives."""
    path = tmp_path / "lock"
    process = hold(path, ELSEWHERE + NO_LOCKS)
    try:
        with pytest.raises(InputError, match=f"process {process.pid} on elsewhere"), lock.folder_lock(path):
            pytest.fail("both hold it")
    finally:
        kill(process)


def test_clocks_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "born": 9e9, "beat": 3}))
    os.utime(path, (9e9, 9e9))
    with lock.folder_lock(path):
        pass


@pytest.mark.parametrize("content", ["", "{", "12 on old", "[]", '{"host": "x"}'])
def test_whatever_the_file_holds(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock").write_text(content)
    with lock.folder_lock(tmp_path / "lock"):
        pass
