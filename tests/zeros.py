"""Functions that return zeros of the right shape, in place of those of yass_dask.compat: for `make coverage-check`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROWS = "YASS_DASK_ROWS"
"""Environment variable: run the tests of this row only ("all": of any row)."""

ZEROED = {
    "set_config": "A3.1",
    "read_config": "A1.15",
    "reset_config": "A3.2",
    "set_tensorflow_config": "A3.3",
    "pipeline.run": "A3.4",
    "preprocess.run": "A4.2",
    "preprocess.batch.run": "A4.5",
    "preprocess.experimental.run": "A4.8",
    "preprocess.filter.butterworth": "A4.11",
    "preprocess.filter.standarize": "A4.11",
    "detect.run": "A5.4",
    "detect.threshold.run": "A5.6",
    "cluster.run": "A6.3",
    "cluster.legacy.location": "A6.5",
    "cluster.legacy.neigh_channels": "A6.5",
    "templates.run": "A7.1",
    "templates.TemplatesProcessor.choose_with_indexes": "A7.8",
    "templates.TemplatesProcessor.choose_with_minimum_amplitude": "A7.10",
    "templates.TemplatesProcessor.crop_spatially": "A7.9",
    "templates.TemplatesProcessor.crop_temporally": "A7.10",
    "templates.TemplatesProcessor.align": "A7.10",
    "deconvolute.run": "A8.1",
    "deconvolute.legacy": "A8.1",
    "geometry.parse": "A9.1",
    "geometry.find_channel_neighbors": "A9.2",
    "geometry.n_steps_neigh_channels": "A9.3",
    "geometry.make_channel_index": "A9.4",
    "geometry.make_channel_groups": "A9.5",
    "geometry.order_channels_by_distance": "A9.6",
    "batch.BatchProcessor.multi_channel": "A10.4",
    "batch.BatchProcessor.multi_channel_apply": "A10.6",
    "batch.BatchProcessor.single_channel": "A10.12",
    "batch.BatchProcessor.single_channel_apply": "A10.13",
    "batch.BatchPipeline.run": "A10.16",
    "batch.PipedTransformation.run": "A10.17",
    "batch.RecordingsReader.__getitem__": "A10.18",
    "batch.BinaryReader.__getitem__": "A10.20",
    "batch.MemoryMap.__getitem__": "A10.21",
}
"""Public functions of yass_dask.compat, and the row whose tests must notice."""
if find_spec("yass_dask.neuralnetwork") is not None:
    ZEROED |= {
        "detect.nnet.run": "A5.7",
        "detect.nnet_experimental.run": "A5.6",
        "augment.make.load_templates": "A11.1",
        "augment.make.training_data": "A11.4",
    }


def zeroed(value: Any) -> Any:
    """The same kind of thing with nothing in it: arrays and numbers of zero, and files that are named full of zeros."""
    if isinstance(value, np.ndarray | np.generic):
        return np.zeros_like(value)
    if isinstance(value, bool | int | float):
        return type(value)(0)
    if isinstance(value, str | Path) and Path(value).is_file():
        Path(value).write_bytes(bytes(Path(value).stat().st_size))
    elif isinstance(value, dict):
        return {key: zeroed(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        return type(value)(zeroed(item) for item in value)
    elif isinstance(value, Iterator):
        return (zeroed(item) for item in value)
    elif hasattr(value, "values") and isinstance(value.values, np.ndarray):
        value.values = np.zeros_like(value.values)
    elif type(value).__name__ == "Settings":
        return None
    return value


def _replaced(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        # What gives nothing back is known by what it does: it does nothing.
        silent = name in ("set_config", "reset_config", "set_tensorflow_config")
        return None if silent else zeroed(function(*args, **kwargs))

    return replacement


def zero(target: str) -> None:
    """Replace a function of yass_dask.compat."""
    *path, name = target.split(".")
    home: Any = import_module("yass_dask.compat")
    for step in path:
        home = getattr(home, step)
    setattr(home, name, _replaced(getattr(home, name), name))


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module takes the function by name."""
    if target := os.environ.get("YASS_DASK_ZEROED"):
        zero(target)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of a row."""
    wanted = os.environ.get(ROWS)
    if wanted:
        rows = {item.nodeid: {row for mark in item.iter_markers("coverage_row") for row in mark.args} for item in items}
        items[:] = [item for item in items if rows[item.nodeid] and (wanted == "all" or wanted in rows[item.nodeid])]
