"""A folder curated in phy, read back: merges, splits and labels as a sorting of its own."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.arrayfiles import read_npy
from yass_dask.errors import InputError
from yass_dask.phy.averages import average_again
from yass_dask.preprocess import COUNTS_PER_SD
from yass_dask.results import VIOLATION_MS, contamination_of
from yass_dask.sorting import Sorting

GROUP_FILES = ("cluster_group.tsv", "cluster_info.tsv")
"""Where phy keeps the groups; the first one that is there counts."""
LOCATION_RADIUS_UM = 100.0
_ADVICE = "give the folder that phy was opened on"


@dataclass(frozen=True)
class Curated:
    """A cluster of phy."""

    unit: int
    """id in the new sorting"""
    spikes: np.ndarray
    """rows of the sorting's spikes"""
    sources: dict[int, int]
    """spikes by the unit they were of before"""
    label: str
    is_new: bool


def read_curated(sorting: Sorting, folder: str | Path) -> Sorting:
    """The sorting as it was left in phy.

    A cluster that was not touched keeps its unit's id; what was merged or split gets a new one, above all that were
    ever given, with templates, location and numbers measured again on the clean traces. Groups become labels. Units
    that are no more stay in the audit table, with what they went into.

    Parameters
    ----------
    sorting : the sorting that was exported, in the folder of its sort
    folder : the phy folder

    Raises
    ------
    InputError
        A file is missing or damaged, the folder is of another sorting, or the clean traces are needed and were not
        kept.
    """
    folder = Path(folder)
    clusters = _spike_clusters(sorting, folder)
    found = _curated(sorting, clusters, _groups(folder))
    changed = [one for one in found if one.is_new]
    templates = {one.unit: np.asarray(sorting.templates[_row(sorting, one.unit)]) for one in found if not one.is_new}
    if changed:
        averages = average_again(sorting, [one.spikes for one in changed])
        templates |= {one.unit: template for one, template in zip(changed, averages, strict=True)}
    units = np.empty(sorting.n_spikes, np.int64)
    for one in found:
        units[one.spikes] = one.unit
    stacked = np.stack([templates[one.unit] for one in found]) if found else np.asarray(sorting.templates)
    places = [
        _location(templates[one.unit], sorting) if one.is_new else sorting.unit_locations[_row(sorting, one.unit)]
        for one in found
    ]
    return replace(
        sorting,
        unit_index=units,
        templates=stacked,
        unit_ids=np.array([one.unit for one in found], np.int64),
        unit_locations=np.array(places).reshape(-1, 2),
        units=_audit(sorting, found, templates),
        path=None,
    )


def _spike_clusters(sorting: Sorting, folder: Path) -> np.ndarray:
    """(n_spikes,) cluster of each spike, of a folder that is this sorting's."""
    times, clusters = (_load(folder / name) for name in ("spike_times.npy", "spike_clusters.npy"))
    if not np.issubdtype(clusters.dtype, np.integer):
        raise InputError(f"{folder / 'spike_clusters.npy'} holds {clusters.dtype}, not numbers of clusters; {_ADVICE}")
    if len(times) != sorting.n_spikes or len(clusters) != len(times) or not np.array_equal(times, sorting.sample_index):
        raise InputError(
            f"{folder} holds {len(times)} spikes that are not those of the sort: export and curate that one"
        )
    return clusters.astype(np.int64)


def _load(path: Path) -> np.ndarray:
    return read_npy(path, _ADVICE).ravel()


def _groups(folder: Path) -> dict[int, str]:
    """Group of each cluster that has one."""
    path = next((folder / name for name in GROUP_FILES if (folder / name).is_file()), None)
    if path is None:
        raise InputError(f"{folder} has no {' or '.join(GROUP_FILES)}: save in phy first (Ctrl+S)")
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return {int(row["cluster_id"]): row["group"] for row in rows if row["group"]}
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path}: expected columns cluster_id and group, as phy writes them ({type(error).__name__}: {error})"
        ) from error


