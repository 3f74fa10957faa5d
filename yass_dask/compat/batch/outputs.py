"""Files that batches are written to, in order; whole or not at all, with a YAML file beside them."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from dask.base import tokenize

from yass_dask.compat.batch.about import FileParams, params_of, write_params, yaml_of
from yass_dask.config import text
from yass_dask.errors import InputError
from yass_dask.store.disk import readable_errors
from yass_dask.store.recipe import hash_of

_log = logging.getLogger("yass_dask")

RULES = ("overwrite", "abort", "skip")


def check_rule(if_file_exists: str) -> None:
    """InputError for what is none of the three rules."""
    if if_file_exists not in RULES:
        raise InputError(f"if_file_exists is {if_file_exists!r}; allowed are {', '.join(RULES)}")


def name_of(function: Callable[..., Any]) -> str:
    """What tells one function from another: its name, and a token of its text and of what it holds."""
    wrapped = inspect.unwrap(function)
    try:
        body = inspect.getsource(wrapped)
    except (OSError, TypeError):
        body = ""
    name = getattr(wrapped, "__qualname__", type(wrapped).__qualname__)
    return f"{getattr(wrapped, '__module__', '')}.{name} {tokenize(function, body)[:12]}"


def found(path: Path, if_file_exists: str, recipe: Mapping[str, Any]) -> FileParams | None:
    """What is known of a file that is there and stands; None where it is to be made.

    Raises
    ------
    InputError
        It is there and the rule is 'abort'; or the rule is 'skip' and it was not made by a batch processor.
    """
    check_rule(if_file_exists)
    if not path.exists() or if_file_exists == "overwrite":
        return None
    if if_file_exists == "abort":
        raise InputError(f"{path} exists, and if_file_exists is 'abort'")
    stored = text.read_mapping(yaml_of(path)) if yaml_of(path).is_file() else {}
    if "recipe" not in stored:
        raise InputError(
            f"{path} exists and nothing tells how it was made: it cannot be used in place of the result; "
            "give another output path, or if_file_exists='overwrite'"
        )
    if stored["recipe"] != hash_of(recipe):
        _log.warning("%s was made by another function, from other data or with other arguments: made anew", path)
        return None
    _log.info("%s was made by the same function before: left as it is", path)
    return params_of(stored, str(yaml_of(path)))


def write(
    path: Path, results: Iterator[np.ndarray], data_order: str, n_channels: int | None, recipe: Mapping[str, Any]
) -> FileParams:
    """Write arrays one after the other; the file gets its name when the last one is in it.

    Parameters
    ----------
    n_channels : None: as many as the arrays have columns

    Raises
    ------
    InputError
        The arrays differ in type or width, or the disk does not take them.
    """
    part = path.with_name(f".{path.name}.part")
    with readable_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "wb") as file:
                params = _write_all(file, results, data_order, n_channels, path)
            yaml_of(path).unlink(missing_ok=True)  # of what was there before
            os.replace(part, path)
            write_params(path, params, recipe=hash_of(recipe))
        finally:
            part.unlink(missing_ok=True)
    return params


def _write_all(
    file: Any, results: Iterator[np.ndarray], data_order: str, n_channels: int | None, path: Path
) -> FileParams:
    kinds = set()
    for result in results:
        values = np.ascontiguousarray(result)
        width = n_channels or (values.shape[1] if values.ndim == 2 else 1)
        kinds.add(FileParams(values.dtype.name, width, data_order))
        if len(kinds) > 1:
            shown = "; ".join(f"{kind.n_channels} channels of {kind.dtype}" for kind in sorted(kinds))
            raise InputError(f"{path}: results of different batches do not fit together: {shown}")
        values.tofile(file)
    (params,) = kinds
    return params
