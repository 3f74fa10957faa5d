"""Reading flat binary files by [observations, channels], whatever their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yass_dask.compat.batch.about import FileParams, PathLike, file_params
from yass_dask.compat.batch.binary import BinaryReader, MemoryMap
from yass_dask.errors import InputError
from yass_dask.recording.overlap import UnreadRows

LOADERS = ("memmap", "array", "python")


class RecordingsReader:
    """A recording in a flat binary file, indexed by `[observations, channels]` whatever its order.

    Parameters
    ----------
    path_to_recordings : file
    dtype, n_channels, data_order : what the file holds; each one that is None is read from the YAML file beside it
    loader : "memmap" (see MemoryMap), "array" (all of it in memory) or "python" (see BinaryReader)
    buffer_size : samples that every index is given more on both sides, zeros where the file has none
    return_data_index : give (data, index) where index is that of the asked-for samples within data
    data_format : "wide" or "long", the older words for data_order "channels" and "samples"

    Raises
    ------
    InputError
        The file's size does not fit, or something is not known of it.
    """

    def __init__(
        self, path_to_recordings: PathLike, dtype: Any = None, n_channels: int | None = None,
        data_order: str | None = None, loader: str = "memmap", buffer_size: int = 0, return_data_index: bool = False,
        data_format: str | None = None,
    ) -> None:  # fmt: skip
        if loader not in LOADERS:
            raise InputError(f"loader is {loader!r}; allowed are {', '.join(LOADERS)}")
        self.params = file_params(path_to_recordings, dtype, n_channels, data_order, data_format)
        source = self.params.source(path_to_recordings)
        self._shape, self._data = source.shape, _load(source.path, self.params, source.shape, loader)
        self._buffer, self._return_index = int(buffer_size), return_data_index

    def __getitem__(self, key: Any) -> Any:
        """Samples by channels, as numpy would give them; with a buffer the first index must be a slice.

        Raises
        ------
        InputError
            A buffer, and no plain slice of observations.
        """
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        data, index = self._data[rows, columns], (rows, columns)
        if self._buffer:
            if not isinstance(rows, slice) or rows.step not in (None, 1):
                raise InputError(f"a reader with a buffer takes slices of observations without a step, found {rows!r}")
            start, stop, _ = rows.indices(self.observations)
            stop = max(start, stop)
            single = isinstance(columns, int | np.integer)
            data = Columns(self, [int(columns)] if single else columns).within(
                start - self._buffer, stop + self._buffer
            )
            data = data[:, 0] if single else data
            index = (slice(self._buffer, self._buffer + stop - start), slice(None))
        return (data, index) if self._return_index else data

    @property
    def shape(self) -> tuple[int, int]:
        """(observations, channels)."""
        return self._shape

    @property
    def observations(self) -> int:
        """Number of observations."""
        return self._shape[0]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self._shape[1]

    @property
    def data(self) -> Any:
        """What the loader made of the file."""
        return self._data

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number type of the file."""
        return np.dtype(self.params.dtype)

    @property
    def data_order(self) -> str:
        """Order of the file, "samples" or "channels"."""
        return self.params.data_order


@dataclass(frozen=True)
class Columns:
    """Some channels of a reader, read by spans of samples: a source of `yass_dask`'s overlapping chunks."""

    reader: RecordingsReader
    channels: slice | Sequence[int]

    @property
    def shape(self) -> tuple[int, int]:
        return (self.reader.observations, np.empty((0, self.reader.channels))[:, self.channels].shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.reader.dtype

    def identity(self) -> dict[str, Any]:
        return self.reader.params._asdict()

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples [start, stop), which the file has."""
        data, channels = self.reader.data, self.channels
        if isinstance(data, BinaryReader) and data.order == "C" and not isinstance(channels, slice):
            # Its rows are read whole from the first wanted channel to the last one.
            first = min(channels)
            return data[start:stop, first : max(channels) + 1][:, np.asarray(channels) - first]
        return np.ascontiguousarray(data[start:stop, channels])

    def within(self, start: int, stop: int) -> np.ndarray:
        """Samples [start, stop), zeros where the file has none."""
        return UnreadRows(self, "zero").read(start, stop)


def _load(path: str, params: FileParams, shape: tuple[int, int], loader: str) -> Any:
    """An array (observations, channels) whose memory order is the file's."""
    order = "C" if params.data_order == "samples" else "F"
    if loader == "python":
        return BinaryReader(path, params.dtype, shape, order)
    if loader == "memmap":
        return MemoryMap(path, params.dtype, mode="r", shape=shape, order=order)
    return np.fromfile(path, params.dtype).reshape(shape, order=order)  # type: ignore[call-overload]
