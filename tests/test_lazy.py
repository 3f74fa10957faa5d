"""Stages only build graphs: with everything that computes or reads forbidden, each of them still returns.

The sort of a small recording is walked through once more over its finished store, in which every stage is
found. So each stage function is called with what it really gets, and nothing is left to compute.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import dask
import numpy as np
import pytest
from dask.base import collections_to_expr

from yass_dask import backends, pipeline, session
from yass_dask.chunked import LazyParts, LazyTraces, Stride
from yass_dask.events import Events
from yass_dask.preprocess import Clean, Scale
from yass_dask.reuse import known_units
from yass_dask.runtime import Executor
from yass_dask.sources import ArraySource, ZarrSource
from yass_dask.store import Table

STAGES = {
    name: function
    for name, function in vars(pipeline).items()
    if inspect.isfunction(function) and inspect.signature(function).return_annotation in ("LazyParts", "LazyTraces")
}
"""Every function that pipeline.py calls to get something lazy."""

PER_PIECE = 4
"""Tasks of one piece after dask's fusion: its place in the recording, reading, cutting out, work."""
SAMPLED = 24
"""Blocks that scale, noise and basis are measured on, at most."""


class Forbidden(Exception):
    """Something was computed or read where only a graph should be built."""


def forbid(what: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise Forbidden(f"{what} while a stage builds its graph")

    return refuse


@contextlib.contextmanager
def nothing_runs() -> Iterator[None]:
    """A scheduler that raises; and so do kernels, tables, events and the traces' sources."""
    with pytest.MonkeyPatch.context() as patch:
        reads = [(Table, "__getitem__"), (Events, "load"), (Events, "within")]
        for owner, name in [*reads, (ArraySource, "read"), (ZarrSource, "read")]:
            patch.setattr(owner, name, forbid(f"{owner.__name__}.{name}"))
        for module in {inspect.getmodule(function) for function in STAGES.values()}:
            if hasattr(module, "kernel"):
                patch.setattr(module, "kernel", forbid("a kernel"))
        patch.setattr(backends, "kernel", forbid("a kernel"))
        with dask.config.set(scheduler=forbid("dask")):
            yield


@dataclass
class Walk:
    """What a walk over a finished store has seen."""

    called: set[str] = field(default_factory=set)
    kept: dict[str, Any] = field(default_factory=dict)
    computed: dict[str, int] = field(default_factory=dict)

    def watch(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The stage function, with everything forbidden while it is called."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.called.add(name)
            with nothing_runs():
                lazy = function(*args, **kwargs)
            assert isinstance(lazy, LazyParts | LazyTraces)
            return lazy

        return watched

    @contextlib.contextmanager
    def running(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """`session.running`, with a keep that notes what it is given."""
        with session.running(*args, **kwargs) as (keep, folder, shown, backend):

            def noting(name: str, lazy: Any) -> Any:
                self.kept[name] = lazy
                return keep(name, lazy)

            yield noting, folder, shown, backend
            self.computed = dict(keep.computed)


@pytest.fixture(scope="module")
def walk(small_sorted):
    seen = Walk()
    with pytest.MonkeyPatch.context() as patch:
        for name, function in STAGES.items():
            patch.setattr(pipeline, name, seen.watch(name, function))
        patch.setattr(pipeline, "running", seen.running)
        patch.setattr(pipeline, "finish", lambda *args: SimpleNamespace(n_units=0, n_spikes=0))
        with dask.config.set(scheduler=forbid("dask")):
            pipeline.sort(small_sorted.recording, small_sorted.folder, small_sorted.params, client=Executor("sync"))
    return seen


def test_the_scheduler_that_raises_raises(small_recording):
    """The net has no hole: what it must catch, it catches."""
    with nothing_runs():
        with pytest.raises(Forbidden):
            small_recording.traces.compute()
        with pytest.raises(Forbidden):
            small_recording.source.read(0, 1)
        with pytest.raises(Forbidden):
            Events({"sample_index": np.zeros(3)}).load()


def test_every_stage_function_of_the_pipeline_was_called(walk):
    assert len(STAGES) >= 15
    assert walk.called == set(STAGES) - {"begin_with"}


def test_known_units_are_lazy_too(small_sorted):
    """A sort begins with them in place of clusters, so the walk does not come by."""
    known = known_units(small_sorted.folder, small_sorted.recording, small_sorted.params.preprocess)
    sd = np.ones(small_sorted.recording.n_channels)
    clean = Clean(small_sorted.recording, Scale(0 * sd, sd, sd < 0), "numpy")
    with nothing_runs():
        lazy = pipeline.begin_with(known, clean, _identity_noise(len(sd)), small_sorted.params.templates)
    assert isinstance(lazy, LazyParts)
    assert tasks(lazy) <= PER_PIECE


def test_a_finished_store_leaves_nothing_to_compute(walk):
    assert set(walk.computed) == set(walk.kept)
    assert set(walk.computed.values()) == {0}


def tasks(lazy: Any) -> int:
    """Tasks of all pieces of a stage as a scheduler gets them."""
    pieces = [lazy.traces] if isinstance(lazy, LazyTraces) else list(lazy.parts.values())
    return len(collections_to_expr(pieces, optimize_graph=True).optimize().__dask_graph__())


def n_pieces(lazy: Any) -> int:
    return int(lazy.traces.numblocks[0]) if isinstance(lazy, LazyTraces) else len(lazy.parts)


def test_graphs_are_no_larger_than_chunks_or_channels(walk, small_recording):
    sampled = min(SAMPLED, small_recording.n_blocks)
    # Three blocks a chunk, of the last one only one: every second block is in three chunks or in four.
    strided = {sum(len(chunk.numbers) > 0 for chunk in small_recording.strided(Stride(2, k)).chunks) for k in (0, 1)}
    assert strided == {3, 4}
    allowed = {1, len(small_recording.chunks), small_recording.n_channels, sampled, *strided}
    assert len(allowed) == 5
    for name, lazy in walk.kept.items():
        assert n_pieces(lazy) in allowed, name
        # One more is shared by all: a source that is an array in memory.
        assert tasks(lazy) <= PER_PIECE * n_pieces(lazy) + 1, name


@pytest.mark.parametrize("chunk_blocks", [1, 2, 5])
def test_a_stage_over_the_traces_has_a_piece_a_chunk(walk, small_recording, chunk_blocks):
    """The chunks are all that the number of blocks in one changes."""
    recording = small_recording.with_chunks(chunk_blocks)
    clean = walk.kept["preprocess"].open(ArraySource(np.zeros((recording.n_samples, 8), np.int16)))
    clean = type(clean)(clean.recording.with_chunks(chunk_blocks), clean.scale)
    noise = _identity_noise(8)
    stages = {
        "preprocess": pipeline.preprocess(recording, clean.scale, pipeline.PreprocessParams(), "numpy"),
        "detect": pipeline.detect(clean, noise, pipeline.DetectParams(), "numpy"),
        "means": pipeline.average(clean, Events({}), pipeline.TemplatesParams(), "numpy"),
    }
    for name, lazy in stages.items():
        assert n_pieces(lazy) == len(recording.chunks), name
        assert tasks(lazy) <= PER_PIECE * len(recording.chunks) + 1, name
    sampled = pipeline.measure_scale(recording, pipeline.PreprocessParams(), "numpy")
    assert n_pieces(sampled) == recording.n_blocks


def _identity_noise(n_channels: int) -> pipeline.Noise:
    return pipeline.Noise(np.ones((n_channels, 1), np.float32), np.arange(n_channels, dtype=np.int32)[:, None])