def _curated(sorting: Sorting, clusters: np.ndarray, groups: dict[int, str]) -> list[Curated]:
    """Clusters with spikes, by the id that their unit gets."""
    n_before = np.bincount(sorting.unit_rows, minlength=sorting.n_units)
    next_id = 1 + max([*sorting.unit_ids.tolist(), *(int(row["unit_id"]) for row in sorting.units)], default=-1)
    order = np.argsort(clusters, kind="stable")
    ids, starts = np.unique(clusters[order], return_index=True)
    found = []
    for cluster, spikes in zip(ids.tolist(), np.split(order, starts[1:]), strict=True):
        rows, counts = np.unique(sorting.unit_rows[spikes], return_counts=True)
        sources = dict(zip(sorting.unit_ids[rows].tolist(), counts.tolist(), strict=True))
        untouched = rows.tolist() == [cluster] and counts[0] == n_before[cluster]
        unit = int(sorting.unit_ids[cluster]) if untouched else next_id
        next_id += not untouched
        before = str(sorting.about(unit).get("label", "")) if untouched else "unsorted"
        found.append(Curated(unit, spikes, sources, groups.get(cluster, before), not untouched))
    return sorted(found, key=lambda one: one.unit)


def _row(sorting: Sorting, unit: int) -> int:
    return int(np.searchsorted(sorting.unit_ids, unit))


def _audit(sorting: Sorting, found: list[Curated], templates: dict[int, np.ndarray]) -> list[dict[str, Any]]:
    """Rows of the units before, changed where phy changed them, then those of the new ones."""
    kept = {one.unit: one for one in found}
    goes_into: dict[int, list[int]] = {}
    for one in found:
        for source in one.sources if one.is_new else ():
            goes_into.setdefault(source, []).append(one.unit)
    rows = []
    for row in sorting.units:
        unit = row.get("unit_id")
        if unit in kept and row.get("label") != kept[unit].label:
            row = row | {"label": kept[unit].label, "why": f"{row.get('why', '')}; labelled {kept[unit].label} in phy"}
        elif unit in goes_into:
            into = goes_into[unit]
            why = f"in phy its spikes went to units {', '.join(map(str, into))}"
            row = row | {"label": "", "state": "merged" if len(into) == 1 else "split", "why": why}
            row["merged_into"] = into[0] if len(into) == 1 else None
        rows.append(row)
    return rows + [_new_row(sorting, one, templates[one.unit]) for one in found if one.is_new]


def _new_row(sorting: Sorting, one: Curated, template: np.ndarray) -> dict[str, Any]:
    times = sorting.sample_index[one.spikes]
    refractory = round(VIOLATION_MS * sorting.sampling_rate / 1e3)
    contamination, violations = contamination_of(times, round(sorting.kept_s * sorting.sampling_rate), refractory, 0)
    names = ", ".join(map(str, one.sources))
    origin = f"merged in phy from units {names}"
    if len(one.sources) == 1:
        source = next(iter(one.sources))
        origin = f"split in phy from unit {source}: {len(times)} of its {len(sorting.times_of(source))} spikes"
    height = np.abs(template).max(axis=0)
    x, y = _location(template, sorting)
    row = {
        "unit_id": one.unit, "label": one.label, "origin": origin, "why": "so decided in phy", "state": "kept",
        "n_spikes": len(times), "rate_hz": len(times) / sorting.kept_s, "contamination": contamination,
        "violations": violations, "peak_channel": sorting.channel_ids[height.argmax()].item(), "x_um": x, "y_um": y,
        "height_uv": float(height.max()), "merged_into": None,
    }  # fmt: skip
    if sorting.trace_gain is not None:
        row["snr"] = float((height / (sorting.trace_gain * COUNTS_PER_SD)).max())
    return row


def _location(template: np.ndarray, sorting: Sorting) -> tuple[float, float]:
    """Centre of mass of the squared peak-to-peak amplitudes around the largest, um."""
    power, positions = np.ptp(template, axis=0).astype(np.float64) ** 2, sorting.probe.positions
    power *= np.linalg.norm(positions - positions[power.argmax()], axis=1) <= LOCATION_RADIUS_UM
    x, y = power @ positions / max(power.sum(), 1e-12)
    return float(x), float(y)
