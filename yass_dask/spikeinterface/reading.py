"""Whatever SpikeInterface or neo can open, by the name of its format."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import spikeinterface.core as si
from spikeinterface.extractors import extractor_classes

from yass_dask.errors import InputError
from yass_dask.geometry import as_probe
from yass_dask.readers import from_spikeinterface

if TYPE_CHECKING:
    from yass_dask.config.reading import Reading
    from yass_dask.recording import Recording

GENERIC, OPEN_EPHYS = "spikeinterface", "openephys"
NEED_MORE = {"binary", "numpy", "ibl", "nwbtimeseries"}
"""Of SpikeInterface's readers: need more than a path, which the configuration file says, or nothing that is a path"""
SYNC = "SYNC"
"""Streams of this in their name hold the clock's pulses"""


def open_reading(reading: Reading, geometry: Any = None) -> Recording:
    """Open a recording by SpikeInterface.

    Parameters
    ----------
    reading : format, path, stream
    geometry : file, array or Probe in place of what the recording tells of its contacts

    Raises
    ------
    InputError
        An unknown format, a path that is not of that format, several streams and none chosen, no contact positions.
    """
    opened = _opened(reading)
    if geometry is None and not opened.has_channel_location():
        raise InputError(
            f"{reading.path}: does not say where its {opened.get_num_channels()} contacts lie: give --probe FILE "
            "(data.geometry), a probeinterface .json file or a .txt or .npy file of x, y in um, one channel a row"
        )
    found = from_spikeinterface(opened)
    return found if geometry is None else replace(found, probe=as_probe(geometry, found.n_channels))


def known_formats() -> dict[str, Callable[..., Any]]:
    """What can be opened by a path alone: SpikeInterface's name of the format, and what opens it."""
    classes = {
        made.__name__.replace("Recording", "").replace("Extractor", "").lower(): made
        for made in extractor_classes._recording_extractor_full_dict
    }
    return {name: made for name, made in sorted(classes.items()) if name not in NEED_MORE} | {GENERIC: si.load}


def _opened(reading: Reading) -> Any:
    known = known_formats()
    name = re.sub(r"[^a-z0-9]", "", reading.format.lower())
    if name == OPEN_EPHYS:
        name += "legacy" if any(reading.path.glob("*.continuous")) else "binary"
    if name not in known:
        raise InputError(
            f"{reading.format!r} is no format that SpikeInterface opens; known are {OPEN_EPHYS}, {', '.join(known)}"
        )
    opener = known[name]
    try:
        return opener(reading.path, **_stream(opener, reading))
    except InputError:
        raise
    except Exception as error:  # readers of forty formats raise whatever they like
        missing = f" (pip install {error.name})" if isinstance(error, ImportError) and error.name else ""
        raise InputError(
            f"{reading.path}: SpikeInterface cannot open it as {reading.format}: {type(error).__name__}: "
            f"{error}{missing}"
        ) from error


def _stream(opener: Any, reading: Reading) -> dict[str, Any]:
    """The argument that chooses one of several streams."""
    names, ids = _streams(opener, reading.path)
    argument = "electrical_series_path" if hasattr(opener, "fetch_available_electrical_series_paths") else "stream_id"
    by_word = dict(zip(ids, ids, strict=True)) | dict(zip(names, ids, strict=True))
    if reading.stream is None:
        signals = [word for word in names if SYNC not in word]
        if len(signals) > 1:
            raise InputError(
                f"{reading.path} has several streams: {', '.join(signals)}; choose one, "
                f"{reading.format}:{reading.path}#{signals[0]}"
            )
        return {argument: by_word[signals[0]]} if signals and len(names) > 1 else {}
    if reading.stream not in by_word:
        there = f"its streams are {', '.join(names)}" if names else f"{reading.format} has no streams"
        raise InputError(f"{reading.path}: no stream {reading.stream!r}; {there}")
    return {argument: by_word[reading.stream]}


def _streams(opener: Any, path: Path) -> tuple[list[str], list[str]]:
    """Names and ids of the streams of a file; none where its format has none."""
    if hasattr(opener, "fetch_available_electrical_series_paths"):
        paths = opener.fetch_available_electrical_series_paths(path)
        return paths, paths
    if hasattr(opener, "get_streams"):
        names, ids = opener.get_streams(path)
        return [str(name) for name in names], [str(one) for one in ids]
    return [], []
