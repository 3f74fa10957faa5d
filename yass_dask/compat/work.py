"""Where the steps work: the executor and the memory plan of the configuration, and a store under the output folder."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.chunked import LazyParts
from yass_dask.commands.sorting import batch_of, plan_of
from yass_dask.compat.files import digest
from yass_dask.compat.settings import Settings
from yass_dask.compat.traces import Standardized, clean_of, filters_of, noise_of
from yass_dask.config import Cluster, choose_cluster
from yass_dask.monitor import progress
from yass_dask.noise import Noise, measure_noise, measure_spectrum
from yass_dask.pipeline import SortParams
from yass_dask.preprocess import Clean
from yass_dask.recording import Recording
from yass_dask.runtime import Executor, Plan, choose
from yass_dask.runtime.devices import visible_gpus
from yass_dask.session import running, write_metadata
from yass_dask.sources import files_of
from yass_dask.store import Keep, Store
from yass_dask.store.disk import readable_errors
from yass_dask.store.exports import WORK
from yass_dask.store.recipe import hash_of, plain

_log = logging.getLogger("yass_dask")


@dataclass(frozen=True)
class Work:
    """A step at work on one recording."""

    keep: Keep
    recording: Recording
    """Cut into the plan's chunks"""
    params: SortParams
    backend: str

    def given(self, name: str, fields: Mapping[str, np.ndarray], open: Callable[[Mapping[str, Any]], Any]) -> Any:
        """Arrays handed in by the caller as a stage: the recipes of those after it depend on them."""
        recipe = {field: digest(values) for field, values in fields.items()}
        return self.keep(name, LazyParts.one(name, dict, fields, params=recipe, version=1, open=open))

    def branch(self) -> Work:
        """The same from here on, for stages that do not depend on those that come next."""
        return replace(self, keep=replace(self.keep, computed=dict(self.keep.computed)))


@dataclass(frozen=True)
class Whitened:
    """Work on standardized traces whose noise is known."""

    work: Work
    clean: Clean
    noise: Noise
    """In space"""
    matched: Noise
    """In space and along time"""


@contextlib.contextmanager
def at_work(settings: Settings, recording: Recording, label: str, backend: str = "auto") -> Iterator[Work]:
    """Hold the store of a recording while a step works on it."""
    cluster = choose_cluster(settings.config)
    plan = plan_of(settings.config, recording, cluster)
    recording = recording.with_chunks(plan.chunk_blocks, plan.part_blocks)
    store = _store(settings, recording, label)
    _claim(settings.folder)
    shown = progress.choose(silent=not sys.stderr.isatty())
    surroundings = running(
        recording, store, backend=backend, client=_executor(settings, cluster, plan), seed=0, progress=shown
    )
    try:
        with surroundings as (keep, _, _, chosen):
            yield Work(keep, recording, settings.params, chosen)
    finally:
        shown.close()
    with readable_errors(settings.folder):
        write_metadata(settings.folder, {"backend": chosen, "configured_by": "yass_dask.compat.set_config"})
        (settings.folder / "config.yaml").write_text(settings.config.dump(), encoding="utf-8")


@contextlib.contextmanager
def whitened(
    settings: Settings, file: Standardized, matrix: np.ndarray | None, backend: str = "auto"
) -> Iterator[Whitened]:
    """Work on a standardized file.

    Parameters
    ----------
    matrix : (n_channels, n_channels) whitening matrix; None: measured
    """
    with at_work(settings, file.recording(settings), file.path.stem, backend) as work:
        fields = None if matrix is None else filters_of(matrix, work.recording.n_channels)
        bad = np.zeros(work.recording.n_channels, bool)
        if fields is not None:
            bad |= ~fields["filters"].any(axis=1)
        clean, how = clean_of(work.recording, bad, work.backend), work.params.preprocess
        if fields is None:
            noise = work.keep("noise", measure_noise(clean, how, work.backend))
        else:
            noise = work.given("whitening", fields, noise_of)
        matched = work.keep("spectrum", measure_spectrum(clean, noise, how, work.backend))
        yield Whitened(work, clean, noise, matched)


def _executor(settings: Settings, cluster: Cluster, plan: Plan) -> Executor:
    """Where the configuration says; if it says nothing, the current dask client, if there is one, else threads."""
    if settings.config.cluster is None:
        return choose(n_workers=plan.n_workers)
    resources = settings.resources
    return Executor(
        cluster.scheduler, plan.n_workers, resources.memory_limit, batch=batch_of(cluster, plan),
        gpu_memory=resources.max_memory_gpu, gpus=tuple(visible_gpus()),
    )  # fmt: skip


def _claim(folder: Path) -> None:
    """Mark a new output folder as ours, so that `yass sort` may use it too, and clean it."""
    if not folder.exists() or not any(folder.iterdir()):
        with Store(folder).lock():
            pass


def _store(settings: Settings, recording: Recording, label: str) -> Store:
    """Store of this very recording; one of what the same file held before is deleted."""
    identity = hash_of(plain(recording.identity()))[:16]
    file = hash_of(files_of(recording.source))[:8]
    folder = settings.folder / WORK / f"{label}-{file}-{identity}"
    for other in folder.parent.glob(f"{label}-{file}-*"):
        if other != folder:
            _log.info("%s changed: what was made of it before is deleted", label)
            shutil.rmtree(other)
    return Store(folder)
