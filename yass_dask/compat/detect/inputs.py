"""What every detector is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.compat.files import array_of, digest
from yass_dask.compat.traces import Standardized
from yass_dask.errors import InputError


@dataclass(frozen=True)
class DetectInputs:
    """The standardized recording and its whitening matrix."""

    file: Standardized
    whiten_filter: np.ndarray

    @classmethod
    def of(
        cls, path: str | Path, params: Mapping[str, Any] | str | Path, whiten_filter: np.ndarray | str | Path
    ) -> DetectInputs:
        """Arrays, mappings and paths alike."""
        return cls(Standardized.of(path, params), array_of(whiten_filter, "whiten_filter", 2))

    def identity(self) -> dict[str, Any]:
        """What of them decides a result."""
        recording = self.file.params.source(self.file.path).identity()
        return {"recording": recording, "whiten_filter": digest(self.whiten_filter)}


def as_train(values: Any, name: str) -> np.ndarray:
    """(n, 2) int64 of an array or a .npy file.

    Raises
    ------
    InputError
        Another shape, or no whole numbers.
    """
    array = array_of(values, name, 2)
    if array.shape[1] != 2 or not np.array_equal(array, array.astype(np.int64)):
        raise InputError(f"{name} has shape {array.shape}; give (n, 2) whole numbers: sample and channel")
    return array.astype(np.int64)
