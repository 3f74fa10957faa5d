"""`pipeline.run`: the whole sort, as `yass sort` runs it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np

from yass_dask.commands import SortOptions, output_folder, run_sort
from yass_dask.config import load
from yass_dask.detect import DetectParams
from yass_dask.errors import InputError
from yass_dask.logs import logging_to
from yass_dask.sorting import Sorting
from yass_dask.store import Store

_log = logging.getLogger("yass_dask")

STEPS = {
    "preprocess": ("scale", "preprocess", "noise", "spectrum", "raster", "motion", "still"),
    "detect": ("triage", "detect", "basis", "chosen", "features"),
    "cluster": ("cluster", "units"),
    "templates": ("means", "templates"),
}
"""Stages that are YASS's first four steps; the fifth, deconvolute, are all others: pursuit and its refinements."""


def run(
    config: str | Path | Mapping[str, Any], logger_level: str = "INFO", clean: bool = False,
    output_dir: str | Path = "tmp/", complete: bool = False, set_zero_seed: bool = False, detector: str = "auto",
) -> np.ndarray:  # fmt: skip
    """Sort the recording of a configuration.

    Parameters
    ----------
    config : path of a YAML file, or a mapping with the same sections
    logger_level : "DEBUG", "INFO", "WARNING" or "ERROR"
    clean : delete earlier results in the output folder first
    output_dir : folder for the results, within root_folder unless absolute
    complete : also write the files of YASS's steps, see `documented.write_documented`
    set_zero_seed : also set NumPy's seed to 0; the sort draws no random numbers from it
    detector : "threshold", "nnet", or "auto": what suits the recording, as `yass sort`

    Returns
    -------
    (n_spikes, 2) int64: sample and unit, in order of time

    Raises
    ------
    InputError
        Bad configuration or arguments.
    """
    if set_zero_seed:
        np.random.seed(0)  # noqa: NPY002  # what the caller's own code draws afterwards
    given = config if isinstance(config, Mapping) else Path(config)
    options = SortOptions(
        config=given, output_dir=Path(output_dir), clean=clean,
        logger_level=logger_level, complete=complete, overrides=_detector(detector),
    )  # fmt: skip
    run_sort(options)
    folder = output_folder(load(given), options.output_dir)
    with logging_to(folder, logger_level):
        for line in timing_summary(Store(folder).timings()):
            _log.info("%s", line)
    return Sorting.open(folder).spike_train


def _detector(name: str) -> tuple[str, ...]:
    """The choice of a detector as an assignment of `yass sort --set`."""
    known = get_args(DetectParams.model_fields["method"].annotation)
    if name not in known:
        raise InputError(f"detector is {name!r}; allowed are {', '.join(known)}")
    return (f"detect.method={name}",)


def timing_summary(timings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line a step: seconds, and share of all.

    Parameters
    ----------
    timings : for every stage its `seconds`, as `Store.timings` gives them
    """
    step_of = {stage: step for step, stages in STEPS.items() for stage in stages}
    spent = dict.fromkeys([*STEPS, "deconvolute"], 0.0)
    for stage, timing in timings.items():
        spent[step_of.get(stage, "deconvolute")] += timing["seconds"]
    total = sum(spent.values())
    lines = [f"{step}: {seconds:.1f} s ({seconds / max(total, 1e-9):.0%})" for step, seconds in spent.items()]
    return [*lines, f"in all: {total:.1f} s"]
