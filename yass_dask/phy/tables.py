"""Tables of clusters: what phy shows beside each one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from yass_dask.sorting import Sorting

COLUMNS = {
    "group": "label",
    "yass_label": "label",
    "unit_id": "unit_id",
    "snr": "snr",
    "contamination": "contamination",
    "rate_hz": "rate_hz",
    "peak_channel": "peak_channel",
    "why": "why",
}
"""Column in phy: column of the audit table. A user changes the group; the label stays the sorter's."""


def write_tables(sorting: Sorting, folder: Path) -> None:
    """Write cluster_<column>.tsv for each column; clusters without a value are left out."""
    rows = [
        {"unit_id": unit, "rate_hz": _rate(sorting, unit)} | sorting.about(unit) for unit in sorting.unit_ids.tolist()
    ]
    for name, column in COLUMNS.items():
        lines = [f"cluster_id\t{name}"]
        lines += [f"{k}\t{_cell(row[column])}" for k, row in enumerate(rows) if _cell(row.get(column))]
        (folder / f"cluster_{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rate(sorting: Sorting, unit_id: int) -> float:
    return len(sorting.times_of(unit_id)) / sorting.kept_s


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return ""
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return str(value).replace("\t", " ").replace("\n", " ")
