"""The probe of a recording: positions, shanks and sample shifts of its channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.base import tokenize

from yass_dask.errors import InputError
from yass_dask.geometry.channels import find_channel_neighbors

FARTHEST_UM = 1e9
"""A kilometre from the origin; beyond, distances could not be reckoned with."""


@dataclass(frozen=True, eq=False)
class Probe:
    """Contacts of a recording's channels.

    Parameters
    ----------
    positions : (n_channels, 2) float64 array, um
    shanks : (n_channels,) int64 array, optional
        Shank (or probe, or tetrode) of each channel; channels of different shanks are never neighbours.
        One shank by default.
    sample_shifts : (n_channels,) float64 array, optional
        Fraction of a sample by which each channel is digitised late.

    Raises
    ------
    InputError
        For wrong shapes, positions that are not finite, or two channels at one position of a shank.
    """

    positions: np.ndarray
    shanks: np.ndarray = None  # type: ignore[assignment]  # filled below, never None from outside
    sample_shifts: np.ndarray | None = None

    def __post_init__(self) -> None:
        positions = as_positions(self.positions, "geometry")
        shanks = np.zeros(len(positions)) if self.shanks is None else self.shanks
        object.__setattr__(self, "positions", positions)
        object.__setattr__(self, "shanks", _per_channel(shanks, len(positions), np.int64, "shanks"))
        if self.sample_shifts is not None:
            shifts = _per_channel(self.sample_shifts, len(positions), np.float64, "sample_shifts")
            object.__setattr__(self, "sample_shifts", shifts)
        _refuse_duplicates(self.positions, self.shanks)

    @property
    def n_channels(self) -> int:
        return len(self.positions)

    def subset(self, channels: Sequence[int] | np.ndarray) -> Probe:
        """Give the probe of some channels, in the order asked for."""
        index = np.asarray(channels, dtype=np.int64)
        shifts = None if self.sample_shifts is None else self.sample_shifts[index]
        return Probe(self.positions[index], self.shanks[index], shifts)

    def neighbors(self, radius_um: float) -> np.ndarray:
        """Tell which channels lie within a radius, as a symmetric bool (n_channels, n_channels) array.

        The radius itself counts as within, the diagonal is True, and no pair crosses shanks.
        """
        near = find_channel_neighbors(self.positions, radius_um)
        near &= self.shanks[:, None] == self.shanks[None, :]
        return near

    def identity(self) -> dict[str, Any]:
        """Give the probe as JSON-able lists: its part of a recording's identity."""
        shifts = None if self.sample_shifts is None else self.sample_shifts.tolist()
        return {"positions": self.positions.tolist(), "shanks": self.shanks.tolist(), "sample_shifts": shifts}

    def __dask_tokenize__(self) -> str:
        return tokenize("Probe", self.positions, self.shanks, self.sample_shifts)

    def sketch(self, width: int = 120, height: int = 200) -> str:
        """Draw the contacts as a small SVG image, y upwards, one colour a shank."""
        low, extent = self.positions.min(axis=0), np.ptp(self.positions, axis=0)
        scale = min((size - 12) / length for size, length in zip((width, height), np.maximum(extent, 1), strict=True))
        x, y = (scale * (self.positions - low) + 6).T
        hues = (137.5 * np.unique(self.shanks, return_inverse=True)[1]) % 360
        dots = "".join(
            f'<circle cx="{a:.1f}" cy="{height - b:.1f}" r="2.5" fill="hsl({hue:.0f},60%,45%)"/>'
            for a, b, hue in zip(x, y, hues, strict=True)
        )
        return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{dots}</svg>'

    def __repr__(self) -> str:
        n_shanks = len(np.unique(self.shanks))
        x, y = np.ptp(self.positions, axis=0)
        return f"Probe: {self.n_channels} channels, {n_shanks} shank{'s' * (n_shanks > 1)}, {x:g} x {y:g} um"


def linear(n_channels: int, pitch_um: float = 25) -> Probe:
    """Give a straight column of contacts, for recordings that come without a probe."""
    return Probe(np.column_stack([np.zeros(n_channels), pitch_um * np.arange(n_channels, dtype=np.float64)]))


def as_positions(values: Any, where: str) -> np.ndarray:
    try:
        positions = np.array(values, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: contact positions must be numbers ({error})") from error
    if positions.ndim != 2 or positions.shape[1] < 2 or not len(positions):
        raise InputError(f"{where}: expected positions of shape (n_channels, 2), found {positions.shape}")
    positions = np.ascontiguousarray(positions[:, :2])
    wrong = np.flatnonzero(~(np.abs(positions) <= FARTHEST_UM).all(axis=1))  # NaN is wrong, too
    if wrong.size:
        channel = int(wrong[0])
        found = positions[channel].tolist()
        raise InputError(f"{where}: channel {channel} has position {found}; must be finite, at most {FARTHEST_UM:g} um")
    return positions


def _per_channel(values: Any, n_channels: int, dtype: Any, name: str) -> np.ndarray:
    found = np.asarray(values)
    if found.shape != (n_channels,):
        raise InputError(f"{name}: expected one value per channel ({n_channels}), found shape {found.shape}")
    if not np.isfinite(found.astype(np.float64)).all():
        raise InputError(f"{name}: values must be finite, found {found[~np.isfinite(found)][0]}")
    return found.astype(dtype)


def _refuse_duplicates(positions: np.ndarray, shanks: np.ndarray) -> None:
    contacts = np.column_stack([shanks, positions])
    _, first, group = np.unique(contacts, axis=0, return_index=True, return_inverse=True)
    twin = np.flatnonzero(first[group.ravel()] != np.arange(len(contacts)))
    if twin.size:
        channel = int(twin[0])
        other = int(first[group.ravel()[channel]])
        raise InputError(
            f"geometry: channels {other} and {channel} are both at {positions[channel].tolist()} um on shank "
            f"{shanks[channel]}; give each contact its own position, or its own shank"
        )
