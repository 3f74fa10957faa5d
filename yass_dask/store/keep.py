"""Keeping stages: what is on the disk is opened again, what is missing is computed, the rest is explained."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from dask.delayed import Delayed

from yass_dask.backends import CPU, Where
from yass_dask.chunked import LazyParts, LazyTraces
from yass_dask.monitor.peak import PeakMemory
from yass_dask.monitor.progress import Part, Progress
from yass_dask.store import parts, traces, zarrays
from yass_dask.store.damage import look_at, withdraw
from yass_dask.store.disk import readable_errors
from yass_dask.store.recipe import INPUT_CHANGED, Recipe, changes, hash_of, params_of, plain
from yass_dask.store.stage import Stage
from yass_dask.store.table import DeletedTraces, Table

_log = logging.getLogger("yass_dask")

Lazy = LazyTraces | LazyParts


class Runs(Protocol):
    """What the store asks of an executor."""

    def run(
        self, tasks: Mapping[str, Delayed], on_done: Callable[[str], None], *, label: str, where: Where
    ) -> None: ...


@dataclass(frozen=True)
class Run:
    """What stays the same over the stages of one sort."""

    folder: Path
    """The zarr group that holds the stages."""
    block_samples: int
    duration_s: float
    backend: str
    seed: int
    executor: Runs
    progress: Progress
    record: Callable[[str, dict[str, Any]], None]
    """Takes a stage's name, and its seconds and peak memory."""
    stores_traces: bool = True
    """Or traces are made anew by whoever reads them."""

    def place_of(self, lazy: Lazy) -> tuple[str, Where]:
        """A stage's backend, and which workers it is for: GPUs are for traces."""
        if self.backend in CPU:
            return self.backend, "any"
        return (self.backend, "gpu") if lazy.reads_traces else ("numba", "cpu")


@dataclass
class Keep:
    """`keep(name, lazy)`: persist a lazy stage, or find it persisted, and open the result.

    Attributes
    ----------
    computed : dict
        For every stage kept so far, the number of parts or chunks that had to be computed.
    """

    run: Run
    previous: str
    """Hash of what the next stage is made from: the recording's identity, then the last stage's recipe."""
    computed: dict[str, int] = field(default_factory=dict)
    recipes: dict[str, str] = field(default_factory=dict)
    """Hash of the recipe of every stage kept so far, in order."""

    def __call__(self, name: str, lazy: Lazy) -> Any:
        """Return `lazy.open` of the finished result.

        Raises
        ------
        InputError
            The disk is full, read-only or not permitted.
        """
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name in self.computed:
            raise ValueError(f"stage {name!r} needs a plain name that no other stage has")
        recipe = self._recipe(name, lazy)
        stage = Stage(self.run.folder / name, hash_of(recipe))
        self.previous = self.recipes[name] = stage.recipe
        if isinstance(lazy, LazyTraces) and not self.run.stores_traces and not _has_traces(stage, recipe):
            return lazy.open(self._unstored(stage, recipe, lazy))
        self._make(stage, recipe, lazy)
        return lazy.open(_opened(stage, lazy))

    def _unstored(self, stage: Stage, recipe: Recipe, lazy: LazyTraces) -> Any:
        with readable_errors(stage.path):
            stage.leave_unstored(recipe)
        _log.info("%s: not stored, made anew whenever it is read", stage.name, extra={"file_only": True})
        self.computed[stage.name] = 0
        return lazy.unstored

    def _recipe(self, name: str, lazy: Lazy) -> Recipe:
        recipe = {
            "stage": name,
            "params": params_of(lazy.params),
            "version": lazy.version,
            "backend": self.run.place_of(lazy)[0],
            "seed": self.run.seed,
            "previous": self.previous,
        }
        return dict(plain(recipe))

    def _make(self, stage: Stage, recipe: Recipe, lazy: Lazy) -> None:
        work = _TracesWork(stage, lazy, self.run) if isinstance(lazy, LazyTraces) else _PartsWork(stage, lazy)
        if self._is_finished(stage, recipe):
            self._say_found(stage, work.n_parts)
            return
        with PeakMemory() as peak:
            with readable_errors(stage.path):
                stage.begin(recipe)
                tasks = work.missing_tasks()
            self._compute(stage, tasks, work.n_parts, self.run.place_of(lazy)[1])
            with readable_errors(stage.path):
                work.finish()
        timing = {"seconds": peak.seconds, "cpu_seconds": peak.cpu_seconds, "peak_bytes": peak.bytes}
        timing["parts"] = work.n_parts
        self.run.record(stage.name, timing)
        self.run.progress.finish(stage.name)

    def _is_finished(self, stage: Stage, recipe: Recipe) -> bool:
        """Whether the result can be opened as it is; if not, the log says why."""
        attributes = stage.attributes()
        old = attributes.get("recipe")
        if old is not None and old != recipe:
            reason = changes(old, recipe)
            # On the console the first changed stage is news, those after it are not.
            shown = {"file_only": INPUT_CHANGED in reason}
            _log.info("%s: %s; computing from here", stage.name, reason, extra=shown)
        elif "complete" in attributes and stage.is_whole():
            return True
        elif "complete" in attributes:
            with readable_errors(stage.path):
                taken_back = withdraw(stage, look_at(stage).damages)
            _log.warning("files of a result are missing or damaged; computing again %s", taken_back or stage.name)
            return stage.is_whole()  # where the stage's mark could restore them
        return False

    def _say_found(self, stage: Stage, n_parts: int) -> None:
        name = stage.name
        with readable_errors(stage.path):
            stage.tidy()  # a kill may have come between the last mark and this
        self._log_found(name, n_parts, n_parts)
        self.computed[name] = 0
        self.run.progress.stage(name, n_parts, n_parts, self.run.duration_s)
        self.run.progress.finish(name)

    def _log_found(self, name: str, n_found: int, n_parts: int) -> None:
        """For the log file; on the console, progress tells it."""
        _log.info("%s: %d of %d chunks found", name, n_found, n_parts, extra={"file_only": True})

    def _compute(self, stage: Stage, tasks: Mapping[str, Delayed], n_parts: int, where: Where) -> None:
        name, n_found = stage.name, n_parts - len(tasks)

        def done(part: str) -> None:
            self.run.progress.advance(name, Part(part, partial(parts.read, stage, part)))

        self._log_found(name, n_found, n_parts)
        self.computed[name] = len(tasks)
        self.run.progress.stage(name, n_parts, n_found, self.run.duration_s)
        self.run.executor.run(tasks, done, label=name, where=where)


