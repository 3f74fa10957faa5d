"""Arrays of numpy, dask and SpikeInterface."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from dask.base import tokenize

from yass_dask.sources.protocol import check_dtype, check_shape, describe, fill


@dataclass(frozen=True, eq=False)
class ArraySource:
    """An array in memory, sent to worker processes as it is: meant for short recordings."""

    array: np.ndarray
    token: str = field(init=False)
    """Names this handle in graphs: hashing a large array for every graph would be slow."""

    def __post_init__(self) -> None:
        check_shape(self.array.shape, "array")
        check_dtype(self.array.dtype, "array")
        fill(self, token=uuid.uuid4().hex)

    @property
    def shape(self) -> tuple[int, int]:
        return (self.array.shape[0], self.array.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype.newbyteorder("=")

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.array(self.array[start:stop], dtype=self.dtype, order="C")

    def identity(self) -> dict[str, Any]:
        return {"kind": "array", **describe(self, whole=True)}

    def __sizeof__(self) -> int:
        # dask puts what is large into the graph once, not once a task.
        return object.__sizeof__(self) + int(self.array.nbytes)

    def __dask_tokenize__(self) -> str:
        return tokenize("ArraySource", self.token)


@dataclass(frozen=True, eq=False)
class DaskSource:
    """A dask array (n_samples, n_channels), computed by the same graph that uses it.

    Its identity is its name, so give `dask.array.from_array` data that dask can hash, or a name.
    """

    array: Any

    def __post_init__(self) -> None:
        check_shape(self.array.shape, "dask array")
        dtype = check_dtype(self.array.dtype, "dask array").newbyteorder("=")
        fill(self, array=self.array.astype(dtype))

    @property
    def shape(self) -> tuple[int, int]:
        return (int(self.array.shape[0]), int(self.array.shape[1]))

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.asarray(self.array[start:stop].compute(scheduler="sync"))

    def identity(self) -> dict[str, Any]:
        return {"kind": "dask", "name": self.array.name, "shape": list(self.shape), "dtype": self.dtype.str}

    def __dask_tokenize__(self) -> str:
        return tokenize("DaskSource", self.array.name)


@dataclass(frozen=True, eq=False)
class SpikeInterfaceSource:
    """One segment of a SpikeInterface recording, read by `get_traces`."""

    recording: Any
    segment_index: int = 0
    shape: tuple[int, int] = field(init=False)
    dtype: np.dtype[Any] = field(init=False)
    token: str = field(init=False)

    def __post_init__(self) -> None:
        n_samples = int(self.recording.get_num_samples(segment_index=self.segment_index))
        shape = (n_samples, int(self.recording.get_num_channels()))
        check_shape(shape, f"SpikeInterface recording, segment {self.segment_index}")
        dtype = check_dtype(self.recording.get_dtype(), "SpikeInterface recording").newbyteorder("=")
        fill(self, shape=shape, dtype=dtype, token=uuid.uuid4().hex)

    def read(self, start: int, stop: int) -> np.ndarray:
        traces = self.recording.get_traces(
            segment_index=self.segment_index, start_frame=int(start), end_frame=int(stop)
        )
        return np.array(traces, dtype=self.dtype, order="C")

    def identity(self) -> dict[str, Any]:
        kind = type(self.recording).__name__
        return {"kind": "spikeinterface", "name": kind, "segment": self.segment_index, **describe(self)}

    def __dask_tokenize__(self) -> str:
        return tokenize("SpikeInterfaceSource", self.token)
