"""Binary recordings: sizes, number types, headers, values, and files that change after they were opened."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from benchmarks.fuzz.damage import odd_scalars
from benchmarks.fuzz.ground import attempt, listing
from yass_dask import read_binary

DTYPES = ("int16", ">i2", "<u2", "int8", "uint8", "int32", "uint64", "float16", "float32", "float64", ">f8", "int17",
          "bool", "complex64", "U2", "O", "M8[s]", "i2,i2", "", "f4,")  # fmt: skip
SIZES = st.one_of(st.integers(0, 64), st.sampled_from((0, 1, 3, 4097)), st.sampled_from((480, 2400, 9600, 30_000)))
MOSTLY = 8
"""One value in so many is odd."""


def mostly(good: st.SearchStrategy[Any], odd: st.SearchStrategy[Any] = odd_scalars) -> st.SearchStrategy[Any]:
    """Good values, and odd ones now and then."""
    return st.integers(0, MOSTLY - 1).flatmap(lambda turn: odd if turn == 0 else good)


class Binaries:
    """A case is one or two files, what is said of them, and what happens to the last one after it was opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.seen = 0

    def cases(self) -> st.SearchStrategy[Any]:
        about = st.fixed_dictionaries({
            "dtype": mostly(st.sampled_from(DTYPES)),
            "n_channels": mostly(st.integers(1, 5)),
            "sampling_rate": mostly(st.sampled_from((30000, 20000.0, 100))),
            "order": mostly(st.sampled_from(("samples", "channels"))),
            "offset": mostly(st.integers(0, 20)),
            "gain_to_uv": mostly(st.sampled_from((None, 0.2, 1)), odd_scalars | st.lists(odd_scalars, max_size=4)),
        })  # fmt: skip
        files = st.lists(st.tuples(SIZES, st.integers(0, 2**32)), min_size=1, max_size=2)
        later = st.sampled_from(("", "", "cut", "gone", "folder", "longer"))
        span = st.tuples(st.integers(0, 30), st.integers(0, 30))
        return st.tuples(files, about, later, span)

    def check(self, case: tuple[list[tuple[int, int]], dict[str, Any], str, tuple[int, int]]) -> bool:
        files, about, later, span = case
        paths = [self.folder / f"{index}.bin" for index in range(len(files))]
        for path, (size, seed) in zip(paths, files, strict=True):
            path.write_bytes(np.random.default_rng(seed).bytes(size))
        try:
            return attempt(lambda: self.used(paths, about, later, span))
        finally:
            _happens("gone", paths[-1])

    def used(self, paths: list[Path], about: dict[str, Any], later: str, span: tuple[int, int]) -> None:
        """Open, look at, read."""
        recording = read_binary(paths, **about)
        repr(recording), recording.chunks
        if not later:
            recording.identity()
        _happens(later, paths[-1])
        start = min(span[0], recording.n_samples)
        stop = min(start + span[1], recording.n_samples)
        read = recording.source.read(start, stop)
        assert read.shape == (stop - start, recording.n_channels)
        assert read.dtype == recording.dtype
        recording.slice_time(start / recording.sampling_rate, None)

    def close(self) -> None:
        """Nothing was written."""
        assert set(listing(self.folder)) <= {"0.bin"}


def _happens(what: str, path: Path) -> None:
    """Something to a file."""
    if what == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    elif what == "longer":
        path.write_bytes(path.read_bytes() + b"x")
    elif what in ("gone", "folder"):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if what == "folder":
            path.mkdir()
