"""A configuration whose recording SpikeInterface opens: what it says of itself is not asked for again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import field_validator

from yass_dask.config.models import Config, Data, Name, Positive, Recordings
from yass_dask.config.problems import shown
from yass_dask.errors import InputError

if TYPE_CHECKING:
    from yass_dask.recording import Recording


class Reading(NamedTuple):
    """What is opened: FORMAT:PATH, or FORMAT:PATH#STREAM where the file has several."""

    format: str
    path: Path
    stream: str | None

    @classmethod
    def parse(cls, words: str, folder: Path) -> Reading:
        """Take FORMAT:PATH[#STREAM] apart; a relative path starts at `folder`.

        Raises
        ------
        InputError
            It is of another form, or there is no such path.
        """
        kind, colon, rest = words.partition(":")
        if not (kind and colon and rest):
            raise InputError(f"{words!r} is not FORMAT:PATH, such as spikeglx:/data/run1_g0")
        whole = folder / Path(rest).expanduser()
        place, sharp, stream = rest.rpartition("#")
        if sharp and not whole.exists():
            whole = folder / Path(place).expanduser()
        else:
            stream = ""
        if not whole.exists():
            raise InputError(f"{words}: no such file or folder: {whole}")
        return cls(kind, whole, stream or None)


class ReadData(Data):
    """Where the input lies, of a recording that SpikeInterface opens."""

    read: Name
    """FORMAT:PATH[#STREAM] of what SpikeInterface opens, in place of recordings"""
    recordings: tuple[Name, ...] = ()
    geometry: Name | None = None  # type: ignore[assignment]
    """contact positions in place of those that the recording tells"""

    @field_validator("recordings", mode="before")
    @classmethod
    def _either(cls, names: Any) -> Any:
        if names:
            raise ValueError("give read or recordings, not both")
        return ()


class ReadRecordings(Recordings):
    """What else is to be known of the recording."""

    spatial_radius: Positive | None = None  # type: ignore[assignment]
    """channels up to this distance (um) are neighbours; by default as the stages' params say"""
    spike_size_ms: Positive | None = None  # type: ignore[assignment]
    """temporal length of a waveform in ms; by default as the stages' params say"""


class ReadConfig(Config):
    """A configuration with `data.read` in place of `data.recordings`."""

    data: ReadData
    """where the input lies"""
    recordings: ReadRecordings
    """what the recording holds"""

    @property
    def recording_paths(self) -> list[Path]:
        """What SpikeInterface opens."""
        return [Reading.parse(self.data.read, self.root).path]

    def recording(self) -> Recording:
        """Open the recording: nothing is read but headers and the probe."""
        from yass_dask.config.files import with_left_out

        opened = _opened(self.data.read, self.root, self.data.geometry)
        if self.recordings.gain_to_uv is not None:
            opened = replace(opened, gain_to_uv=np.broadcast_to(self.recordings.gain_to_uv, opened.n_channels))
        return with_left_out(opened, self.recordings)


def refuse_unknown_waveforms(config: Config) -> None:
    """InputError where the configuration does not say how far and how long a waveform reaches: YASS's steps ask."""
    about = config.recordings
    missing = [name for name in ("spatial_radius", "spike_size_ms") if getattr(about, name) is None]
    if missing:
        named = " and ".join(f"recordings.{name}" for name in missing)
        raise InputError(f"YASS's steps and their files need {named}: add them to the configuration")


def filled_in(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The configuration with what its recording tells of itself, and what of this is there otherwise.

    Parameters
    ----------
    raw : sections as given, with a `data.read`; the root folder is absolute

    Raises
    ------
    InputError
        The recording cannot be opened.
    """
    data, given = raw["data"], raw.get("recordings") or {}
    if not isinstance(given, Mapping) or not isinstance(data["read"], str):
        return dict(raw), []
    try:
        found = _opened(data["read"], Path(str(data.get("root_folder", "."))), data.get("geometry"))
    except InputError as error:
        raise InputError(f"data.read: {error}") from error
    told = {
        "dtype": found.dtype.name, "sampling_rate": found.sampling_rate, "n_channels": found.n_channels,
        "order": "samples", "offset_bytes": 0,
    }  # fmt: skip
    problems = [
        f"recordings.{name}: found {shown(given[name])}: the recording itself says {value}; leave it out"
        for name, value in told.items()
        if name in given and given[name] != value
    ]
    return {**raw, "recordings": {**given, **told}}, problems


def _opened(read: str, root: Path, geometry: Any) -> Recording:
    from yass_dask.readers import read_by_spikeinterface

    return read_by_spikeinterface(Reading.parse(read, root), None if geometry is None else root / str(geometry))
