"""Windows with labels, out of planted spikes: training sets of the three networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from yass_dask.augment.plant import Planted

MAIN_SHARE = 0.6
"""On a channel where a spike reaches this share of its largest amplitude it may as well be detected: no example."""
TOLERANCE_MS = 0.1
"""A candidate so near to a spike's extremum is it."""
CLEAN_SHARE, CLEAN_SD = 0.15, 1.0
"""A window is clean if what others put into it stays below this share of the spike, or below so many sd ..."""
COLLIDED_SHARE, COLLIDED_SD = 0.4, 3.0
"""... and collided if it is above both of these; in between nobody can tell."""
NOISE_RATIO = 4
"""Candidates that are no spikes, for each that is one."""
DENOISED_COLLISIONS = 0.4
"""Share of the collided waveforms that the denoiser learns from: most that it will see are not."""
SPIKE, NOT_SPIKE, UNKNOWN = 1, 0, -1


class Windows(NamedTuple):
    """How windows are cut: as a network of another rate sees them."""

    channels: np.ndarray
    """(n_channels, n_neighbors) int32, nearest first, padded with n_channels"""
    before: int
    """Rows of a window before the event's"""
    resample: np.ndarray
    """(n_window, n_rows): a network's window is resample @ rows"""


@dataclass(frozen=True)
class Examples:
    """Training sets. Waveforms are (n, n_window, n_neighbors), in the triage's of its own sizes; those of the denoiser
    (n, n_window)."""

    x_detect: np.ndarray
    y_detect: np.ndarray
    x_triage: np.ndarray
    y_triage: np.ndarray
    x_denoise: np.ndarray
    y_denoise: np.ndarray
    not_spikes: float
    """For each candidate in `x_detect` that is no spike, so many there were"""

    @classmethod
    def joined(cls, several: list[Examples]) -> Examples:
        """One after the other."""
        names = ("x_detect", "y_detect", "x_triage", "y_triage", "x_denoise", "y_denoise")
        arrays = {name: np.concatenate([getattr(one, name) for one in several]) for name in names}
        return cls(**arrays, not_spikes=float(np.mean([one.not_spikes for one in several])))


def cut(traces: np.ndarray, rows: np.ndarray, channels: np.ndarray, windows: Windows) -> np.ndarray:
    """(n, n_rows, n_neighbors) around events, zeros beyond the ends and on padding channels."""
    n_rows, n_channels = traces.shape
    padded = np.zeros((n_rows + 1, n_channels + 1), np.float32)
    padded[:n_rows, :n_channels] = traces
    at = rows.astype(np.int64)[:, None] - windows.before + np.arange(windows.resample.shape[1])
    at = np.where((at >= 0) & (at < n_rows), at, n_rows)
    found: np.ndarray = padded[at[:, :, None], windows.channels[channels][:, None, :]]
    return found


def label(
    planted: Planted, rows: np.ndarray, channels: np.ndarray, sampling_rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which candidates are planted spikes.

    Returns
    -------
    kind : (n,) int8, SPIKE, NOT_SPIKE or UNKNOWN
    spike : (n,) int64, index of the spike where kind is SPIKE, else -1
    """
    n_channels = planted.traces.shape[1]
    kind = np.where(planted.known[rows, channels], NOT_SPIKE, UNKNOWN).astype(np.int8)
    spike = np.full(len(rows), -1)
    place = rows.astype(np.int64) * n_channels + channels
    order = np.argsort(place)
    tolerance = round(TOLERANCE_MS * sampling_rate / 1e3)
    sizes, offsets = planted.bank.sizes, planted.bank.offsets
    for unit in range(len(planted.bank)):
        mine = np.flatnonzero(planted.spikes.units == unit)
        main = int(sizes[unit].argmax())
        wide = np.flatnonzero(sizes[unit] >= MAIN_SHARE * sizes[unit, main])
        for channel in np.append(wide[wide != main], main):
            for distance in sorted(range(-tolerance, tolerance + 1), key=abs, reverse=True):
                wanted = (planted.spikes.times[mine] + offsets[unit, channel] + distance) * n_channels + channel
                index = np.minimum(np.searchsorted(place, wanted, sorter=order), max(len(place) - 1, 0))
                there = place[order[index]] == wanted if len(place) else np.zeros(len(mine), bool)
                found = order[index[there]]
                if channel == main:
                    kind[found] = np.where(planted.known[rows[found], channels[found]], SPIKE, UNKNOWN)
                    spike[found] = np.where(kind[found] == SPIKE, mine[there], -1)
                else:
                    kind[found] = np.where(kind[found] == SPIKE, SPIKE, UNKNOWN)
    return kind, spike


def examples(
    planted: Planted, rows: np.ndarray, channels: np.ndarray, windows: Windows, *, sampling_rate: float, seed: int,
    triage: Windows | None = None,
) -> Examples:  # fmt: skip
    """Training sets from the candidates (rows, channels) of planted traces.

    Parameters
    ----------
    triage : what the triage sees; None: the same windows. What is clean is told by `windows`: around them, too, the
        triage sees where a neighbouring spike comes from or goes to.
    """
    draw = np.random.default_rng(seed)
    kind, spike = label(planted, rows, channels, sampling_rate)
    yes, no = np.flatnonzero(kind == SPIKE), np.flatnonzero(kind == NOT_SPIKE)
    few = draw.choice(no, min(len(no), NOISE_RATIO * max(len(yes), 1)), replace=False)
    chosen = np.concatenate([yes, few])
    x = _resampled(cut(planted.traces, rows[chosen], channels[chosen], windows), windows)
    mine = cut(planted.signal, rows[yes], channels[yes], windows)
    n_rows = windows.resample.shape[1]
    own = planted.own(spike[yes], rows[yes], windows.channels[channels[yes]], windows.before, n_rows).swapaxes(1, 2)
    size = np.abs(own).max(axis=(1, 2), initial=0)
    others = np.abs(mine - own).max(axis=(1, 2), initial=0)
    clean = others <= np.maximum(CLEAN_SHARE * size, CLEAN_SD)
    collided = others >= np.maximum(COLLIDED_SHARE * size, COLLIDED_SD)
    told = clean | collided
    seen = x[: len(yes)][told]
    if triage is not None:
        seen = _resampled(cut(planted.traces, rows[yes[told]], channels[yes[told]], triage), triage)
    # One of a window's channels: the main one every second time, so that it counts as much as all others.
    pick = np.where(draw.random(len(yes)) < 0.5, 0, draw.integers(0, x.shape[2], len(yes)))
    pick = np.where(windows.channels[channels[yes], pick] < planted.traces.shape[1], pick, 0)
    some = np.flatnonzero(~collided | (draw.random(len(yes)) < DENOISED_COLLISIONS))
    return Examples(
        x, (np.arange(len(chosen)) < len(yes)).astype(np.int8), seen, clean[told].astype(np.int8),
        x[some, :, pick[some]], _resampled(own[some], windows)[np.arange(len(some)), :, pick[some]],
        len(no) / max(len(few), 1),
    )  # fmt: skip


def _resampled(cuts: np.ndarray, windows: Windows) -> np.ndarray:
    """(n, n_window, n_neighbors) float32."""
    moved: np.ndarray = np.einsum("wr,nrk->nwk", windows.resample, cuts, optimize=True).astype(np.float32)
    return moved