class _Work(Protocol):
    """How one kind of result is computed and finished."""

    @property
    def n_parts(self) -> int: ...

    def missing_tasks(self) -> dict[str, Delayed]: ...

    def finish(self) -> None: ...


@dataclass(frozen=True)
class _PartsWork:
    stage: Stage
    lazy: LazyParts

    @property
    def n_parts(self) -> int:
        return len(self.lazy.parts)

    def missing_tasks(self) -> dict[str, Delayed]:
        names = list(self.lazy.parts)
        there = parts.found(self.stage, names)
        return parts.write_tasks(self.lazy.parts, self.stage, [name for name in names if name not in there])

    def finish(self) -> None:
        names, reduce = list(self.lazy.parts), self.lazy.reduce
        if reduce is None:
            checksums, rows = parts.join(self.stage, names)
            self.stage.complete(checksums, parts=names, rows=rows)
        else:
            self.stage.complete(parts.reduce(self.stage, names, reduce))


@dataclass(frozen=True)
class _TracesWork:
    stage: Stage
    lazy: LazyTraces
    run: Run

    @property
    def n_parts(self) -> int:
        return int(self.lazy.traces.numblocks[0])

    def missing_tasks(self) -> dict[str, Delayed]:
        layout = traces.layout_of(self.lazy.traces, self.run.block_samples)
        array = self.stage.path / traces.ARRAY
        if zarrays.read_layout(array) != layout:
            zarrays.make_array(array, layout)
        wanted = traces.spans(self.lazy.traces, layout.chunk_rows)
        there = traces.found(self.stage, layout, wanted)
        missing = set(wanted) - there
        return traces.write_tasks(self.lazy.traces, self.stage, layout, missing)

    def finish(self) -> None:
        layout = traces.layout_of(self.lazy.traces, self.run.block_samples)
        self.stage.complete({traces.ARRAY: traces.put_checksums(self.stage, layout)}, traces=True)


def _has_traces(stage: Stage, recipe: Recipe) -> bool:
    """Whether traces of this recipe lie there, all of them."""
    found = stage.attributes()
    return found.get("recipe") == recipe and stage.is_whole() and not found["complete"].get("deleted")


def _opened(stage: Stage, lazy: Lazy) -> Any:
    """The handle that `lazy.open` takes."""
    complete = stage.attributes()["complete"]
    if isinstance(lazy, LazyParts):
        return Table(str(stage.path), stage.recipe, tuple(sorted(complete["arrays"])))
    if complete.get("deleted"):
        shape, dtype = lazy.traces.shape, np.dtype(lazy.traces.dtype)
        return DeletedTraces(str(stage.path), stage.recipe, (int(shape[0]), int(shape[1])), dtype)
    from yass_dask.sources import ZarrSource

    return ZarrSource(str(stage.path / traces.ARRAY))
