"""A sorting as tables of pandas, and as the npz file that SpikeInterface reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.errors import InputError
from yass_dask.sorting.files import replace_file

if TYPE_CHECKING:
    from yass_dask.sorting.sorting import Sorting


def spikes_table(sorting: Sorting) -> Any:
    """Data frame with a row for each spike: sample_index, time_s, unit_id, amplitude."""
    columns = {
        "sample_index": sorting.sample_index,
        "time_s": sorting.sample_index / sorting.sampling_rate,
        "unit_id": sorting.unit_index,
        "amplitude": sorting.amplitudes,
    }
    return _pandas().DataFrame(columns)


def units_table(sorting: Sorting) -> Any:
    """Data frame with a row for each unit that stands, by its id: columns of the audit table, and its location."""
    rows = [sorting.about(unit) for unit in sorting.unit_ids.tolist()]
    located = [row | {"x_um": x, "y_um": y} for row, (x, y) in zip(rows, sorting.unit_locations, strict=True)]
    index = _pandas().Index(sorting.unit_ids, name="unit_id")
    return _pandas().DataFrame(located, index=index).drop(columns="unit_id", errors="ignore")


def write_npz(sorting: Sorting, path: Path) -> Path:
    """Write what `spikeinterface.extractors.read_npz_sorting` reads: spikes of one segment, units, sampling rate."""
    fields: dict[str, Any] = {
        "unit_ids": sorting.unit_ids,
        "num_segment": np.array([1], dtype="int64"),
        "sampling_frequency": np.array([sorting.sampling_rate], dtype="float64"),
        "spike_indexes_seg0": sorting.sample_index,
        "spike_labels_seg0": sorting.unit_index,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda file: np.savez(file, **fields))
    return path


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise InputError("tables need pandas, which is not installed; pip install pandas") from error
    return pandas
