"""Standardized files as the stages take them, and whitening matrices as theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dask.base import tokenize

from yass_dask.arrayfiles import read_npy
from yass_dask.compat.batch.about import FileParams, params_of, yaml_of
from yass_dask.compat.files import digest
from yass_dask.compat.settings import Settings
from yass_dask.config import text
from yass_dask.errors import InputError
from yass_dask.noise import Noise
from yass_dask.preprocess import COUNTS_PER_SD, Clean, Scale
from yass_dask.recording import Recording
from yass_dask.sources import BinarySource

RECORDINGS, WHITENING = "standarized.bin", "whitening.npy"


@dataclass(frozen=True, eq=False)
class CountsSource:
    """Standardized traces as the counts that the stages take, made while they are read."""

    source: BinarySource

    @property
    def shape(self) -> tuple[int, int]:
        return self.source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.int16)

    @property
    def path(self) -> str:
        return self.source.path

    def read(self, start: int, stop: int) -> np.ndarray:
        counts = np.rint(self.source.read(start, stop) * np.float32(COUNTS_PER_SD))
        if not np.isfinite(counts).all():
            raise InputError(f"{self.path}: not a number between samples {start} and {stop}; preprocess again")
        limits = np.iinfo(np.int16)
        return np.clip(counts, limits.min, limits.max).astype(np.int16)

    def identity(self) -> dict[str, Any]:
        return {"kind": "counts", "of": self.source.identity()}

    def __dask_tokenize__(self) -> str:
        return tokenize("CountsSource", self.source)


@dataclass(frozen=True)
class Standardized:
    """A standardized file and what it holds."""

    path: Path
    params: FileParams

    @classmethod
    def of(cls, path: str | Path, params: Mapping[str, Any] | str | Path | None) -> Standardized:
        """The file; `params` is a mapping, a YAML file, or None for the one beside it.

        Raises
        ------
        InputError
            `params` does not tell dtype, n_channels and data_order.
        """
        params = yaml_of(path) if params is None else params
        told = params if isinstance(params, Mapping) else text.read_mapping(Path(params))
        return cls(Path(path).absolute(), params_of(told, str(path)))

    @classmethod
    def named(cls, name: str | Path, settings: Settings) -> Standardized:
        """A file in the output folder, or in its folder preprocess.

        Raises
        ------
        InputError
            It is in neither.
        """
        places = [settings.folder / name, settings.folder / "preprocess" / name]
        for path in places:
            if path.is_file():
                return cls.of(path, None)
        raise InputError(f"{' and '.join(map(str, places))} do not exist: run preprocess first, or name another file")

    def whitening(self) -> np.ndarray | None:
        """Whitening matrix beside the file, None where there is none."""
        beside = self.path.with_name(WHITENING)
        return read_npy(beside, "run preprocess again") if beside.is_file() else None

    def identity(self) -> dict[str, Any]:
        """What of the file, and of the matrix beside it, decides a result."""
        matrix = self.whitening()
        whitening = None if matrix is None else digest(matrix)
        return {"recording": self.params.source(self.path).identity(), "whitening": whitening}

    def recording(self, settings: Settings) -> Recording:
        """The counts as a recording.

        Raises
        ------
        InputError
            No such file, or another number of channels than the configuration's.
        """
        raw = settings.recording
        if self.params.n_channels != raw.n_channels:
            raise InputError(
                f"{self.path} has {self.params.n_channels} channels, but the configuration {raw.n_channels}"
            )
        return Recording(CountsSource(self.params.source(self.path)), raw.sampling_rate, raw.probe)


def clean_of(recording: Recording, bad: np.ndarray, backend: str) -> Clean:
    """Clean traces in noise standard deviations.

    Parameters
    ----------
    bad : (n_channels,) bool
    """
    zeros, ones = np.zeros(len(bad), np.float32), np.ones(len(bad), np.float32)
    return Clean(recording, Scale(zeros, ones, bad), backend)


def filters_of(matrix: np.ndarray, n_channels: int) -> dict[str, np.ndarray]:
    """Fields of Noise, of a whitening matrix.

    Parameters
    ----------
    matrix : (n_channels, n_channels), whitened = traces @ matrix

    Raises
    ------
    InputError
        Another shape, or not finite.
    """
    matrix = np.asarray(matrix, np.float32)
    if matrix.shape != (n_channels, n_channels) or not np.isfinite(matrix).all():
        raise InputError(
            f"whiten_filter has shape {matrix.shape}; give a finite matrix ({n_channels}, {n_channels}), "
            "such as preprocess.run returns: whitened = traces @ whiten_filter"
        )
    width = max(1, int((matrix != 0).sum(axis=0).max()))
    channels = np.argsort(matrix == 0, axis=0, kind="stable")[:width].T
    filters = np.take_along_axis(matrix.T, channels, axis=1)
    return {"filters": filters, "channels": np.where(filters != 0, channels, n_channels).astype(np.int32)}


def noise_of(table: Mapping[str, Any]) -> Noise:
    """Noise of the fields that `filters_of` gave."""
    return Noise(np.asarray(table["filters"][:]), np.asarray(table["channels"][:]))
