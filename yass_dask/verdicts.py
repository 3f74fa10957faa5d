"""What cleaned spikes say about pairs of units: a valley, a burst, joint firing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from yass_dask.backends import kernel
from yass_dask.cluster import discriminant
from yass_dask.unitfeatures import MAX_SCALE, Frames

MEDIAN_VARIANCE = np.pi / 2
"""Variance of a median of n Gaussian values, times n."""
SHAPE_SHARE, SHAPE_SD = 0.2, 1.5
"""Two shapes are one if they differ by less than this share of the smaller, or by this many noise sd."""
FEWEST_SPIKES, SURELY_APART = 4, 5.0
"""Of fewer spikes their own places tell nothing; but templates that are farther apart than this, in noise sd, are two:
each spike is then surely nearer to one of them."""
BURST_REFRACTORIES = 13
"""Spikes of a burst follow each other within so many refractory times (20 ms)."""


@dataclass(frozen=True)
class UnitFacts:
    """What decisions need to know about the units that were pursued."""

    ids: np.ndarray
    levels: np.ndarray
    next_id: int
    refractory: int
    """samples"""
    n_samples: int
    """of the recording, as far as it was pursued"""
    first_new: int = 0
    """units of lower ids are known from another sort"""


@dataclass(frozen=True)
class Pieces:
    """Units cut into pieces."""

    of_spike: np.ndarray
    unit: np.ndarray
    ids: np.ndarray
    count: np.ndarray


class Verdict(NamedTuple):
    """What was found on a pair of pieces."""

    distance: float
    """between their templates, in whitened noise standard deviations"""
    p: int
    q: int
    valley: float
    bursts: bool
    """one is the other's shape at another size, and follows it within a burst"""


def compare(
    rows: Mapping[str, np.ndarray], mine: Mapping[str, np.ndarray], pieces: Pieces, frames: Frames,
    trains: Trains, backend: str,
) -> list[Verdict]:  # fmt: skip
    """Verdicts on all pairs of pieces of units that see each other, the nearest first."""
    spike = zip(mine["unit_index"].tolist(), mine["sample_index"].tolist(), strict=True)
    piece_of = dict(zip(spike, pieces.of_spike.tolist(), strict=True))
    row_piece = np.array(
        [piece_of[key] for key in zip(rows["unit_index"].tolist(), rows["sample_index"].tolist(), strict=True)],
        np.int64,
    )
    verdicts = []
    for u, v, distance in zip(frames.unit, frames.other, frames.distance, strict=True):
        seen = (rows["unit_index"] == u) & (rows["other_index"] == v)
        there = (rows["unit_index"] == v) & (rows["other_index"] == v)
        for p in np.flatnonzero(pieces.unit == u):
            for q in np.flatnonzero(pieces.unit == v):
                if u == v and p >= q:
                    continue
                at = [np.flatnonzero(where & (row_piece == k)) for where, k in ((seen, p), (there, q))]
                a, b = (rows["features"][i] for i in at)
                bursts = same_shape(a, b) and any(
                    trains.follows(rows["sample_index"][i], leader) for i, leader in zip(at, (v, u), strict=True)
                )
                # What was just split has to hold here, too: few spikes in many dimensions split by chance.
                valley = separation(a, b, backend) if distance < SURELY_APART or _enough(a, b) else 0.0
                verdicts.append(Verdict(float(distance), int(p), int(q), valley, bursts))
    return sorted(verdicts)


def most_alike(
    mine: Mapping[str, np.ndarray], clusters: np.ndarray, frames: Frames, facts: UnitFacts
) -> dict[int, int]:
    """Of each known unit (its row) the cluster whose spikes are most like its template.

    Parameters
    ----------
    mine : spikes in their own units' frames
    clusters : (n_spikes,) cluster of each within its unit
    """
    templates, mains = frames.own[frames.unit == frames.other], {}
    for unit in np.flatnonzero(facts.ids < facts.first_new).tolist():
        members = np.flatnonzero((mine["unit_index"] == unit) & (clusters >= 0))
        labels = np.unique(clusters[members])
        medians = [np.median(mine["features"][members[clusters[members] == k]], axis=0) for k in labels]
        if len(labels) > 1:
            mains[unit] = int(labels[np.argmin([np.linalg.norm(one - templates[unit]) for one in medians])])
    return mains


