"""Where the contacts of a simulated probe lie."""

from __future__ import annotations

import numpy as np

from yass_dask.errors import InputError


def _linear(n_channels: int) -> np.ndarray:
    return np.stack([np.zeros(n_channels), 25.0 * np.arange(n_channels)], axis=1)


def _neuropixels(n_channels: int) -> np.ndarray:
    """Neuropixels 1.0: two contacts a row, rows 20 um apart, staggered."""
    index = np.arange(n_channels)
    return np.stack([np.array([43.0, 11.0, 59.0, 27.0])[index % 4], 20.0 * (index // 2)], axis=1)


def _neuropixels2(n_channels: int) -> np.ndarray:
    index = np.arange(n_channels)
    return np.stack([32.0 * (index % 2), 15.0 * (index // 2)], axis=1)


def _grid(n_channels: int) -> np.ndarray:
    """A square array, 40 um between contacts, filled row by row."""
    index = np.arange(n_channels)
    side = int(np.ceil(np.sqrt(n_channels)))
    return np.stack([40.0 * (index % side), 40.0 * (index // side)], axis=1)


def _tetrode(n_channels: int) -> np.ndarray:
    """Tetrodes (wires on a square of 25 um), 300 um apart."""
    index = np.arange(n_channels)
    corners = np.array([[0.0, 0.0], [25.0, 0.0], [25.0, 25.0], [0.0, 25.0]])
    return corners[index % 4] + np.stack([300.0 * (index // 4), np.zeros(n_channels)], axis=1)


LAYOUTS = {
    "neuropixels": _neuropixels,
    "neuropixels2": _neuropixels2,
    "grid": _grid,
    "linear": _linear,
    "tetrode": _tetrode,
}


def contact_positions(geometry: str | np.ndarray, n_channels: int) -> np.ndarray:
    """Contacts of a named layout, or the given (n_channels, 2) array, in um.

    Raises
    ------
    InputError
        Unknown name, no channels, or an array of another shape.
    """
    if n_channels < 1:
        raise InputError(f"n_channels is {n_channels}: a simulated recording needs at least 1 channel")
    if isinstance(geometry, str):
        if geometry not in LAYOUTS:
            raise InputError(f"geometry is {geometry!r}: choose one of {', '.join(LAYOUTS)}, or give an array")
        return LAYOUTS[geometry](n_channels)
    positions = np.asarray(geometry, dtype=np.float64)
    if positions.shape != (n_channels, 2):
        raise InputError(f"geometry has shape {positions.shape}: expected (n_channels, 2) = ({n_channels}, 2)")
    return positions
