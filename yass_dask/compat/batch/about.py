"""What a flat binary file holds: given by the caller, or by a YAML file beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from yass_dask.config import parse_size, text
from yass_dask.errors import InputError
from yass_dask.sources import BinarySource

PathLike = str | os.PathLike[str]

FORMATS = {"wide": "channels", "long": "samples"}
"""`data_format` is the older word for `data_order`."""
KEYS = ("dtype", "n_channels", "data_order")


class FileParams(NamedTuple):
    """How to read a file."""

    dtype: str
    n_channels: int
    data_order: str
    """"samples" (all channels of a sample lie together) or "channels" (all samples of a channel do)"""

    def source(self, path: PathLike) -> BinarySource:
        """The file as a source.

        Raises
        ------
        InputError
            No such file, or a size that does not fit.
        """
        return BinarySource(os.fspath(path), np.dtype(self.dtype), self.n_channels, self.data_order)


def yaml_of(path: PathLike) -> Path:
    """The YAML file that tells what a binary file holds."""
    return Path(path).expanduser().with_suffix(".yaml")


def write_params(path: PathLike, params: FileParams, **more: Any) -> None:
    """Write the YAML file beside a binary file."""
    yaml_of(path).write_text(text.dump({**params._asdict(), **more}), encoding="utf-8")


def file_params(path: PathLike, dtype: Any, n_channels: Any, data_order: Any, data_format: Any = None) -> FileParams:
    """What the caller gives, and for what is None the YAML file beside the binary file.

    Raises
    ------
    InputError
        Something is neither given nor in a YAML file, or both words for the order are given.
    """
    if data_format is not None:
        if data_order is not None or data_format not in FORMATS:
            raise InputError(
                f"data_format is {data_format!r} and data_order {data_order!r}: give one of them, "
                "data_order 'samples' or 'channels', or data_format 'long' or 'wide'"
            )
        data_order = FORMATS[data_format]
    given = {"dtype": dtype, "n_channels": n_channels, "data_order": data_order}
    if None in given.values():
        given = _stored(path) | {key: value for key, value in given.items() if value is not None}
    missing = [key for key in KEYS if given.get(key) is None]
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} not given, and not in {yaml_of(path)}")
    return params_of(given, os.fspath(path))


def params_of(given: Mapping[str, Any], where: str) -> FileParams:
    """FileParams out of a mapping.

    Raises
    ------
    InputError
        A key is missing or its value cannot be.
    """
    missing = [key for key in KEYS if key not in given]
    if missing:
        raise InputError(f"{where}: {', '.join(missing)} missing; give {', '.join(KEYS)}")
    try:
        return FileParams(np.dtype(given["dtype"]).name, int(given["n_channels"]), str(given["data_order"]))
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}; give {', '.join(KEYS)}") from error


def _stored(path: PathLike) -> dict[str, Any]:
    beside = yaml_of(path)
    return text.read_mapping(beside) if beside.is_file() else {}


def size_of(max_memory: int | str) -> int:
    """Bytes of `max_memory`.

    Raises
    ------
    InputError
        It is no size.
    """
    try:
        return parse_size(max_memory)
    except ValueError as error:
        raise InputError(f"max_memory: {error}, found {max_memory!r}") from None