def same_shape(a: np.ndarray, b: np.ndarray) -> bool:
    """Are the medians of two groups of features surely one shape at two sizes? Few spikes tell neither way.

    Parameters
    ----------
    a, b : (n, n_local, n_components) noise-whitened features in one frame
    """
    if not _enough(a, b):
        return False
    one, two = (np.median(group.reshape(len(group), -1), axis=0) for group in (a, b))
    small, large = sorted((one, two), key=np.linalg.norm)
    scale = float(small @ large) / max(float(large @ large), 1e-12)
    noise = MEDIAN_VARIANCE * len(one) * (1 / len(a) + 1 / len(b))
    left = np.sum((small - scale * large) ** 2) - noise
    most = left + 2 * noise * np.sqrt(2 / len(one))  # two standard deviations of what noise may have hidden
    return bool(scale >= 1 / MAX_SCALE and most < max((SHAPE_SHARE * np.linalg.norm(small)) ** 2, SHAPE_SD**2))


def separation(a: np.ndarray, b: np.ndarray, backend: str) -> float:
    """Valley between two groups of spikes, the axis found on one half and tested on the other, both ways.

    Parameters
    ----------
    a, b : (n, n_local, n_components) features in one frame
    """
    if not _enough(a, b):
        return 1.0
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    left, right = [], []
    for half in (0, 1):
        learn = [group[half::2] for group in (a, b)]
        test = [group[1 - half :: 2] for group in (a, b)]
        axis = discriminant(*learn)
        middle = 0.5 * (np.median(learn[0], axis=0) + np.median(learn[1], axis=0))
        projected = [(group - middle) @ axis for group in test]
        left.append(projected[0])
        right.append(projected[1])
    return float(kernel("valley", backend)(np.concatenate(left), np.concatenate(right)))


def _enough(a: np.ndarray, b: np.ndarray) -> bool:
    return min(len(a), len(b)) >= FEWEST_SPIKES


class Trains:
    """Full spike trains, to count how often two units fire together."""

    def __init__(self, spikes: Mapping[str, np.ndarray], facts: UnitFacts) -> None:
        order = np.argsort(spikes["unit_index"], kind="stable")
        units = spikes["unit_index"][order]
        self.samples = spikes["sample_index"][order]
        self.start = np.searchsorted(units, np.arange(int(units.max(initial=-1)) + 2))
        self.refractory, self.n_samples = facts.refractory, facts.n_samples

    def of(self, unit: int) -> np.ndarray:
        if unit + 1 >= len(self.start):
            return self.samples[:0]
        return self.samples[self.start[unit] : self.start[unit + 1]]

    def follows(self, samples: np.ndarray, leader: int) -> bool:
        """Do most of these spikes come within a burst's interval after one of the leader's, far above chance?"""
        train = self.of(leader)
        low = np.searchsorted(train, samples - BURST_REFRACTORIES * self.refractory)
        share = float(np.mean(np.searchsorted(train, samples - self.refractory) > low)) if len(samples) else 0.0
        chance = 1 - np.exp(-len(train) * (BURST_REFRACTORIES - 1) * self.refractory / max(self.n_samples, 1))
        return share > 0.5 and share > 3 * chance

    def together(self, u: int, v: int) -> tuple[int, float]:
        """Pairs of spikes within the refractory time, found and expected by chance.

        The first third of a refractory time is left out: there pursuit may put two spikes on one event.
        """
        a, b = self.of(u), self.of(v)
        dead = self.refractory // 3

        def within(reach: int) -> int:
            near = np.searchsorted(b, a + reach, side="right") - np.searchsorted(b, a - reach, side="left")
            return int(near.sum())

        found = within(self.refractory) - within(dead)
        expected = len(a) * len(b) * 2 * (self.refractory - dead) / max(self.n_samples, 1)
        return found, expected


def lags_between(train: np.ndarray, other: np.ndarray, reach: int) -> np.ndarray:
    """Times of the other's spikes after each spike of a train, those up to `reach` samples."""
    low = np.searchsorted(other, train - reach)
    count = np.searchsorted(other, train + reach, side="right") - low
    first = np.repeat(low - np.cumsum(count) + count, count)
    return other[first + np.arange(len(first))] - np.repeat(train, count)


def coincident(train: np.ndarray, other: np.ndarray, reach: int) -> float:
    """Share of spikes with one of the other train within `reach` samples."""
    return float(np.mean(is_near(train, other, reach))) if len(train) else 0.0


def is_near(train: np.ndarray, other: np.ndarray, reach: int) -> np.ndarray:
    """(n_spikes,) bool: spikes with one of the other train, which is sorted, within `reach` samples."""
    if len(other) == 0:
        return np.zeros(len(train), bool)
    after = np.searchsorted(other, train - reach)
    found = other[np.minimum(after, len(other) - 1)]
    near: np.ndarray = np.abs(found - train) <= reach
    return near
