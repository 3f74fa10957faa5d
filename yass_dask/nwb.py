"""A sorting as the Units table of an NWB file, by pynwb."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.errors import InputError
from yass_dask.store import store_of

if TYPE_CHECKING:
    from yass_dask.sorting import Sorting

COLUMNS = {
    "label": "what the sorter or whoever curated it calls the unit: good, mua or noise",
    "snr": "height of the template over the noise's standard deviation, on its largest channel",
    "contamination": "estimated share of spikes that are not the unit's",
    "expected_accuracy": "share of its spikes expected to be right and found",
    "origin": "how the unit began",
    "why": "why the unit was kept as it is",
}
"""Columns of the audit table that the file gets, where the sorting has them, and what they mean."""
UV_IN_VOLTS = 1e-6


def write_nwb(
    sorting: Sorting, path: str | Path, session_start: str | datetime, *, location: str = "unknown", **session: Any
) -> Path:
    """Write a new NWB file with the units, their templates, and the electrodes.

    Spike times are seconds from the recording's first sample. Templates are written where its gain is known.

    Parameters
    ----------
    session_start : date and time, with its time zone, of the recording's first sample; NWB demands it
    location : part of the brain where the electrodes are
    session : further fields of `pynwb.NWBFile`, such as session_description, identifier, experimenter; subject may be
        a mapping of the fields of `pynwb.file.Subject`

    Raises
    ------
    InputError
        pynwb is not installed, the date has no time zone or is none, or pynwb refuses a field.
    """
    try:
        import pynwb
    except ImportError as error:
        raise InputError("NWB files need pynwb, which is not installed; pip install 'yass-dask[nwb]'") from error
    about = {
        "session_description": f"spikes sorted by yass_dask {version('yass-dask')}",
        "identifier": str(uuid.uuid4()),
    }
    start = _date(session_start)
    try:
        if isinstance(session.get("subject"), Mapping):
            session["subject"] = pynwb.file.Subject(**session["subject"])
        file = pynwb.NWBFile(session_start_time=start, **(about | session))
    except (TypeError, ValueError) as error:
        raise InputError(f"NWB: {error}") from error
    electrodes = _add_electrodes(file, sorting, location)
    _add_units(file, sorting, electrodes)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.stem}.part.nwb")
    with pynwb.NWBHDF5IO(str(part), "w") as opened:
        opened.write(file)
    part.replace(target)
    return target


def _date(given: str | datetime) -> datetime:
    try:
        date = datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError as error:
        raise InputError(f"session start {given!r}: give a date such as 2026-05-01T14:30:00+02:00") from error
    if not isinstance(date, datetime):
        raise InputError(f"session start {given!r}: give date, time and time zone, such as 2026-05-01T14:30:00+02:00")
    if date.tzinfo is None:
        raise InputError(f"session start {given}: give its time zone, as in {date.isoformat()}+02:00")
    return date


def _add_electrodes(file: Any, sorting: Sorting, location: str) -> list[int]:
    """An electrode a channel, a group a shank; rows of the table."""
    device = file.create_device(name="probe", description=repr(sorting.probe))
    shanks = np.unique(sorting.probe.shanks)
    groups = {
        shank: file.create_electrode_group(
            name=f"shank{shank}", description=f"shank {shank} of the probe", location=location, device=device
        )
        for shank in shanks.tolist()
    }
    file.add_electrode_column(name="channel_name", description="name of the channel in the recording")
    for channel, (x, y) in enumerate(sorting.probe.positions.tolist()):
        group = groups[int(sorting.probe.shanks[channel])]
        name = str(sorting.channel_ids[channel])
        file.add_electrode(rel_x=x, rel_y=y, location=location, group=group, channel_name=name)
    return list(range(sorting.n_channels))


def _add_units(file: Any, sorting: Sorting, electrodes: list[int]) -> None:
    rows = [sorting.about(unit) for unit in sorting.unit_ids.tolist()]
    columns = {name: words for name, words in COLUMNS.items() if any(row.get(name) is not None for row in rows)}
    for name, words in columns.items():
        file.add_unit_column(name=name, description=words)
    store = store_of(sorting.path)
    in_uv = store is not None and store.recording().get("gain_to_uv") is not None
    for row, unit in enumerate(sorting.unit_ids.tolist()):
        times = sorting.times_of(unit) / sorting.sampling_rate
        told = {name: _value(rows, rows[row].get(name), name) for name in columns}
        if in_uv:
            told["waveform_mean"] = np.asarray(sorting.templates[row]) * UV_IN_VOLTS
        whole = [[0.0, sorting.duration_s]]
        file.add_unit(id=unit, spike_times=times, obs_intervals=whole, electrodes=electrodes, **told)
    if file.units is not None:
        file.units.resolution = 1 / sorting.sampling_rate
        file.units.waveform_rate = sorting.sampling_rate if in_uv else None


def _value(rows: list[dict[str, Any]], value: Any, name: str) -> Any:
    """A column is of one type: of numbers what has none is NaN, of texts empty."""
    if value is not None:
        return value
    return "" if any(isinstance(row.get(name), str) for row in rows) else np.nan
