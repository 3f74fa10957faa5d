"""What a source is, what it may hold, and how it is recognised again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from yass_dask.errors import InputError

PIECE_BYTES = 65_536
N_PIECES = 16


class Source(Protocol):
    """What a Recording reads from."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n_samples, n_channels)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """What `read` gives, in the machine's byte order."""

    def identity(self) -> dict[str, Any]:
        """Describe the data, JSON-able: equal descriptions mean equal data."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read samples [start, stop), within the recording: a new (stop - start, n_channels) array."""


def check_dtype(dtype: Any, where: str) -> np.dtype[Any]:
    """Give the numpy dtype of a name, or refuse what is not a real number."""
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: unknown dtype {dtype!r}; give a numpy name such as 'int16'") from error
    if dtype is None or found.kind not in "iuf":
        raise InputError(f"{where}: dtype must be an integer or a float type such as 'int16', found {dtype!r}")
    return found


def check_shape(shape: Sequence[Any], where: str) -> None:
    """Refuse what is not (n_samples, n_channels) with at least one of each."""
    if len(shape) != 2:
        raise InputError(f"{where}: expected two dimensions (samples, channels), found shape {tuple(shape)}")
    if any(n != n for n in shape):
        raise InputError(f"{where}: the length is not known; call compute_chunk_sizes() on the dask array first")
    if not all(isinstance(n, int | float | np.integer) for n in shape) or min(shape) < 1:
        raise InputError(f"{where}: empty, shape (samples, channels) is {tuple(shape)}")


def fill(handle: Any, **values: Any) -> None:
    """Set fields of a frozen handle while it is being made."""
    for name, value in values.items():
        object.__setattr__(handle, name, value)


def describe(source: Source, *, whole: bool = False) -> dict[str, Any]:
    """Give shape, dtype and a checksum of a source, of pieces spread over it or of the whole of it."""
    row_bytes = source.shape[1] * source.dtype.itemsize
    rows = max(1, PIECE_BYTES // row_bytes)
    steps = range(0, source.shape[0], rows)
    pieces = [(a, min(a + rows, source.shape[0])) for a in steps] if whole else spread(source.shape[0], rows)
    checksum = checksum_of(lambda start, stop: source.read(start, stop).tobytes(), pieces)
    return {"shape": list(source.shape), "dtype": source.dtype.str, "checksum": checksum}


def spread(length: int, piece: int) -> list[tuple[int, int]]:
    """Give stretches spread evenly over a length, the first and the last included."""
    starts = np.unique(np.linspace(0, max(0, length - piece), N_PIECES).astype(np.int64))
    return [(int(start), min(int(start) + piece, length)) for start in starts]


def checksum_of(read: Callable[[int, int], bytes], pieces: Sequence[tuple[int, int]]) -> str:
    digest = hashlib.sha256()
    for start, stop in pieces:
        digest.update(read(start, stop))
    return digest.hexdigest()
