"""Zarr arrays of others, and output folders whose files came to harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
from hypothesis import strategies as st

from benchmarks.fuzz.damage import changed, changes, hurt, wounds
from benchmarks.fuzz.finished import Finished
from benchmarks.fuzz.ground import attempt, listing
from yass_dask import Sorting, read_zarr
from yass_dask.commands import run_info
from yass_dask.commands.tools import clean_of_sort
from yass_dask.store import Store

ROWS, CHANNELS, CHUNK = 100, 4, 30
TRACES = np.arange(ROWS * CHANNELS, dtype=np.int16).reshape(ROWS, CHANNELS)
FINAL = ("spike_train.npy", "templates.npy", "sorting.npz", "units.csv", "config.yaml", "metadata.yaml", "yass.json")
"""Files of a finished sort that are looked at by the commands that come after it"""


class Stores:
    """A case hurts the description or a chunk of a zarr array, or a file of a finished sort."""

    def __init__(self, folder: Path) -> None:
        self.array = folder / "array.zarr"
        self.array.mkdir(parents=True)
        codec = numcodecs.Blosc(cname="lz4", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)
        self.about = {
            "zarr_format": 2, "shape": [ROWS, CHANNELS], "chunks": [CHUNK, CHANNELS], "dtype": "<i2", "order": "C",
            "compressor": codec.get_config(), "fill_value": 0, "filters": None, "dimension_separator": ".",
        }  # fmt: skip
        self.good = {".zarray": json.dumps(self.about).encode(), ".zattrs": b"{}"}
        for index in range(-(-ROWS // CHUNK)):
            rows = np.zeros((CHUNK, CHANNELS), np.int16)
            given = TRACES[index * CHUNK : (index + 1) * CHUNK]
            rows[: len(given)] = given
            self.good[f"{index}.0"] = codec.encode(rows)
        self.write(self.array, self.good)
        self.sorted = Finished(folder / "sorted")

    def write(self, folder: Path, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            (folder / name).write_bytes(data)

    def cases(self) -> st.SearchStrategy[Any]:
        chunk = st.sampled_from([name for name in self.good if name[0].isdigit()])
        return st.one_of(
            st.tuples(st.just("description"), st.just(".zarray"), changes | wounds),
            st.tuples(st.just("chunk"), chunk, wounds | st.none()),
            st.tuples(st.just("result"), st.sampled_from(FINAL), wounds | st.none()),
        )

    def check(self, case: tuple[str, str, Any]) -> bool:
        what, name, harm = case
        if what == "result":
            return self.sorted.hurt(name, harm, self.looked_at)
        path = self.array / name
        if harm is None:
            path.unlink()
        elif harm and not hasattr(harm[0], "what"):
            path.write_text(json.dumps(changed(self.about, harm), default=str), encoding="utf-8")
        else:
            path.write_bytes(hurt(self.good[name], harm))
        before = listing(self.array)
        try:
            return attempt(self.read)
        finally:
            assert listing(self.array) == before
            path.write_bytes(self.good[name])

    def read(self) -> None:
        """All that there is of a moderate array."""
        recording = read_zarr(self.array, 30000.0)
        repr(recording), recording.chunks
        recording.source.read(10, 20)
        if recording.n_samples * recording.n_channels < 1e7:
            recording.identity()
            recording.source.read(0, recording.n_samples)

    def looked_at(self, out: Path) -> None:
        """What the commands after a sort do before they write; each may refuse by itself."""
        looks: tuple[Callable[[], object], ...] = (
            lambda: _tables(Sorting.open(out)), lambda: clean_of_sort(out), lambda: run_info(out / "config.yaml"),
            lambda: [Store(out).open(stage) for stage in Store(out).stages()], lambda: Store(out).params_of("detect"),
        )  # fmt: skip
        taken = [attempt(look) for look in looks]
        if not all(taken):
            attempt_again = looks[taken.index(False)]
            attempt_again()  # raises: the case counts as refused

    def close(self) -> None:
        """Everything is as it was."""
        assert {name: (self.array / name).read_bytes() for name in self.good} == self.good
        self.sorted.check_whole()


def _tables(sorting: Sorting) -> None:
    repr(sorting), sorting._repr_html_(), sorting.spikes_table(), sorting.units_table()
    np.asarray(sorting.templates).sum()
    for unit in sorting.unit_ids.tolist():
        sorting.times_of(unit), sorting.about(unit)
