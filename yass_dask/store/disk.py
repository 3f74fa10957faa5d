"""Files written whole or not at all, and disk faults told in words."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from yass_dask.errors import InputError

_GO_ON = "free some space and run again: it goes on from the finished chunks"
_ADVICE = {
    errno.ENOSPC: f"the disk is full; {_GO_ON}",
    errno.EDQUOT: f"your disk quota is used up; {_GO_ON}",
    errno.EROFS: "the file system is read-only; choose another output folder",
    errno.EACCES: "permission denied; choose an output folder you may write to",
    errno.EPERM: "not permitted; choose an output folder you may write to",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another output folder",
    errno.EEXIST: "there is a file where a folder should be; choose another output folder",
    errno.ENAMETOOLONG: "the path is too long; choose a shorter output folder",
}


@contextlib.contextmanager
def readable_errors(path: Path) -> Iterator[None]:
    """Turn the disk faults a user can mend into an InputError that names the folder."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0)
        if advice is None:
            raise
        raise InputError(f"Cannot write to {path}: {advice} ({error.strerror}).") from error


def write_whole(path: Path, write: Callable[[IO[bytes]], object], scratch: Path, *, durable: bool = False) -> None:
    """Let `write` fill a temporary file in `scratch`, then move it to `path` in one step.

    Parameters
    ----------
    scratch : Path
        A folder on the same file system. Files that a killed process leaves there are never read.
    durable : bool
        Also wait until the file survives a power cut. Slow, so only for marks that say "complete".
    """
    temporary = scratch / f".{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, "wb") as file:
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Any, *, durable: bool = False) -> None:
    """Replace a JSON file in one step."""
    data = (json.dumps(content, indent=1) + "\n").encode()
    write_whole(path, lambda file: file.write(data), path.parent, durable=durable)


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file; an empty dictionary where it is missing or damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
