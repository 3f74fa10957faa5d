"""How the tissue moved: displacement by time and depth, with its uncertainty."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yass_dask.arrayfiles import read_npy
from yass_dask.errors import InputError

INFO_FILE = "spikeinterface_info.json"
FILES = {
    "displacement": "displacement_seg0.npy",
    "uncertainty": "uncertainty_seg0.npy",
    "times_s": "temporal_bins_s_seg0.npy",
    "depths_um": "spatial_bins_um.npy",
    "raster": "raster_seg0.npy",
    "raster_depths_um": "raster_depths_um.npy",
}


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
    raster: np.ndarray
    """(n_times, n_raster) uint32, peaks from each depth"""
    raster_depths_um: np.ndarray
    """(n_raster,) middles of the raster's bins"""
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
        `spatial_bins_um.npy`; direction y. Beside them lie `uncertainty_seg0.npy`, `raster_seg0.npy` and
        `raster_depths_um.npy`, and the info says `why_none` motion is followed (empty: it is).
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for field, name in FILES.items():
            np.save(folder / name, getattr(self, field))
        told = {"object": "Motion", "direction": "y", "interpolation_method": "linear", "num_segments": 1}
        (folder / INFO_FILE).write_text(json.dumps(told | {"why_none": self.why_none}, indent=4), encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Motion:
        """What `save` wrote; a sort writes it into `motion` in its output folder.

        Raises
        ------
        InputError
            It is not there.
        """
        folder = Path(folder)
        missing = [name for name in (INFO_FILE, *FILES.values()) if not (folder / name).is_file()]
        if missing:
            raise InputError(f"{folder}: no {', '.join(missing)}; give the folder `motion` of a finished sort's output")
        told = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
        arrays = {field: read_npy(folder / name, "sort again") for field, name in FILES.items()}
        return cls(**arrays, why_none=told["why_none"])
