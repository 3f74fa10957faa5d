"""How the tissue moved: displacement by time and depth, with its uncertainty."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Motion:
    """Displacement along the probe, relative to where the tissue mostly was; `why_none` says why it is not followed."""

    displacement: np.ndarray
    """(n_times, n_windows) um, positive upwards; all 0 where there is none"""
    uncertainty: np.ndarray
    """(n_times, n_windows) um, standard deviation"""
    times_s: np.ndarray
    """(n_times,) middles of the time bins"""
    depths_um: np.ndarray
    """(n_windows,) middles of the windows"""
    why_none: str = ""

    @property
    def is_none(self) -> bool:
        return bool(self.why_none)

    def __str__(self) -> str:
        if self.is_none:
            return f"none is followed: {self.why_none}"
        low, high = self.displacement.min(), self.displacement.max()
        doubt = float(np.median(self.uncertainty))
        return f"{low:.0f} to {high:.0f} um, followed in {len(self.depths_um)} windows (uncertain by {doubt:.1f} um)"

    def at(self, seconds: np.ndarray, depths: np.ndarray) -> np.ndarray:
        """(n_seconds, n_depths) um: linear in between, constant beyond."""
        over_depth = np.stack([np.interp(depths, self.depths_um, row) for row in self.displacement])
        late = np.clip(np.searchsorted(self.times_s, seconds), 1, max(len(self.times_s) - 1, 1))
        if len(self.times_s) == 1:
            return np.repeat(over_depth, len(seconds), axis=0)
        early = late - 1
        share = (seconds - self.times_s[early]) / (self.times_s[late] - self.times_s[early])
        share = np.clip(share, 0, 1)[:, None]
        moved: np.ndarray = (1 - share) * over_depth[early] + share * over_depth[late]
        return moved

    def save(self, folder: str | Path) -> Path:
        """Write a folder that SpikeInterface's `Motion.load` reads.

        `spikeinterface_info.json`, `displacement_seg0.npy` (n_times, n_windows) um, `temporal_bins_s_seg0.npy`, and
        `spatial_bins_um.npy`; direction y. The uncertainty lies beside them, in `uncertainty_seg0.npy`.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "displacement_seg0.npy", self.displacement)
        np.save(folder / "uncertainty_seg0.npy", self.uncertainty)
        np.save(folder / "temporal_bins_s_seg0.npy", self.times_s)
        np.save(folder / "spatial_bins_um.npy", self.depths_um)
        told = {"object": "Motion", "direction": "y", "interpolation_method": "linear", "num_segments": 1}
        (folder / "spikeinterface_info.json").write_text(json.dumps(told, indent=4), encoding="utf-8")
        return folder
