"""The flat file of traces that phy shows, and params.py, which tells phy about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.sources import BinarySource, ConcatSource, SlicedSource

if TYPE_CHECKING:
    from yass_dask.recording import Recording
    from yass_dask.sorting import Sorting


@dataclass(frozen=True)
class TraceFile:
    """Flat files (samples, channels), one after the other."""

    paths: tuple[Path, ...]
    n_channels: int
    dtype: np.dtype[Any]
    offset: int
    """Bytes before the first sample of each file."""
    channels: tuple[int, ...]
    """Channel in the file of each channel of the sorting."""
    hp_filtered: bool

    def params_text(self, sampling_rate: float) -> str:
        """Give params.py: plain assignments of Python values."""
        paths: Any = [str(path.absolute()) for path in self.paths]
        values = {
            "dat_path": paths[0] if len(paths) == 1 else paths,
            "n_channels_dat": self.n_channels,
            "dtype": self.dtype.name if self.dtype.isnative else self.dtype.str,
            "offset": self.offset,
            "sample_rate": float(sampling_rate),
            "hp_filtered": self.hp_filtered,
        }
        return "".join(f"{name} = {value!r}\n" for name, value in values.items())


def trace_file(raw: Recording | None, sorting: Sorting) -> TraceFile | None:
    """Give the files of a raw recording, None where phy cannot read them as they are."""
    if raw is None or tuple(raw.source.shape) != (sorting.n_samples, sorting.n_channels):
        return None
    source, start, channels = raw.source, 0, tuple(range(sorting.n_channels))
    if isinstance(source, SlicedSource):
        start, channels = source.start, source.channels or channels
        source = source.source
    files = list(source.sources) if isinstance(source, ConcatSource) else [source]
    plain = [file for file in files if isinstance(file, BinarySource) and file.order == "samples"]
    if len(plain) < len(files) or len({(file.offset, file.file_dtype) for file in plain}) > 1:
        return None
    if start and len(plain) > 1:
        return None
    first = plain[0]
    n_channels, dtype = first.n_channels, first.file_dtype
    offset = first.offset + start * n_channels * dtype.itemsize
    paths = tuple(Path(file.path) for file in plain)
    return TraceFile(paths, n_channels, dtype, offset, channels, hp_filtered=False)


def write_traces(recording: Recording, path: Path) -> TraceFile:
    """Write a recording as one flat file, chunk by chunk."""
    with open(path, "wb") as file:
        for chunk in recording.chunks:
            file.write(np.ascontiguousarray(recording.source.read(chunk.start, chunk.stop)).tobytes())
    channels = tuple(range(recording.n_channels))
    return TraceFile((path,), recording.n_channels, np.dtype(recording.dtype), 0, channels, hp_filtered=True)
