"""Geometry from files: text and .npy positions, probeinterface JSON."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.arrayfiles import read_npy
from yass_dask.errors import InputError
from yass_dask.geometry.probe import Probe, as_positions, linear

UNITS_TO_UM = {"um": 1.0, "µm": 1.0, "mm": 1e3, "m": 1e6}


def as_probe(geometry: Any, n_channels: int) -> Probe:
    """Give the probe meant by a Probe, a file, an (n_channels, 2) array, or None (a column of contacts)."""
    if geometry is None:
        return linear(n_channels)
    if isinstance(geometry, str | os.PathLike):
        return read_probe(geometry, n_channels)
    probe = geometry if isinstance(geometry, Probe) else Probe(as_positions(geometry, "geometry"))
    _check_count(probe.n_channels, n_channels, "geometry")
    return probe


def parse(path: str | os.PathLike[str], n_channels: int) -> np.ndarray:
    """Read contact positions from a text file (one channel a line) or a .npy file.

    Returns
    -------
    (n_channels, 2) float64 array, um. Columns after the second are dropped.

    Raises
    ------
    InputError
        For a missing or unreadable file, another extension, not n_channels rows, values that are not finite.
    """
    path = Path(path)
    if path.suffix not in (".txt", ".npy"):
        raise InputError(f"{path}: geometry files end in .txt or .npy, found {path.suffix or 'no extension'!r}")
    _check_file(path)
    try:
        found = read_npy(path, "give one x, y pair a channel") if path.suffix == ".npy" else _load_text(path)
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a table of contact positions ({error})") from error
    positions = as_positions(found, str(path))
    _check_count(len(positions), n_channels, str(path))
    return positions


def read_probe(path: str | os.PathLike[str], n_channels: int) -> Probe:
    """Read a probe from a .txt or .npy file of positions, or from a probeinterface .json file.

    In a probeinterface file, channel c is the contact whose `device_channel_indices` is c; contacts of index
    -1 are not recorded. Where no contact is wired, contacts are channels in the order of the file.

    Raises
    ------
    InputError
        As `parse`; also where the wired contacts are not the channels 0 ... n_channels - 1.
    """
    path = Path(path)
    if path.suffix != ".json":
        return Probe(parse(path, n_channels))
    _check_file(path)
    import probeinterface

    try:
        return probe_of_group(probeinterface.read_probeinterface(path), n_channels, str(path))
    except InputError:
        raise
    except Exception as error:  # the library asserts and indexes its way through anybody's JSON
        why = re.sub(r"<class '([^']*)'>", r"\1", f"{type(error).__name__}: {error}")
        raise InputError(
            f"{path}: not a probeinterface file ({why}); write it by probeinterface.write_probeinterface, or give "
            "positions as .txt or .npy"
        ) from None


def probe_of_group(group: Any, n_channels: int, where: str) -> Probe:
    """Turn a probeinterface ProbeGroup into the Probe of n_channels channels; `where` goes into errors."""
    probes = group.probes
    if not probes:
        raise InputError(f"{where}: the file holds no probe")
    positions = np.concatenate([p.contact_positions[:, :2] * UNITS_TO_UM[p.si_units] for p in probes])
    names = [f"{i}:{shank}" for i, p in enumerate(probes) for shank in _shank_ids(p)]
    shanks = np.unique(names, return_inverse=True)[1]
    shifts = [p.contact_annotations.get("inter_sample_shift") for p in probes]
    contacts = _wired_contacts(probes, where, n_channels)
    all_shifts = None if any(s is None for s in shifts) else np.concatenate(shifts)[contacts]
    return Probe(positions[contacts], shanks[contacts], all_shifts)


def _load_text(path: Path) -> np.ndarray:
    lines = path.read_text(encoding="utf-8").replace(",", " ").splitlines()
    return np.loadtxt(lines, ndmin=2)


def _check_file(path: Path) -> None:
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{path}: the geometry file {state}; give a .txt, .npy or probeinterface .json file")


def _check_count(found: int, n_channels: int, where: str) -> None:
    if found != n_channels:
        raise InputError(
            f"{where}: {found} contact positions for a recording of {n_channels} channels; "
            "give one position per channel, or correct n_channels"
        )


def _shank_ids(probe: Any) -> list[str]:
    if probe.shank_ids is None:
        return [""] * probe.get_contact_count()
    return [str(shank) for shank in probe.shank_ids]


def _wired_contacts(probes: Sequence[Any], where: str, n_channels: int) -> np.ndarray:
    """Give the contact of each channel, as an index into the contacts of all probes."""
    wiring = [p.device_channel_indices for p in probes]
    n_contacts = sum(p.get_contact_count() for p in probes)
    if all(w is None for w in wiring):
        _check_count(n_contacts, n_channels, where)
        return np.arange(n_contacts)
    unwired = [np.full(p.get_contact_count(), -1) for p in probes]
    channels = np.concatenate([u if w is None else w for w, u in zip(wiring, unwired, strict=True)])
    contacts = np.flatnonzero(channels >= 0)
    _check_count(len(contacts), n_channels, where)
    order = contacts[np.argsort(channels[contacts], kind="stable")]
    if not np.array_equal(channels[order], np.arange(n_channels)):
        raise InputError(
            f"{where}: device_channel_indices must be the channels 0 ... {n_channels - 1}, each once; "
            f"found {channels[order].tolist()[:8]} ..."
        )
    return order
