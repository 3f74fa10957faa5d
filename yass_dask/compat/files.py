"""Documented files of a step, and when they may stand for its result: never if something else made them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.arrayfiles import read_npy, read_npz
from yass_dask.compat.batch.outputs import check_rule
from yass_dask.errors import InputError
from yass_dask.store.disk import read_json, readable_errors, write_json, write_whole
from yass_dask.store.recipe import differences, plain

_log = logging.getLogger("yass_dask")

_AGAIN = "run the step again with if_file_exists='overwrite'"

Values = Mapping[str, Any]


@dataclass(frozen=True)
class StepFiles:
    """Files that a step writes into its folder, and the recipe they are made by.

    Parameters
    ----------
    folder : where they go
    names : files, .npy (arrays), .npz (mappings of arrays), .json (plain lists), or others, which the step itself
        writes and reads
    recipe : what decides the result: function, parameters, inputs; JSON-able
    """

    folder: Path
    names: tuple[str, ...]
    recipe: Mapping[str, Any]

    @property
    def record(self) -> Path:
        """File that tells what made the others."""
        return self.folder / f".{self.names[-1]}.made.json"

    def results(self, compute: Callable[[], Values], if_file_exists: str, save_results: bool) -> Values:
        """Contents of the files: read where they stand for the result, else computed, and written if asked for.

        Raises
        ------
        InputError
            An unknown rule; or the rule is 'abort' and a file is there.
        """
        if self.stand(if_file_exists):
            return {name: load(self.folder / name) for name in self.names}
        values = compute()
        if save_results:
            self.save(values)
        return values

    def stand(self, if_file_exists: str) -> bool:
        """Whether the files that are there may be used as they are; says why where they may not."""
        check_rule(if_file_exists)
        there = [name for name in self.names if (self.folder / name).exists()]
        if there and if_file_exists == "abort":
            raise InputError(f"{self.folder}: {', '.join(there)} exist, and if_file_exists is 'abort'")
        if not there or if_file_exists == "overwrite":
            return False
        problem = self._problem(there)
        if problem:
            _log.warning("%s: %s; computed anew", self.folder / self.names[0], problem)
        return not problem

    def save(self, values: Values) -> None:
        """Write the files, and last what made them."""
        with readable_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.record.unlink(missing_ok=True)
            for name in self.names:
                if name in values:
                    save(self.folder / name, values[name])
            stamps = {name: _stamp(self.folder / name) for name in self.names}
            write_json(self.record, {"recipe": plain(self.recipe), "files": stamps})

    def _problem(self, there: list[str]) -> str:
        """Why files cannot stand for the result, empty where they can."""
        missing = [name for name in self.names if name not in there]
        if missing:
            return f"{', '.join(missing)} missing"
        made = read_json(self.record)
        if not made:
            return "nothing tells how it was made"
        changed = [name for name in self.names if made["files"].get(name) != _stamp(self.folder / name)]
        if changed:
            return f"{', '.join(changed)} changed since"
        return "; ".join(differences(made["recipe"], plain(self.recipe)))


def save(path: Path, value: Any) -> None:
    """Write a value in the format that the file's name says; whole or not at all."""

    def write(file: Any) -> None:
        if path.suffix == ".npy":
            np.save(file, value, allow_pickle=False)
        elif path.suffix == ".npz":
            np.savez(file, **value)
        else:
            file.write(json.dumps(plain(value)).encode())

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, write, path.parent)


def load(path: Path) -> Any:
    """What `save` wrote."""
    if path.suffix == ".npy":
        return read_npy(path, _AGAIN)
    if path.suffix == ".npz":
        return read_npz(path, _AGAIN)
    return json.loads(path.read_text(encoding="utf-8"))


def array_of(value: Any, name: str, ndim: int) -> np.ndarray:
    """An array, or that in a .npy file.

    Raises
    ------
    InputError
        No such file, or another number of dimensions.
    """
    if isinstance(value, str | Path):
        value = read_npy(value, f"{name} should be an array or a .npy file")
    array = np.asarray(value)
    if array.ndim != ndim:
        raise InputError(f"{name} has shape {array.shape}; give an array of {ndim} dimensions, or the path of one")
    return array


def digest(array: np.ndarray) -> str:
    """What tells one array from another."""
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()[:32]


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]
