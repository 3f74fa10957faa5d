"""The stability of a sort's units, kept beside the sort."""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from yass_dask.errors import InputError
from yass_dask.store.disk import read_json, readable_errors, write_json, write_whole

if TYPE_CHECKING:
    from yass_dask.sorting import Sorting

TABLE_FILE, RECORD_FILE = "stability.csv", "stability.json"
COLUMNS = ("unit_id", "moved", "n_spikes", "stability", "false_positives", "added_found")


class Stability(NamedTuple):
    """What `stability` found, and how the recording was perturbed."""

    rows: list[dict[str, Any]]
    """See `stability`"""
    how: dict[str, Any]
    """`rate`, `moved_share`, `seed`"""

    def of(self, unit_id: int) -> dict[str, Any]:
        """Row of a unit where it lies; empty where there is none."""
        return next((row for row in self.rows if row["unit_id"] == unit_id and not row["moved"]), {})


def write_stability(sorting: Sorting, rows: Sequence[dict[str, Any]], **how: Any) -> Path:
    """Write stability.csv into the sorting's folder, and stability.json, by which its report knows that it is its own.

    Parameters
    ----------
    rows : what `stability` gave
    how : how the recording was perturbed: rate, moved_share, seed

    Raises
    ------
    InputError
        The sorting lies in no folder, or this cannot be written to.
    """
    if sorting.path is None:
        raise InputError("this sorting lies in no folder: write it first, sorting.write(folder)")
    folder, text = Path(sorting.path), io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with readable_errors(folder):
        write_whole(folder / TABLE_FILE, lambda file: file.write(text.getvalue().encode()), folder)
        write_json(folder / RECORD_FILE, {"spikes": _checksum(sorting), "how": how, "rows": list(rows)})
    return folder / TABLE_FILE


def read_stability(sorting: Sorting) -> Stability | None:
    """The stability that was written for these very spikes, or None."""
    stored = {} if sorting.path is None else read_json(Path(sorting.path) / RECORD_FILE)
    if stored.get("spikes") != _checksum(sorting):
        return None
    return Stability(stored["rows"], stored["how"])


def _checksum(sorting: Sorting) -> int:
    return zlib.crc32(np.ascontiguousarray(sorting.spike_train).tobytes())
