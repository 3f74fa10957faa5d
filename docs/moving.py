"""The picture of motion: a simulated recording whose tissue moves, and the displacement that a sort finds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np

from yass_dask import from_array, simulate, sort
from yass_dask.motion.displacement import Motion
from yass_dask.pipeline import SortParams


def moving_recording(folder: Path) -> SimpleNamespace:
    """Two minutes of 64 channels in which the tissue goes up and down by 30 um, rendered at places in between."""
    truth = simulate(n_channels=128, seconds=120, n_units=60, seed=5, snr=(6, 25), geometry="neuropixels2")
    seconds = np.arange(len(truth.traces)) / truth.sampling_rate
    moved = 2 * np.round(np.sin(2 * np.pi * seconds / 120) * 1.4).astype(int)
    channels = np.arange(30, 94)
    # Contacts stand in a regular row: another window of them is the same tissue, farther along.
    traces = np.empty((len(truth.traces), len(channels)), truth.traces.dtype)
    for step in np.unique(moved):
        rows = moved == step
        traces[rows] = truth.traces[rows][:, channels + step]
    pitch = np.unique(np.diff(np.unique(truth.positions[:, 1])))[0]
    recording = from_array(traces, truth.sampling_rate, truth.positions[channels], truth.gain_to_uv[channels])
    sort(recording, folder, SortParams(n_refinements=0))
    return SimpleNamespace(folder=folder, seconds=seconds, true=-moved / 2 * pitch)


def draw_motion(work: SimpleNamespace, ink: str, warm: str) -> None:
    motion = Motion.load(work.folder / "motion")
    middle = np.array([float(np.mean(motion.depths_um))])
    found = motion.at(motion.times_s, middle)[:, 0]
    _, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
    axes.plot(work.seconds[::3000], (work.true - np.median(work.true))[::3000], color=ink, label="true displacement")
    axes.plot(motion.times_s, found - np.median(found), ".-", color=warm, label="found")
    axes.set_xlabel("time (s)")
    axes.set_ylabel("displacement (um)")
    axes.legend()
