"""What a pursuit knows of a block, and how a spike changes it: only the cells it reaches are looked at again."""

from typing import NamedTuple

import numba
import numpy as np

from yass_dask.kernels.loops import correlate, put

CELL = 64
NONE = np.float32(-np.inf)


class Shape(NamedTuple):
    """What decides the gain of a spike, as in Bank."""

    norms: np.ndarray
    precision: np.ndarray
    thresholds: np.ndarray
    low: np.float32
    high: np.float32
    refractory: int


class Overlaps(NamedTuple):
    """What a spike changes, as in Bank."""

    start: np.ndarray
    unit: np.ndarray
    lags: np.ndarray
    low: np.ndarray
    high: np.ndarray
    """(n_pairs,) lags [low, high) of each are not zero"""
    filters: np.ndarray


class State(NamedTuple):
    """The pursuit so far."""

    correlation: np.ndarray
    """(n_units, n_rows) with what is left of the traces"""
    closed: np.ndarray
    """(n_units, n_rows) spikes that keep a unit from firing here"""
    gains: np.ndarray
    """(n_cells, n_units) largest gain above the unit's threshold among the rows of a cell, NONE without any"""
    rows: np.ndarray
    """(n_cells, n_units) where"""
    best: np.ndarray
    """(n_cells,) largest gain of any unit"""
    who: np.ndarray
    """(n_cells,) which unit's"""
    first: int
    stop: int
    """Spikes are placed in these rows; cells start at the first"""


@numba.njit(nogil=True, cache=True, inline="always")
def amplitude_of(c: np.float32, n: np.float32, k: np.float32, low: np.float32, high: np.float32) -> np.float32:
    return min(max((c + k) / (n + k), low), high)


@numba.njit(nogil=True, cache=True, inline="always")
def gain_of(c: np.float32, a: np.float32, n: np.float32, k: np.float32) -> np.float32:
    return np.float32(2) * a * c - a * a * n - k * (a - np.float32(1)) * (a - np.float32(1))


@numba.njit(nogil=True, cache=True)
def extents(lags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n_pairs,) first lag of each that is not zero, and the one after the last."""
    low, high = np.zeros(len(lags), np.int64), np.full(len(lags), lags.shape[1])
    for p in range(len(lags)):
        while high[p] > 0 and lags[p, high[p] - 1] == 0:
            high[p] -= 1
        while low[p] < high[p] and lags[p, low[p]] == 0:
            low[p] += 1
    return low, high


@numba.njit(nogil=True, cache=True, inline="always")
def reached(overlaps: Overlaps, p: int, row: int) -> tuple[int, int]:
    """Rows [first, last) whose correlation a spike at `row` changes for the other unit of a pair."""
    first = row - overlaps.lags.shape[1] // 2 - overlaps.filters.shape[1] // 2
    return first + overlaps.low[p], first + overlaps.high[p] + overlaps.filters.shape[1] - 1


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def add(correlation: np.ndarray, row: int, unit: int, shift: int, amplitude: np.float32, overlaps: Overlaps) -> None:
    """Change the correlations of all overlapping units as if a template were added to the traces."""
    reach = overlaps.filters.shape[1] // 2
    weights = amplitude * overlaps.filters[shift]
    padded = np.zeros(overlaps.lags.shape[1] + 4 * reach, np.float32)
    for p in range(overlaps.start[unit], overlaps.start[unit + 1]):
        first, last = reached(overlaps, p, row)
        begin, end = max(first, 0), min(last, correlation.shape[1])
        if overlaps.low[p] == overlaps.high[p] or begin >= end:
            continue
        low, n = overlaps.low[p], overlaps.high[p] - overlaps.low[p]
        put(padded, 2 * reach, overlaps.lags[p, low : low + n])
        padded[2 * reach + n : 4 * reach + n] = 0
        correlate(padded[begin - first :], weights, correlation[overlaps.unit[p], begin:end])


@numba.njit(nogil=True, cache=True)
def close(closed: np.ndarray, row: int, unit: int, change: int, refractory: int) -> None:
    for t in range(max(row - refractory, 0), min(row + refractory + 1, closed.shape[1])):
        closed[unit, t] += change


@numba.njit(nogil=True, cache=True)
def renew(state: State, shape: Shape, overlaps: Overlaps, row: int, unit: int) -> None:
    """Look again for the largest gains wherever a spike of this unit at this row changes them."""
    lowest, highest = len(state.best), 0
    for p in range(overlaps.start[unit], overlaps.start[unit + 1]):
        first, last = reached(overlaps, p, row)
        if overlaps.unit[p] == unit:
            first, last = min(first, row - shape.refractory), max(last, row + shape.refractory + 1)
        elif overlaps.low[p] == overlaps.high[p]:
            continue
        low = max((first - state.first) // CELL, 0)
        high = min((last - 1 - state.first) // CELL + 1, len(state.best))
        look(state, shape, low, high, overlaps.unit[p])
        lowest, highest = min(lowest, low), max(highest, high)
    for cell in range(lowest, highest):
        choose(state, cell)


@numba.njit(nogil=True, cache=True)
def look(state: State, shape: Shape, low: int, high: int, unit: int) -> None:
    """Largest gain of a unit in each of the cells [low, high); the earlier row of two."""
    n, k, least = shape.norms[unit], shape.precision[unit], shape.thresholds[unit]
    # Below this correlation no amplitude reaches the threshold: at amplitude a, 2 a c - a^2 n <= c^2 / n.
    bound = np.sqrt(max(least, np.float32(0)) * n) * np.float32(0.999)
    correlation, closed, gains, rows = state.correlation[unit], state.closed[unit], state.gains, state.rows
    for cell in range(low, high):
        start = state.first + cell * CELL
        stop = min(start + CELL, state.stop)
        best, best_row = NONE, -1
        for t in range(start, stop if any_above(correlation[start:stop], bound) else start):
            c = correlation[t]
            if c > bound and closed[t] <= 0:
                gain = gain_of(c, amplitude_of(c, n, k, shape.low, shape.high), n, k)
                if gain > least and gain > best:
                    best, best_row = gain, t
        gains[cell, unit], rows[cell, unit] = best, best_row


@numba.njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "reassoc"})
def any_above(values: np.ndarray, bound: np.float32) -> bool:
    """Is any value larger? Without a branch, many at once: in most cells none is."""
    largest = bound
    for value in values:
        largest = max(largest, value)
    return bool(largest > bound)


@numba.njit(nogil=True, cache=True)
def choose(state: State, cell: int) -> None:
    """Largest gain of all units in a cell; the earlier row, then the lower unit of two."""
    best, best_row, best_unit = NONE, -1, -1
    for u in range(state.gains.shape[1]):
        gain, row = state.gains[cell, u], state.rows[cell, u]
        if gain > best or (gain == best and gain > NONE and row < best_row):
            best, best_row, best_unit = gain, row, u
    state.best[cell], state.who[cell] = best, best_unit
