"""One sort at a time in a folder.

The operating system's lock ends with the process that holds it, however that ends. But some shared file systems have
no locks, or locks that only their own host sees; so whoever holds the folder writes its host, process and a number that
grows into the file. A number that grows is a sign of life; no clock is asked, which may jump or differ between hosts.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from yass_dask.errors import InputError

try:
    import fcntl
except ImportError:  # no such locks on Windows: signs of life are all there is
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger("yass_dask")
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}

BEAT_S = 5.0
"""Between two signs of life."""
SILENT_S = 30.0
"""Whoever on another host gives none for so long is dead."""
_LENGTH = 400
"""Bytes of the file: a record that is written over another one of this length is never read half."""


@contextlib.contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Hold the lock on the file `path`, and give signs of life.

    The file is never deleted: whoever opened it before would otherwise hold a lock on nothing.

    Raises
    ------
    InputError
        Another sort holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        has_locks = _lock(descriptor, path)
        owner = _owner(path)
        if owner and _lives(owner, path, has_locks):
            raise _refusal(owner, path)
        with _alive(descriptor):
            yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> bool:
    """Take the operating system's lock; False where this file system has none."""
    try:
        if fcntl is None:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _refusal(_owner(path), path) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _log.warning("%s: this file system has no locks; signs of life in %s stand for them", path.parent, path.name)
        return False
    return True


def _refusal(owner: dict[str, Any], path: Path) -> InputError:
    who = f"process {owner['pid']} on {owner['host']}" if owner else "unknown process"
    return InputError(
        f"Another sort is writing to {path.parent} ({who}). Wait for it to end, or choose another output folder."
    )


def _owner(path: Path) -> dict[str, Any]:
    """Who holds the lock, or held it and died; empty where the last one has ended well."""
    # Opened anew each time: a shared file system promises what another host wrote from then on only.
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and {"host", "pid", "born", "beat"} <= set(found) else {}


def _lives(owner: dict[str, Any], path: Path, has_locks: bool) -> bool:
    if owner["host"] != socket.gethostname():
        return _gives_signs(owner, path)
    if has_locks:  # it would hold the lock
        return False
    with contextlib.suppress(psutil.Error):
        return abs(psutil.Process(owner["pid"]).create_time() - owner["born"]) < 1
    return False


def _gives_signs(owner: dict[str, Any], path: Path) -> bool:
    """Whether the owner, on another host, writes within some seconds."""
    who = f"process {owner['pid']} on {owner['host']}"
    _log.warning("%s was in use by %s; waiting %g s for a sign of life", path.parent, who, SILENT_S)
    began = time.monotonic()
    while time.monotonic() - began < SILENT_S:
        time.sleep(BEAT_S / 10)
        if _owner(path) != owner:
            return bool(_owner(path))
    _log.warning("%s on %s is dead; going on from what it finished", owner["pid"], owner["host"])
    return False


@contextlib.contextmanager
def _alive(descriptor: int) -> Iterator[None]:
    """Give signs of life; say at the end that it ended."""
    me = {"host": socket.gethostname(), "pid": os.getpid(), "born": psutil.Process().create_time()}
    over = threading.Event()

    def beat() -> None:
        number = 0
        while not over.is_set():
            with contextlib.suppress(OSError):
                _write(descriptor, json.dumps({**me, "beat": number}))
            number += 1
            over.wait(BEAT_S)

    _write(descriptor, json.dumps({**me, "beat": -1}))
    thread = threading.Thread(target=beat, name="yass-lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(OSError):
            _write(descriptor, "")


def _write(descriptor: int, text: str) -> None:
    """Write a record in place of the last one, so that other hosts can see it."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, text.encode().ljust(_LENGTH))
    os.fsync(descriptor)
