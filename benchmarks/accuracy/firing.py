"""Spike trains of the synthetic recordings: log-normal rates, bursts with falling amplitudes, synchrony."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from yass_dask.simulate.trains import Firing, Train, draw_firing, draw_train
from yass_dask.simulate.waveforms import JITTERS, template_samples

SYNCHRONOUS_HZ = (6.0, 30.0)
SYNCHRONY_MS = 0.4
MOVED_SHARE = 0.25
"""A moved spike and the one it is moved to both become synchronous: a quarter moved makes half synchronous."""


class Trains(NamedTuple):
    """Spikes of all units by time, then by unit."""

    times: np.ndarray
    """Nearest sample of the spike's trough, int64."""
    labels: np.ndarray
    jitters: np.ndarray
    """Sub-sample shift: (jitter - JITTERS // 2) / JITTERS of a sample later."""
    scales: np.ndarray
    """Amplitude as a share of the template's, float32."""
    bursting: np.ndarray
    """(n_units,) bool."""


def draw_trains(n_units: int, n_samples: int, sampling_rate: float, seed: int, *, synchronous: bool = False) -> Trains:
    """Draw the spikes of all units, a third of which burst; `synchronous` moves half of them together."""
    bursting = np.zeros(n_units, dtype=bool)
    bursting[np.random.default_rng([seed, 2]).permutation(n_units)[: round(n_units / 3)]] = True
    firings, trains = [], []
    for unit in range(n_units):
        rng = np.random.default_rng([seed, 3, unit])
        firing = draw_firing(bool(bursting[unit]), rng)
        if synchronous:
            firing = firing._replace(rate_hz=float(np.exp(rng.uniform(*np.log(SYNCHRONOUS_HZ)))))
        firings.append(firing)
        trains.append(draw_train(firing, n_samples, sampling_rate, template_samples(sampling_rate), rng))
    if synchronous:
        trains = synchronize(trains, firings, sampling_rate, np.random.default_rng([seed, 4]))
    times, jitters, scales = (np.concatenate(parts) for parts in zip(*trains, strict=True))
    labels = np.repeat(np.arange(n_units), [len(train.times) for train in trains]).astype(np.int64)
    order = np.lexsort((labels, times))
    return Trains(times[order], labels[order], jitters[order], scales[order], bursting)


def synchronize(
    trains: list[Train], firings: list[Firing], sampling_rate: float, rng: np.random.Generator
) -> list[Train]:
    """Move a quarter of the spikes to within 0.4 ms of a spike of another unit that stays.

    A spike that would come nearer to one of its own unit than the refractory period stays where it was.
    """
    moving = [rng.random(len(train.times)) < MOVED_SHARE for train in trains]
    fifths = [train.times * JITTERS + train.jitters - JITTERS // 2 for train in trains]
    anchors = np.concatenate([times[~moves] for times, moves in zip(fifths, moving, strict=True)])
    owners = np.repeat(np.arange(len(trains)), [int((~moves).sum()) for moves in moving])
    free = rng.permutation(len(anchors))
    reach = int(SYNCHRONY_MS * sampling_rate / 1e3) * JITTERS
    moved = []
    for unit, train in enumerate(trains):
        usable = free[owners[free] != unit][: int(moving[unit].sum())]
        free = np.setdiff1d(free, usable, assume_unique=True)
        free = rng.permutation(free)
        wanted = anchors[usable] + rng.integers(-reach, reach + 1, len(usable))
        refractory = round(firings[unit].refractory_ms * sampling_rate / 1e3) * JITTERS
        moved.append(_move(train, fifths[unit], np.flatnonzero(moving[unit])[: len(usable)], wanted, refractory))
    return moved


def _move(train: Train, fifths: np.ndarray, spikes: np.ndarray, wanted: np.ndarray, refractory: int) -> Train:
    """Move these spikes of one unit, one after the other, where the refractory period allows."""
    placed = fifths.copy()
    for spike, time in zip(spikes.tolist(), wanted.tolist(), strict=True):
        gaps = np.abs(placed - time)
        gaps[spike] = refractory
        if gaps.min() >= refractory:
            placed[spike] = time
    order = np.argsort(placed, kind="stable")
    placed = placed[order]
    times = (placed + JITTERS // 2) // JITTERS
    return Train(times, placed - times * JITTERS + JITTERS // 2, train.scales[order])
