"""Files of a sorting in its folder: each appears whole or not at all, and all are of one sort."""

from __future__ import annotations

import csv
import io
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.arrayfiles import read_npy, read_npz
from yass_dask.errors import InputError
from yass_dask.geometry import Probe

if TYPE_CHECKING:
    from yass_dask.sorting.sorting import Sorting

TRAIN_FILE, TEMPLATES_FILE, UNITS_FILE = "spike_train.npy", "templates.npy", "units.csv"
REST_FILE = "sorting.npz"
"""What the three files above lack; written last."""
AGAIN = "sort again, which writes it anew"
MAPPED_FROM = 2**20
"""Bytes of a file of templates from which on it is left on the disk"""
UNIT_COLUMNS = (
    "unit_id",
    "label",
    "origin",
    "why",
    "n_spikes",
    "rate_hz",
    "snr",
    "contamination",
    "peak_channel",
    "x_um",
    "y_um",
)
"""First columns of units.csv; a sort may add more."""


def write_sorting(sorting: Sorting, folder: Path) -> Path:
    """Write spike_train.npy, templates.npy, units.csv and, last, sorting.npz."""
    from yass_dask.store.disk import readable_errors

    folder.mkdir(parents=True, exist_ok=True)
    train = sorting.spike_train
    rest = _rest_of(sorting, train)
    with readable_errors(folder):
        replace_file(folder / TRAIN_FILE, lambda file: np.save(file, train))
        replace_file(folder / TEMPLATES_FILE, lambda file: _save_templates(file, sorting.templates))
        replace_file(folder / UNITS_FILE, lambda file: file.write(units_csv(sorting.units).encode()))
        replace_file(folder / REST_FILE, lambda file: np.savez_compressed(file, **rest))
    return folder


def read_sorting(folder: Path) -> dict[str, Any]:
    """Read what `write_sorting` wrote, as arguments of `Sorting`."""
    missing = [name for name in (TRAIN_FILE, TEMPLATES_FILE, REST_FILE) if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder}: no {', '.join(missing)}; give the output folder of a finished sort")
    train = read_npy(folder / TRAIN_FILE, AGAIN)
    templates = read_templates(folder)
    rest = read_npz(folder / REST_FILE, AGAIN)
    try:
        of_one_sort = int(rest["train_crc"]) == _crc(train) and len(templates) == len(rest["unit_ids"])
        found = _arguments(train, templates, rest, folder) if of_one_sort else {}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{folder / REST_FILE}: not what a sort writes ({error}); {AGAIN}") from None
    if not found:
        raise InputError(f"{folder}: {TRAIN_FILE} and {REST_FILE} are not of one sort; sort again")
    return found


def read_templates(folder: Path) -> np.ndarray:
    """Templates of the sorting in a folder; they stay on disk, unless they are small: what has no bytes has no map."""
    path = folder / TEMPLATES_FILE
    return read_npy(path, AGAIN, mmap_mode="r" if path.stat().st_size > MAPPED_FROM else None)


def _save_templates(file: Any, templates: Any) -> None:
    """As np.save does it, but one unit at a time: many are zero nearly everywhere, and are not held in full."""
    about = {"descr": "<f4", "fortran_order": False, "shape": tuple(templates.shape)}
    np.lib.format.write_array_header_1_0(file, about)
    for template in templates:
        file.write(np.ascontiguousarray(template, "<f4").tobytes())


def units_csv(units: list[dict[str, Any]]) -> str:
    """Audit table as CSV text: known columns first, then others as they come; no value is an empty cell."""
    others = dict.fromkeys(column for row in units for column in row if column not in UNIT_COLUMNS)
    text = io.StringIO()
    writer = csv.DictWriter(text, [*UNIT_COLUMNS, *others], lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: plain(value) for column, value in row.items()} for row in units)
    return text.getvalue()


def _rest_of(sorting: Sorting, train: np.ndarray) -> dict[str, Any]:
    """Fields of sorting.npz."""
    ids = sorting.channel_ids
    fields: dict[str, Any] = {
        "train_crc": _crc(train),
        "amplitudes": sorting.amplitudes,
        "unit_ids": sorting.unit_ids,
        "unit_locations": sorting.unit_locations,
        "units_json": json.dumps([{k: plain(v) for k, v in row.items()} for row in sorting.units]),
        "sampling_rate": sorting.sampling_rate,
        "n_samples": sorting.n_samples,
        "template_peak": sorting.template_peak,
        "positions": sorting.probe.positions,
        "shanks": sorting.probe.shanks,
        # objects would need pickles
        "channel_ids": ids.astype(str) if ids.dtype == object else ids,
    }
    if sorting.excluded_samples:
        fields["excluded_samples"] = np.array(sorting.excluded_samples, np.int64)
    optional = {"sample_shifts": sorting.probe.sample_shifts, "trace_gain": sorting.trace_gain}
    return fields | {name: value for name, value in optional.items() if value is not None}


def _arguments(train: np.ndarray, templates: np.ndarray, rest: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {
        "sample_index": train[:, 0],
        "unit_index": train[:, 1],
        "amplitudes": rest["amplitudes"],
        "templates": templates,
        "unit_ids": rest["unit_ids"],
        "unit_locations": rest["unit_locations"],
        "units": json.loads(str(rest["units_json"])),
        "sampling_rate": float(rest["sampling_rate"]),
        "n_samples": int(rest["n_samples"]),
        "template_peak": int(rest["template_peak"]),
        "probe": Probe(rest["positions"], rest["shanks"], rest.get("sample_shifts")),
        "channel_ids": rest["channel_ids"],
        "trace_gain": rest.get("trace_gain"),
        "excluded_samples": tuple((int(a), int(b)) for a, b in rest.get("excluded_samples", ())),
        "path": folder,
    }


def _crc(train: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(train).data)


def replace_file(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a file under another name, then put it in place at once."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def plain(value: Any) -> Any:
    """A number of numpy as one of Python; NaN (no value) as None."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value
