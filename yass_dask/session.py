"""One sort's surroundings: the folder's lock, the executor, what ran and how long it took."""

from __future__ import annotations

import contextlib
import logging
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from yass_dask.monitor.announce import AnnouncedProgress, announced
from yass_dask.monitor.progress import unless_given
from yass_dask.runtime import Executor, choose
from yass_dask.runtime.devices import Workers, choose_backend
from yass_dask.sources import files_of
from yass_dask.store import Keep, Store
from yass_dask.store.disk import readable_errors
from yass_dask.store.stage import backend_of

if TYPE_CHECKING:
    import distributed

    from yass_dask.monitor.progress import Progress
    from yass_dask.recording import Recording
    from yass_dask.store import IfExists

_log = logging.getLogger("yass_dask")

PACKAGES = ("yass-dask", "dask", "distributed", "numba", "numpy", "scipy", "zarr")
METADATA_FILE = "metadata.yaml"


@contextlib.contextmanager
def running(
    recording: Recording,
    store: str | Path | Store,
    *,
    backend: str,
    client: distributed.Client | Executor | None,
    seed: int,
    progress: Progress | None,
    if_exists: IfExists = "skip",
) -> Iterator[tuple[Keep, Path, Progress, str]]:
    """Hold the folder and the executor while a sort runs; write metadata.yaml when it has ended well.

    Gives `keep`, which persists a stage or finds it persisted, the output folder, what shows the progress, and the
    backend that was chosen.
    """
    opened = store if isinstance(store, Store) else Store(store, if_exists)
    executor = client if isinstance(client, Executor) else choose(client)
    began = time.time()
    with opened.lock(), executor.open() as ready, contextlib.ExitStack() as stack:
        shown = unless_given(progress)
        if progress is None:
            stack.callback(shown.close)
        if ready.client is not None:
            announcer = stack.enter_context(announced(ready.client, recording, str(opened.path)))
            shown.found(page=announcer.page())
            ready = replace(ready, announcer=announcer)
            shown = AnnouncedProgress(announcer, recording, opened, shown)
        ready.check_sees(files_of(recording.source), opened.path)
        backend = choose_backend(backend, ready.client, backend_of(opened.zarr_path / "preprocess"))
        keep = opened.run(recording, backend=backend, seed=seed, executor=ready, progress=shown)
        startup = time.time() - psutil.Process().create_time()
        _log.info("%s; seed %d, %d chunks", Workers.of(ready.client).said(backend), seed, len(recording.chunks))
        yield keep, opened.path, keep.run.progress, backend
        facts = {
            "startup_s": round(startup, 3),
            "total_s": round(time.time() - began, 3),
            "recorded_s": recording.duration_s,
            "backend": backend,
            "seed": seed,
            "stages": opened.timings(),
        }
        write_metadata(opened.path, facts)
        with readable_errors(opened.path):
            opened.seal(keep.recipes)


def write_metadata(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write metadata.yaml: versions, the machine, and the facts of a run."""
    from yass_dask.config.text import dump

    versions = {name: version(name) for name in PACKAGES}
    machine = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": psutil.cpu_count(),
    }
    when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    with readable_errors(folder):
        text = dump({"written": when, "versions": versions, "machine": machine, **facts})
        (folder / METADATA_FILE).write_text(text, encoding="utf-8")
