"""Results in parts: one file per part while the stage runs, one zarr array per field when it is complete.

A part file is a zip of .npy members, so data and mark are one: it appears in one step, and zip keeps a
checksum of every member.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import numpy as np
from dask.delayed import Delayed

from yass_dask.chunked import then
from yass_dask.store import zarrays
from yass_dask.store.disk import readable_errors, write_whole
from yass_dask.store.stage import Stage

SUFFIX = ".npz"
_MEMBER = ".npy"
_READERS = 4


def part_file(stage: Stage, name: str) -> Path:
    """File of a part while its stage is unfinished."""
    return stage.scratch / f"{quote(name, safe='')}{SUFFIX}"


def write_part(arrays: Mapping[str, np.ndarray], stage: Stage, name: str) -> None:
    """Write a part's arrays as one file, in the task that computed them: nothing travels to the client."""
    with readable_errors(stage.path):
        stage.check()
        write_whole(part_file(stage, name), lambda file: _write_zip(file, arrays), stage.scratch)


def _write_zip(file: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for field, values in arrays.items():
            if not field.isidentifier() or np.ndim(values) == 0:
                raise ValueError(f"field {field!r} of a part needs a plain name and at least one axis")
            with archive.open(field + _MEMBER, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(values), allow_pickle=False)


def write_tasks(parts: Mapping[str, Delayed], stage: Stage, missing: Sequence[str]) -> dict[str, Delayed]:
    """One task per missing part that computes it and writes it."""
    return {name: then(write_part, parts[name], stage, name) for name in missing}


def found(stage: Stage, names: Sequence[str]) -> set[str]:
    """Names of the parts that lie on the disk undamaged."""
    with ThreadPoolExecutor(_READERS) as readers:
        sound = list(readers.map(lambda name: is_sound(part_file(stage, name)), names))
    return {name for name, ok in zip(names, sound, strict=True) if ok}


def is_sound(path: Path) -> bool:
    """Whether a part's file is there, and undamaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError):
        return False


def join(stage: Stage, names: Sequence[str]) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Concatenate the parts, in the order of `names`, into one zarr array per field.

    One part's field is in memory at a time. Parts without rows only count where no part has any.

    Returns
    -------
    Checksums of the fields, see `zarrays.put_checksums`; number of rows that each part has of every field.
    """
    specs = [_specs(part_file(stage, name)) for name in names]
    fields = tuple(sorted({field for spec in specs for field in spec}))
    checksums = {}
    for field in fields:
        layout, pieces = _joined_layout(field, specs, names), _pieces(stage, field, names, specs)
        checksums[field] = zarrays.put_rows(stage.path / field, layout, pieces, stage.scratch)
    rows = {field: [spec[field][0][0] if field in spec else 0 for spec in specs] for field in fields}
    return checksums, rows


def reduce(
    stage: Stage, names: Sequence[str], make: Callable[[Iterator[Mapping[str, np.ndarray]]], Mapping[str, np.ndarray]]
) -> dict[str, int]:
    """Make the arrays of the parts, of which one is in memory at a time; return the fields' checksums."""
    arrays = make(_whole(part_file(stage, name)) for name in names)
    checksums = {}
    for field, values in sorted(arrays.items()):
        layout = zarrays.layout_for(len(values), values.shape[1:], values.dtype)
        checksums[field] = zarrays.put_rows(stage.path / field, layout, [values], stage.scratch)
    return checksums


def read(stage: Stage, name: str, fields: Sequence[str]) -> dict[str, np.ndarray]:
    """Some fields of a part whose stage is unfinished."""
    return {field: _read(part_file(stage, name), field) for field in fields}


def _whole(path: Path) -> dict[str, np.ndarray]:
    return {field: _read(path, field) for field in _specs(path)}


_Spec = dict[str, tuple[tuple[int, ...], np.dtype]]


def _specs(path: Path) -> _Spec:
    """Shape and dtype of every field of a part, from the headers."""
    with zipfile.ZipFile(path) as archive:
        return {name.removesuffix(_MEMBER): _header(archive, name) for name in archive.namelist()}


def _header(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype]:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        first = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    return shape, dtype


def _joined_layout(field: str, specs: Sequence[_Spec], names: Sequence[str]) -> zarrays.Layout:
    """Layout of a joined field; ValueError where the parts do not fit together."""
    for name, spec in zip(names, specs, strict=True):
        if spec and field not in spec:
            raise ValueError(f"part {name} has no field {field!r}, others have")
    all_specs = [(name, *spec[field]) for name, spec in zip(names, specs, strict=True) if field in spec]
    with_rows = [entry for entry in all_specs if entry[1][0]] or all_specs[:1]
    first, (_, *row_shape), dtype = with_rows[0]
    for name, shape, other in with_rows:
        if shape[1:] != tuple(row_shape) or other != dtype:
            raise ValueError(
                f"field {field!r}: part {name} has rows of {shape[1:]} {other}, "
                f"part {first} of {tuple(row_shape)} {dtype}"
            )
    return zarrays.layout_for(sum(shape[0] for _, shape, _ in with_rows), tuple(row_shape), dtype)


def _pieces(stage: Stage, field: str, names: Sequence[str], specs: Sequence[_Spec]) -> Iterator[np.ndarray]:
    for name, spec in zip(names, specs, strict=True):
        if field in spec and spec[field][0][0]:
            yield _read(part_file(stage, name), field)


def _read(path: Path, field: str) -> np.ndarray:
    with zipfile.ZipFile(path) as archive, archive.open(field + _MEMBER) as member:
        values: Any = np.lib.format.read_array(member, allow_pickle=False)
    return values
