"""The page: what there is to tell, put together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.errors import InputError
from yass_dask.report import sections
from yass_dask.report.units import UnitNumbers, numbers_of

if TYPE_CHECKING:
    from yass_dask.evaluate.stored import Stability
    from yass_dask.motion.displacement import Motion
    from yass_dask.report.sampled import Sampled
    from yass_dask.sorting import Sorting

FILES = Path(__file__).parent / "page"
REPORT_FILE = "report.html"
N_LOCAL = 6
"""Channels on which a unit's waveform is drawn"""
MOST_BYTES = 9_900_000
"""Of the page; units whose cards would make it larger are in the table only"""


@dataclass(frozen=True)
class Findings:
    """All that a report tells."""

    sorting: Sorting
    units: list[UnitNumbers]
    channels: np.ndarray
    """(n_units, n_local) channels on which each unit is drawn"""
    seen: Sampled | None
    """None where the clean traces were not kept"""
    why_unseen: str
    word: str
    """unit of the templates"""
    stages: dict[str, dict[str, Any]]
    metadata: dict[str, Any]
    config: str
    motion: Motion | None
    """None where it was not looked for"""
    stability: Stability | None
    """None where it was not measured"""


def write_report(sorting: Sorting, path: str | Path | None = None) -> Path:
    """Write a sorting's report, by default as report.html into the folder it was opened from.

    Returns
    -------
    Path of the page.

    Raises
    ------
    InputError
        The sorting was never written and no path is given; or the file cannot be written.
    """
    from yass_dask.store.disk import readable_errors, write_whole

    if path is None and sorting.path is None:
        raise InputError("this sorting lies in no folder: say where the report goes, report('report.html')")
    target = Path(path) if path is not None else Path(str(sorting.path)) / REPORT_FILE
    page = html_report(sorting).encode()
    with readable_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, lambda file: file.write(page), target.parent)
    return target


def html_report(sorting: Sorting) -> str:
    """The page as text: no scripts, fonts or pictures from elsewhere.

    What needs the clean traces (spread of waveforms, raster, residual) is measured on blocks spread over the recording,
    and left out, with a line that says so, where they were not kept.
    """
    findings = gather(sorting)
    style, script = ((FILES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    above = [
        sections.head(findings, f"{datetime.now():%Y-%m-%d %H:%M}"),
        sections.whole(findings),
        sections.moved(findings),
        sections.residual(findings),
        sections.table(findings),
    ]
    below = [sections.gone(findings), sections.run(findings)]
    left = MOST_BYTES - sum(len(part.encode()) for part in (style, script, *above, *below))
    body = "\n".join([*above, sections.cards(findings, left), *below])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Sorting report</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{style}</style></head>\n<body>{body}<script>{script}</script></body></html>\n"
    )


def gather(sorting: Sorting) -> Findings:
    """Measure and read what the report tells."""
    from yass_dask.config import text
    from yass_dask.evaluate.stored import read_stability
    from yass_dask.motion.displacement import Motion
    from yass_dask.report.sampled import look, main_channels
    from yass_dask.results import MOTION_FOLDER
    from yass_dask.store import store_of

    store = store_of(sorting.path)
    seen, why = None, "the sorting lies in no folder of a sort"
    if store is not None:
        try:
            seen = look(sorting, store, N_LOCAL)
        except InputError as error:
            why = str(error)
    channels = main_channels(sorting, N_LOCAL)
    folder = None if store is None else store.path
    metadata = folder / "metadata.yaml" if folder else None
    config = folder / "config.yaml" if folder else None
    gain = None if store is None else store.recording().get("gain_to_uv")
    moved = folder / MOTION_FOLDER if folder else None
    return Findings(
        sorting=sorting,
        units=numbers_of(sorting, channels),
        channels=channels,
        seen=seen,
        why_unseen=why,
        word="counts" if gain is None else "uV",
        stages={} if store is None else store.timings(),
        metadata=text.read_mapping(metadata) if metadata and metadata.is_file() else {},
        config=config.read_text(encoding="utf-8") if config and config.is_file() else "",
        motion=Motion.load(moved) if moved and moved.is_dir() else None,
        stability=read_stability(sorting),
    )
