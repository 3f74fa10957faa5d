"""What a finished stage hands to the next one: tables, and traces that were deleted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from yass_dask.errors import InputError
from yass_dask.store import zarrays


@dataclass(frozen=True)
class Table(Mapping[str, Any]):
    """The joined fields of a finished stage, by name; a small handle that tasks can carry.

    Attributes
    ----------
    path : str
        The stage's zarr group.
    recipe : str
        Hash of the recipe that made it: part of the handle's identity.
    fields : tuple of str
        Names of the arrays. Items are zarr arrays, opened where they are asked for.
    """

    path: str
    recipe: str
    fields: tuple[str, ...]

    def __getitem__(self, name: str) -> Any:
        if name not in self.fields:
            raise KeyError(name)
        return zarrays.open_array(Path(self.path) / name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def load(self, name: str) -> np.ndarray:
        """A whole field in memory."""
        return np.asarray(self[name][...])

    def __dask_tokenize__(self) -> tuple[str, str, str]:
        return (type(self).__name__, self.path, self.recipe)


@dataclass(frozen=True)
class DeletedTraces:
    """Stands for traces that were deleted after the sort; anyone who reads them is told so."""

    path: str
    recipe: str
    shape: tuple[int, int]
    dtype: np.dtype

    def identity(self) -> dict[str, Any]:
        return {"deleted": self.path, "recipe": self.recipe}

    def read(self, start: int, stop: int) -> NoReturn:
        raise InputError(
            f"The traces in {self.path} were deleted after an earlier sort (--delete-traces), but are needed "
            "now. Sort again from the start with --clean, or into another output folder."
        )

    def __dask_tokenize__(self) -> tuple[str, str, str]:
        return (type(self).__name__, self.path, self.recipe)
