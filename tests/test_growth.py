"""What a sort plans and sends for one chunk does not grow with the recording, nor with its units and spikes."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from yass_dask import Recording, pipeline
from yass_dask.chunked import LazyParts, LazyTraces
from yass_dask.neuralnetwork.models import chosen_model
from yass_dask.preprocess import Clean
from yass_dask.residual import Residual
from yass_dask.runtime import Executor
from yass_dask.runtime.pools import Job, cut_jobs
from yass_dask.store import parts, traces
from yass_dask.store.stage import Stage

STAGES = [
    name
    for name, function in vars(pipeline).items()
    if inspect.isfunction(function) and inspect.signature(function).return_annotation in ("LazyParts", "LazyTraces")
]
"""Functions of pipeline.py that give something lazy"""
HOUR, LONG = 1, 10
CHUNK_BLOCKS = 60
A_FEW_DIGITS = 200
"""Bytes that larger numbers may add to a job."""
PER_CHANNEL = 8 * 64
"""Bytes: a number for each of the nearest channels."""


@dataclass(frozen=True)
class Nothing:
    """Traces of a recording that is only planned."""

    shape: tuple[int, int]
    dtype = np.dtype(np.int16)

    def read(self, start: int, stop: int) -> np.ndarray:
        raise AssertionError("a plan reads nothing")

    def identity(self) -> dict[str, Any]:
        return {"kind": "nothing", "shape": list(self.shape)}


@pytest.fixture(scope="module")
def calls(small_sorted) -> list[tuple[str, Callable[..., Any], tuple, dict]]:
    """(name, function, arguments) of every stage of a finished sort, with what it was really given."""
    seen: list[tuple[str, Callable[..., Any], tuple, dict]] = []

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            seen.append((function.__name__, function, args, kwargs))
            return function(*args, **kwargs)

        return noted

    with pytest.MonkeyPatch.context() as patch:
        for name in STAGES:
            patch.setattr(pipeline, name, noting(getattr(pipeline, name)))
        pipeline.sort(small_sorted.recording, small_sorted.folder, small_sorted.params, client=Executor("sync"))
    return seen


def lasting(given: Any, hours: float) -> Any:
    """The same argument for a recording of so many hours."""
    if isinstance(given, Recording):
        n_samples = round(hours * 3600 * given.sampling_rate)
        return replace(given, source=Nothing((n_samples, given.n_channels)), chunk_blocks=CHUNK_BLOCKS)
    if isinstance(given, Clean):
        return replace(given, recording=lasting(given.recording, hours))
    if isinstance(given, Residual):
        return replace(given, clean=lasting(given.clean, hours))
    return given


def jobs_of(lazy: LazyParts | LazyTraces, block_samples: int) -> list[Job]:
    """What the executor is given to run."""
    stage = Stage(Path("out") / "stage", "recipe")
    if isinstance(lazy, LazyParts):
        return [job for _, job in cut_jobs(parts.write_tasks(lazy.parts, stage, list(lazy.parts)))]
    layout = traces.layout_of(lazy.traces, block_samples)
    wanted = set(traces.spans(lazy.traces, block_samples))
    return [job for _, job in cut_jobs(traces.write_tasks(lazy.traces, stage, layout, wanted))]


def planned(call: tuple[str, Callable[..., Any], tuple, dict], hours: float, block_samples: int) -> list[Job]:
    _, function, args, kwargs = call
    long = {name: lasting(value, hours) for name, value in kwargs.items()}
    return jobs_of(function(*(lasting(value, hours) for value in args), **long), block_samples)


def test_a_job_and_the_clients_share_of_it_do_not_grow(calls, small_recording):
    """Ten times the recording: more jobs of the same size, and no more for the client to hold of each."""
    grown = []
    for call in calls:
        short, long = (planned(call, hours, small_recording.block_samples) for hours in (HOUR, LONG))
        largest = [max(len(cloudpickle.dumps(job)) for job in jobs) for jobs in (short, long)]
        assert largest[1] <= largest[0] + A_FEW_DIGITS, call[0]
        together = [len(cloudpickle.dumps(jobs)) / len(jobs) for jobs in (short, long)]
        assert together[1] <= together[0] + A_FEW_DIGITS, call[0]
        grown += [call[0]] if len(long) > len(short) else []
        assert len(long) <= LONG * len(short), call[0]
    assert {"preprocess", "detect", "measure_features", "average", "deconvolve", "look_at_residual"} <= set(grown)


class Arrays(cloudpickle.Pickler):
    """Notes the arrays in what it pickles."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO())
        self.found: list[np.ndarray] = []

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, np.ndarray):
            self.found.append(obj)
        return super().reducer_override(obj)


def test_a_job_holds_arrays_of_channels_but_not_of_units_or_spikes(calls, small_sorted):
    """Templates, averages, features and spikes are read where they are needed; a network's weights come along."""
    weights = {np.shape(array) for array in chosen_model(None, "detect")[0]} - {()}
    allowed = PER_CHANNEL * small_sorted.recording.n_channels
    assert np.load(small_sorted.folder / "templates.npy").nbytes > allowed, "templates would be noticed"
    for call in calls:
        pickler = Arrays()
        pickler.dump(planned(call, HOUR, small_sorted.recording.block_samples)[0])
        shapes = [(array.shape, array.dtype) for array in pickler.found if array.nbytes > allowed]
        shapes = [about for about in shapes if about[0] not in weights]
        assert shapes == [], call[0]
    # Units of another sort are handed to one task, once.
    assert {name for name, *_ in calls} == set(STAGES) - {"begin_with"}
