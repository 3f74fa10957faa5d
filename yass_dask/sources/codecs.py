"""Zarr arrays name the codecs that read them; of those of others, none may run what it reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yass_dask.errors import InputError

DESCRIPTIONS = (".zarray", "zarr.json")
FORBIDDEN = "pickle"
"""The codec of numcodecs whose chunks are programs: unpickling them runs what they say."""


def refuse_pickles(folder: Path) -> None:
    """Refuse a zarr array whose chunks would be unpickled, whatever number type it claims to have.

    Raises
    ------
    InputError
        The array in `folder` names such a codec, at whatever place.
    """
    for name in DESCRIPTIONS:
        try:
            about = json.loads((folder / name).read_bytes())
        except (OSError, ValueError, RecursionError):
            continue  # opening it tells what is wrong
        for codec in _codec_names(about):
            if codec.lower().rpartition(".")[2] == FORBIDDEN:
                raise InputError(
                    f"{folder}: its chunks are pickles (codec {codec!r}), programs that would run when they are read; "
                    "they are not: write the traces with a codec for numbers, such as blosc"
                )


def _codec_names(about: Any) -> Iterator[str]:
    """Every `id` (format 2) and `name` (format 3), however deep: codecs may hold codecs."""
    for key, value in about.items() if isinstance(about, dict) else ():
        if key in ("id", "name") and isinstance(value, str):
            yield value
    for value in about.values() if isinstance(about, dict) else about if isinstance(about, list) else ():
        yield from _codec_names(value)
