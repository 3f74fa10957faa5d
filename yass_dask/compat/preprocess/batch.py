"""The stable preprocessing: the raw recording is read once, and its standardized traces written as a flat file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.backends import on_host
from yass_dask.chunked import Chunk, Rows, blocks, chunk_tasks
from yass_dask.compat.batch.about import FileParams, write_params
from yass_dask.compat.files import StepFiles, load, save
from yass_dask.compat.settings import Settings
from yass_dask.compat.traces import RECORDINGS, WHITENING, Standardized
from yass_dask.compat.work import Work, at_work, whitened
from yass_dask.conditioning import Conditioner, PreprocessParams
from yass_dask.errors import InputError
from yass_dask.preprocess import Scale, measure_scale
from yass_dask.store.disk import readable_errors

FILTERED, CPU = "filtered.bin", "numba"


def run(
    CONFIG: Settings, if_file_exists: str = "skip", output_dtype: str = "float64", apply_filter: bool = True,
    filter_order: int = 3, filter_low_pass_freq: float = 300, filter_high_factor: float = 0.1,
    function: str = "preprocess.batch.run",
) -> tuple[str, dict[str, Any], np.ndarray]:  # fmt: skip
    """Filter (unless told not to), subtract the median, divide by the noise; measure the whitening matrix.

    Parameters
    ----------
    CONFIG : Settings, see `read_config`
    if_file_exists : "overwrite", "abort" or "skip"
    output_dtype : type of the files, a floating one
    apply_filter : without it the recording is standardized as it is
    filter_order : of the Butterworth filter, which runs forward and backward
    filter_low_pass_freq : lower corner of the band-pass, Hz (the name is YASS's)
    filter_high_factor : upper corner as a share of the sampling rate, at most 0.45
    function : name that the files are recorded under

    Returns
    -------
    path, params, whiten_filter, see `preprocess.run`

    Raises
    ------
    InputError
        Bad arguments, or a file is there and `if_file_exists` is "abort".
    """
    how = _params(CONFIG, apply_filter, filter_order, filter_low_pass_freq, filter_high_factor)
    dtype = _floating(output_dtype)
    raw, folder = CONFIG.recording, CONFIG.folder / "preprocess"
    recipe = {"function": function, "params": how.model_dump(), "dtype": dtype.name, "recording": raw.identity()}
    bins = (*((FILTERED,) if apply_filter else ()), RECORDINGS)
    names = tuple(name for file in bins for name in (file, Path(file).with_suffix(".yaml").name))
    files = StepFiles(folder, (*names, WHITENING), recipe)
    params = FileParams(dtype.name, raw.n_channels, "samples")
    if not files.stand(if_file_exists):
        with at_work(CONFIG, raw, "raw", CPU) as work, readable_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if not apply_filter:
                for name in (FILTERED, Path(FILTERED).with_suffix(".yaml").name):
                    (folder / name).unlink(missing_ok=True)  # of an earlier run
            _write_traces(work, how, folder, bins, params)
        with whitened(CONFIG, Standardized(folder / RECORDINGS, params), None, CPU) as standardized:
            save(folder / WHITENING, standardized.noise.matrix())
        files.save({})
    return str(folder / RECORDINGS), params._asdict(), load(folder / WHITENING)


def _params(settings: Settings, apply_filter: bool, order: int, low_hz: float, high_factor: float) -> PreprocessParams:
    """The stage's parameters; nothing is blanked, as YASS never did."""
    rate = settings.recordings.sampling_rate
    corners = {"filter_low_hz": low_hz, "filter_high_hz": high_factor * rate} if apply_filter else {
        "filter_low_hz": None, "filter_high_hz": None}  # fmt: skip
    given = settings.params.preprocess.model_dump() | corners | {"filter_order": order, "artifact_sd": None}
    try:
        return PreprocessParams.model_validate(given)
    except ValueError as error:
        raise InputError(f"preprocess: {error}") from None


def _floating(name: Any) -> np.dtype[Any]:
    try:
        dtype = np.dtype(name)
    except TypeError as error:
        raise InputError(f"output_dtype is {name!r}: {error}") from None
    if dtype.kind != "f":
        raise InputError(f"output_dtype is {name!r}: standardized traces need a floating type such as 'float32'")
    return dtype


def _write_traces(work: Work, how: PreprocessParams, folder: Path, bins: tuple[str, ...], params: FileParams) -> None:
    """Measure the scale, then write every chunk's rows into the files, which get their names when all are there."""
    recording = work.recording
    scale = work.keep("scale", measure_scale(recording, how, work.backend))
    conditioner = Conditioner.of(recording, how, work.backend, bad=np.flatnonzero(scale.bad))
    parts = {name: folder / f".{name}.part" for name in bins}
    writer = _Writer(conditioner, scale, {name: str(part) for name, part in parts.items()}, np.dtype(params.dtype))
    try:
        for part in parts.values():
            with open(part, "wb") as file:
                file.truncate(recording.n_samples * writer.row_bytes)
        tasks = chunk_tasks("standarize", writer.chunk, recording, conditioner.halo, boundary="edge")
        work.keep.run.executor.run(tasks, lambda name: None, label="standarize", where="cpu")
        for name, part in parts.items():
            os.replace(part, folder / name)
            write_params(folder / name, params)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Writer:
    """Writes the traces of a chunk where they belong in the files."""

    conditioner: Conditioner
    scale: Scale
    parts: dict[str, str]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        return len(self.scale.sd) * self.dtype.itemsize

    def chunk(self, overlapped: np.ndarray | Rows, chunk: Chunk) -> None:
        """Filtered, and standardized, block by block."""
        conditioner, factor = self.conditioner, np.where(self.scale.bad, 0, 1 / self.scale.sd)
        for block in blocks(overlapped, chunk, conditioner.halo):
            conditioned = on_host(conditioner.condition(block.traces, block.start))
            filtered = conditioned[: block.stop - block.start].astype(np.float64)
            filtered[:, conditioner.bad] = 0
            standard = (filtered - self.scale.median) * factor
            standard[~conditioner.usable(block.start, len(standard))] = 0
            for name, values in ((FILTERED, filtered), (RECORDINGS, standard)):
                if name in self.parts:
                    self._put(self.parts[name], block.start, values)

    def _put(self, path: str, start: int, rows: np.ndarray) -> None:
        with open(path, "r+b") as file:
            file.seek(start * self.row_bytes)
            rows.astype(self.dtype).tofile(file)
