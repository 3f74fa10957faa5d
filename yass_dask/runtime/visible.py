"""Whether the workers of a cluster see the files of a sort: asked before the first job, not found out by it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yass_dask.errors import InputError
from yass_dask.runtime.versions import check_versions

if TYPE_CHECKING:
    import distributed

_log = logging.getLogger("yass_dask")

SHOWN = 8


def check_workers_see(client: distributed.Client, inputs: Sequence[str], folder: Path) -> None:
    """Ask every worker for the input and for the folder that results go to; wait for the first worker.

    Workers that join later are not asked: their first job will say what they miss.

    Raises
    ------
    InputError
        Names host and path of whatever a worker cannot see, or cannot write; or a worker of other versions.
    """
    if not client.nthreads():
        _log.info("waiting for a worker of %s", client.scheduler.address)
        client.wait_for_workers(1)
    check_versions(client)
    sizes = {path: _size(path) for path in inputs}
    token = folder / f".seen-{uuid.uuid4().hex}"
    token.write_text(token.name, encoding="utf-8")
    try:
        answers = client.run(_missing, sizes, str(token))
    finally:
        token.unlink(missing_ok=True)
    lines = dict.fromkeys(line for found in answers.values() for line in found)
    if lines:
        more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise InputError(
            "workers of the cluster cannot reach what this sort needs; use paths that all hosts share:\n  "
            + "\n  ".join([*list(lines)[:SHOWN], *more])
        )


def _size(path: str) -> int | None:
    """Bytes of a file, None for a folder."""
    return os.path.getsize(path) if os.path.isfile(path) else None


def _missing(sizes: Mapping[str, int | None], token: str) -> list[str]:
    """In a worker: a line for each path that is not what the client sees."""
    host, lines = socket.gethostname(), []
    for path, size in sizes.items():
        if not os.path.exists(path):
            lines.append(f"host {host}: {path} is not there")
        elif _size(path) != size:
            lines.append(f"host {host}: {path} is another file ({_size(path)} bytes, not {size})")
    folder = os.path.dirname(token)
    if not os.path.exists(token):
        lines.append(f"host {host}: {folder} is not there, or another folder of that name")
    elif not _writable(folder):
        lines.append(f"host {host}: {folder} cannot be written")
    return lines


def _writable(folder: str) -> bool:
    path = os.path.join(folder, f".written-{uuid.uuid4().hex}")
    try:
        with open(path, "wb"):
            pass
    except OSError:
        return False
    with contextlib.suppress(OSError):
        os.unlink(path)
    return True
