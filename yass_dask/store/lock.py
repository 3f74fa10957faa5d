"""One sort at a time in a folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from yass_dask.errors import InputError

_log = logging.getLogger("yass_dask")
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextlib.contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Hold the operating system's lock on the file `path`; it ends with the process, however that ends.

    The file is never deleted: whoever opened it before would otherwise hold a lock on nothing.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 200).decode(errors="replace").strip() or "unknown"
        raise InputError(
            f"Another sort is writing to {path.parent} (process {owner}). "
            "Wait for it to end, or choose another output folder."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _log.warning("%s: this file system has no locks; make sure that no other sort writes here", path.parent)
        return
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()} on {socket.gethostname()}".encode())
