"""Templates that are zero but on a few channels: of all channels only when a unit is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class SpreadTemplates:
    """What is read as an array (n_units, n_samples, n_channels), of which nothing but the local channels is held."""

    waveforms: np.ndarray
    """(n_units, n_samples, n_local) float32"""
    channels: np.ndarray
    """(n_units, n_local), padded with n_channels"""
    n_channels: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.waveforms.dtype

    @property
    def shape(self) -> tuple[int, int, int]:
        return (*self.waveforms.shape[:2], self.n_channels)

    def __len__(self) -> int:
        return len(self.waveforms)

    def __getitem__(self, unit: int) -> np.ndarray:
        """(n_samples, n_channels) of one unit."""
        full = np.zeros((self.waveforms.shape[1], self.n_channels + 1), self.dtype)
        full[:, self.channels[unit]] = self.waveforms[unit]
        return full[:, : self.n_channels]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[unit] for unit in range(len(self)))
