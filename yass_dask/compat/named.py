"""`function=`: a callable, or the documented name of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from yass_dask.errors import InputError

Function = Callable[..., Any]


def function_of(function: Function | str, step: str, known: Mapping[str, Function]) -> Function:
    """The callable that is meant.

    Parameters
    ----------
    function : a callable, or a name such as "threshold", "detect.threshold.run" or "yass.detect.threshold.run"
    step : name of the step
    known : its functions by their short names

    Raises
    ------
    InputError
        Neither a callable nor one of these names.
    """
    if callable(function):
        return function
    words = str(function).split(".")
    short = [word for word in words if word not in ("yass", "yass_dask", "compat", step, "legacy", "run")]
    name = short[0] if len(short) == 1 else words[-1]
    if len(short) > 1 or name not in known:
        raise InputError(f"function is {function!r}; give a callable or one of {', '.join(sorted(known))}")
    return known[name]
