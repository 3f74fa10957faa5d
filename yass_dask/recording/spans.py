"""Excluded periods: [start, stop) pairs of samples, in any order, which may overlap."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

Spans = Iterable[tuple[int, int]]


def joined(spans: Spans) -> list[tuple[int, int]]:
    """The same periods in order, none touching the next."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted((int(a), int(b)) for a, b in spans):
        if found and start <= found[-1][1]:
            start, stop = found[-1][0], max(stop, found.pop()[1])
        found.append((start, stop))
    return found


def len_of(spans: Spans, start: int, stop: int) -> int:
    """Samples of [start, stop) that lie in any of the periods."""
    return sum(max(0, min(b, stop) - max(a, start)) for a, b in joined(spans))


def inside(samples: np.ndarray, spans: Spans) -> np.ndarray:
    """(n,) bool: samples that lie in any of the periods."""
    edges = np.array(joined(spans), np.int64).reshape(-1)
    return np.searchsorted(edges, samples, side="right") % 2 == 1


def less(samples: np.ndarray, spans: Spans) -> np.ndarray:
    """(n,) samples as they would be counted if the periods had been cut out of the recording."""
    moved = np.asarray(samples).copy()
    for start, stop in joined(spans):
        moved -= np.clip(samples - start, 0, stop - start)
    return moved
