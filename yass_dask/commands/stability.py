"""`yass stability`: perturb the recording by its own units, sort it again, match."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yass_dask.commands.sorting import (
    CONFIG_FILE,
    METADATA_FILE,
    RECORDED_OPTIONS,
    Checked,
    SortOptions,
    call_sort,
    check,
    planned,
)
from yass_dask.errors import InputError

if TYPE_CHECKING:
    from yass_dask.recording import Recording
    from yass_dask.sorting import Sorting
    from yass_dask.store import Store

FOLDER = "stability"
"""Of the perturbed recording's sort, in that of the sort"""
STABLE = 0.9


def run_stability(
    out: Path, *, rate: float, moved_share: float, seed: int, workers: int | None = None,
    scheduler: str | None = None, progress: bool = True,
) -> str:  # fmt: skip
    """Measure the stability of the sort in `out`, as it was sorted; the table goes into it.

    Raises
    ------
    InputError
        It was not sorted by `yass sort`, its recording is not where it was, or it has no unit.
    """
    from yass_dask.evaluate import stability
    from yass_dask.evaluate.stored import write_stability
    from yass_dask.sorting import Sorting
    from yass_dask.store import Store

    sorting = Sorting.open(out)
    job = check(_options_of(out, workers, scheduler, progress))
    how: dict[str, Any] = {"rate": rate, "moved_share": moved_share, "seed": seed}
    rows = stability(job.recording, sorting, lambda other: _sort_again(job, other, Store(out / FOLDER)), **how)
    path = write_stability(sorting, rows, **how)
    return f"{_table(rows)}\n{_said(rows)}: {path}; yass report shows it"


def _options_of(out: Path, workers: int | None, scheduler: str | None, progress: bool) -> SortOptions:
    """As the sort was run."""
    from yass_dask.config import text

    if not (out / CONFIG_FILE).is_file():
        raise InputError(
            f"{out} has no {CONFIG_FILE}: it was not sorted by yass sort; in Python, "
            "yass_dask.evaluate.stability(recording, sorting, sort) takes any sort"
        )
    ran: dict[str, Any] = text.read_mapping(out / METADATA_FILE).get("options") or {}
    known = {name: ran[name] for name in RECORDED_OPTIONS if ran.get(name) is not None}
    return SortOptions(config=out / CONFIG_FILE, workers=workers, scheduler=scheduler, progress=progress, **known)


def _sort_again(job: Checked, perturbed: Recording, store: Store) -> Sorting:
    """Sort the perturbed recording; its traces are not kept."""
    from yass_dask.logs import logging_to
    from yass_dask.monitor import progress
    from yass_dask.needs import disk_bytes
    from yass_dask.store.recipe import plain

    if store.recording() and store.recording()["source"] != plain(perturbed.identity())["source"]:
        store.clean()  # it was perturbed otherwise
    job = replace(job, recording=perturbed)
    plan, needs = planned(job)
    store.check_space(disk_bytes(needs))
    shown = progress.choose(silent=not job.options.progress)
    try:
        with store.lock(), logging_to(store.path, "WARNING"):
            sorting = call_sort(job, store, plan, shown)
    finally:
        shown.close()
    store.drop_traces()
    return sorting


def _table(rows: list[dict[str, Any]]) -> str:
    """A line for each unit."""
    lines = ["unit      spikes  stable  foreign  added found"]
    for row in rows:
        added = "" if row["added_found"] is None else f"{row['added_found']:.0%}"
        name = f"{row['unit_id']}{' moved' if row['moved'] else ''}"
        lines.append(f"{name:<9}{row['n_spikes']:>7}{row['stability']:>8.0%}{row['false_positives']:>9.0%}{added:>13}")
    return "\n".join(lines)


def _said(rows: list[dict[str, Any]]) -> str:
    own = [row for row in rows if not row["moved"]]
    stable = sum(row["stability"] >= STABLE for row in own)
    return f"{stable} of {len(own)} units are found again with {STABLE:.0%} of their spikes or more"
