"""Matching pursuit on a block of whitened traces: only what a spike changes is computed again.

The largest gain is kept per unit and cell of rows. A subtraction touches the cells within two template lengths, of the
units whose templates overlap in space: a spike costs the same whatever the block's length or the probe's size.
"""

from typing import NamedTuple

import numba
import numpy as np

from yass_dask.kernels.bank import SAME_AMPLITUDE, Bank, Spikes
from yass_dask.kernels.loops import correlate, mix

CELL = 64
TILE = 1024
NONE = np.float32(-np.inf)


class _Shape(NamedTuple):
    """What decides the gain of a spike, as in Bank."""

    norms: np.ndarray
    precision: np.ndarray
    thresholds: np.ndarray
    low: np.float32
    high: np.float32
    refractory: int


class _Overlaps(NamedTuple):
    """What a spike changes, as in Bank."""

    start: np.ndarray
    unit: np.ndarray
    overlap: np.ndarray
    filters: np.ndarray


class _State(NamedTuple):
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


def pursue(traces: np.ndarray, *, bank: Bank, given: Spikes, first: int, stop: int, n_sweeps: int) -> Spikes:
    """See `pursue_numpy`; same spikes but where two gains differ in the last bits only."""
    correlation = _correlate(np.ascontiguousarray(traces.T), bank)
    low, high = np.float32(bank.amplitude_low), np.float32(bank.amplitude_high)
    shape = _Shape(bank.norms, bank.precision, bank.thresholds, low, high, bank.refractory)
    overlaps = _Overlaps(bank.pair_start, bank.pair_unit, bank.pair_overlap, bank.filters)
    n_cells = max(0, -(-(stop - first) // CELL))
    state = _State(
        correlation,
        np.zeros(correlation.shape, np.int16),
        np.empty((n_cells, len(bank.norms)), np.float32),
        np.empty((n_cells, len(bank.norms)), np.int32),
        np.empty(n_cells, np.float32),
        np.empty(n_cells, np.int32),
        first,
        stop,
    )
    for i in range(len(given.row)):
        _add(correlation, given.row[i], given.unit[i], given.shift[i], -given.amplitude[i], overlaps)
        _close(state.closed, given.row[i], given.unit[i], 1, bank.refractory)
    found = _pursue(state, shape, overlaps, n_sweeps)
    rows, units = found[:, 0].astype(np.int32), found[:, 1].astype(np.int32)
    order = np.lexsort((units, rows))
    found = found[order]
    return Spikes(
        rows[order],
        units[order],
        found[:, 2].astype(np.int32),
        found[:, 3].astype(np.float32),
        found[:, 4].astype(np.float32),
    )


# --- correlation with the templates ---


def _correlate(traces: np.ndarray, bank: Bank) -> np.ndarray:
    """(n_units, n_rows) float32 from traces (n_channels, n_rows)."""
    result = np.empty((len(bank.norms), traces.shape[1]), np.float32)
    ranks = np.count_nonzero(np.abs(bank.spatial).max(axis=2, initial=0), axis=1)
    _correlate_units(traces, bank.temporal, bank.spatial, bank.support, ranks, bank.peak, result)
    return result


@numba.njit(nogil=True, cache=True)
def _correlate_units(
    x: np.ndarray,
    temporal: np.ndarray,
    spatial: np.ndarray,
    support: np.ndarray,
    ranks: np.ndarray,
    peak: int,
    out: np.ndarray,
) -> None:
    """Tile by tile, so that what several units read of the traces stays in the cache."""
    n_rows, n_samples = x.shape[1], temporal.shape[2]
    series = np.empty(TILE + n_samples - 1, np.float32)
    for start in range(0, n_rows, TILE):
        stop = min(start + TILE, n_rows)
        wanted = start - peak
        length = stop - start + n_samples - 1
        low, high = max(wanted, 0), min(wanted + length, n_rows)
        series[: low - wanted] = 0
        series[max(high - wanted, 0) :] = 0
        for u in range(len(out)):
            piece = out[u, start:stop]
            piece[:] = 0
            for r in range(ranks[u]):
                if low < high:
                    mix(x, low, high, spatial[u, r], support[u], series[low - wanted : high - wanted])
                correlate(series, temporal[u, r], piece)


# --- what a spike changes ---


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _add(correlation: np.ndarray, row: int, unit: int, shift: int, amplitude: np.float32, overlaps: _Overlaps) -> None:
    """Change the correlations of all overlapping units as if a template were added to the traces."""
    n_rows = correlation.shape[1]
    n_lags = overlaps.overlap.shape[1]
    reach = overlaps.filters.shape[1] // 2
    weights = amplitude * overlaps.filters[shift]
    low = row - n_lags // 2 - reach
    length = n_lags + 2 * reach
    begin, end = max(-low, 0), min(length, n_rows - low)
    if begin >= end:
        return
    padded = np.zeros(n_lags + 4 * reach, np.float32)
    for p in range(overlaps.start[unit], overlaps.start[unit + 1]):
        padded[2 * reach : 2 * reach + n_lags] = overlaps.overlap[p]
        correlate(padded[begin:], weights, correlation[overlaps.unit[p], low + begin : low + end])


@numba.njit(nogil=True, cache=True)
def _close(closed: np.ndarray, row: int, unit: int, change: int, refractory: int) -> None:
    for t in range(max(row - refractory, 0), min(row + refractory + 1, closed.shape[1])):
        closed[unit, t] += change


@numba.njit(nogil=True, cache=True)
def _renew(state: _State, shape: _Shape, overlaps: _Overlaps, row: int, unit: int) -> None:
    """Look again for the largest gains wherever a spike of this unit at this row changes them."""
    touched = max(overlaps.overlap.shape[1] // 2 + overlaps.filters.shape[1] // 2, shape.refractory)
    low = max((row - touched - state.first) // CELL, 0)
    high = min((row + touched - state.first) // CELL + 1, len(state.best))
    for cell in range(low, high):
        for p in range(overlaps.start[unit], overlaps.start[unit + 1]):
            _look(state, shape, cell, overlaps.unit[p])
        _choose(state, cell)


@numba.njit(nogil=True, cache=True)
def _look(state: _State, shape: _Shape, cell: int, unit: int) -> None:
    """Largest gain of a unit in a cell; the earlier row of two."""
    n, k, least = shape.norms[unit], shape.precision[unit], shape.thresholds[unit]
    # Below this correlation no amplitude reaches the threshold: at amplitude a, 2 a c - a^2 n <= c^2 / n.
    bound = np.sqrt(max(least, np.float32(0)) * n) * np.float32(0.999)
    correlation, closed = state.correlation[unit], state.closed[unit]
    start = state.first + cell * CELL
    best, best_row = NONE, -1
    for t in range(start, min(start + CELL, state.stop)):
        c = correlation[t]
        if c > bound and closed[t] <= 0:
            gain = _gain(c, _amplitude(c, n, k, shape.low, shape.high), n, k)
            if gain > least and gain > best:
                best, best_row = gain, t
    state.gains[cell, unit], state.rows[cell, unit] = best, best_row


@numba.njit(nogil=True, cache=True)
def _choose(state: _State, cell: int) -> None:
    """Largest gain of all units in a cell; the earlier row, then the lower unit of two."""
    best, best_row, best_unit = NONE, -1, -1
    for u in range(state.gains.shape[1]):
        gain, row = state.gains[cell, u], state.rows[cell, u]
        if gain > best or (gain == best and gain > NONE and row < best_row):
            best, best_row, best_unit = gain, row, u
    state.best[cell], state.who[cell] = best, best_unit


# --- fitting a spike ---


@numba.njit(nogil=True, cache=True, inline="always")
def _amplitude(c: np.float32, n: np.float32, k: np.float32, low: np.float32, high: np.float32) -> np.float32:
    return min(max((c + k) / (n + k), low), high)


@numba.njit(nogil=True, cache=True, inline="always")
def _gain(c: np.float32, a: np.float32, n: np.float32, k: np.float32) -> np.float32:
    return np.float32(2) * a * c - a * a * n - k * (a - np.float32(1)) * (a - np.float32(1))


@numba.njit(nogil=True, cache=True)
def _peak(left: np.float32, middle: np.float32, right: np.float32, n_steps: int) -> tuple[int, np.float32]:
    """Sub-sample peak of a correlation: shift index and the value there."""
    half = np.float32(0.5)
    bend = left - np.float32(2) * middle + right
    if bend >= 0:
        return n_steps // 2, middle
    offset = min(max(half * (left - right) / bend, -half), half)
    index = int(np.floor(offset * np.float32(n_steps) + half))
    at = np.float32(index) / np.float32(n_steps)
    return index + n_steps // 2, middle + half * (right - left) * at + half * bend * at * at


@numba.njit(nogil=True, cache=True)
def _fit(
    c: np.ndarray, at: int, row: int, unit: int, n_rows: int, shape: _Shape, n_steps: int
) -> tuple[int, np.float32, np.float32]:
    """Shift, amplitude and gain of a spike at `row`, c[at] its unit's correlation there."""
    shift, value = n_steps // 2, c[at]
    if 0 < row < n_rows - 1:
        shift, value = _peak(c[at - 1], c[at], c[at + 1], n_steps)
    a = _amplitude(value, shape.norms[unit], shape.precision[unit], shape.low, shape.high)
    return shift, a, _gain(value, a, shape.norms[unit], shape.precision[unit])


@numba.njit(nogil=True, cache=True)
def _write(found: np.ndarray, i: int, row: int, unit: int, fit: tuple) -> None:
    found[i, 0], found[i, 1], found[i, 2], found[i, 3], found[i, 4] = row, unit, fit[0], fit[1], fit[2]


@numba.njit(nogil=True, cache=True)
def _pursue(state: _State, shape: _Shape, overlaps: _Overlaps, n_sweeps: int) -> np.ndarray:
    for cell in range(len(state.best)):
        for u in range(len(shape.norms)):
            _look(state, shape, cell, u)
        _choose(state, cell)
    found, count = _greedy(state, shape, overlaps, np.empty((64, 5), np.float64), 0)
    for _ in range(n_sweeps):
        count = _refit(state, shape, overlaps, found, count)
        found, count = _greedy(state, shape, overlaps, found, count)
    return found[:count]


@numba.njit(nogil=True, cache=True)
def _greedy(state: _State, shape: _Shape, overlaps: _Overlaps, found: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """Take spikes until no gain reaches its threshold; appends to `found` (row, unit, shift, amplitude, gain)."""
    n_rows, n_steps = state.correlation.shape[1], len(overlaps.filters) - 1
    while len(state.best) > 0:
        cell = np.argmax(state.best)
        if state.best[cell] == NONE:
            break
        unit = state.who[cell]
        row = state.rows[cell, unit]
        fit = _fit(state.correlation[unit], row, row, unit, n_rows, shape, n_steps)
        if count == len(found):
            found = np.concatenate((found, np.empty_like(found)))
        _write(found, count, row, unit, fit)
        count += 1
        _add(state.correlation, row, unit, fit[0], -fit[1], overlaps)
        _close(state.closed, row, unit, 1, shape.refractory)
        _renew(state, shape, overlaps, row, unit)
    return found, count


@numba.njit(nogil=True, cache=True)
def _refit(state: _State, shape: _Shape, overlaps: _Overlaps, found: np.ndarray, count: int) -> int:
    """Put each spike back in turn and fit it again within one row; spikes below the threshold are dropped."""
    n_rows, n_steps = state.correlation.shape[1], len(overlaps.filters) - 1
    without = np.empty(5, np.float32)
    kept = 0
    for i in range(count):
        row, unit, shift, a = int(found[i, 0]), int(found[i, 1]), int(found[i, 2]), np.float32(found[i, 3])
        _own(state, overlaps, row, unit, shift, a, without)
        gain, new = _best_beside(state, shape, row, unit, without)
        dropped = not gain > shape.thresholds[unit]
        if not dropped:
            fit = _fit(without, new - row + 2, new, unit, n_rows, shape, n_steps)
            _write(found, kept, new, unit, fit)
            kept += 1
            if new == row and fit[0] == shift and abs(fit[1] - a) <= SAME_AMPLITUDE:
                found[kept - 1, 3] = a  # what was subtracted stays subtracted
                continue
        _add(state.correlation, row, unit, shift, a, overlaps)
        _close(state.closed, row, unit, -1, shape.refractory)
        if not dropped:
            _add(state.correlation, new, unit, fit[0], -fit[1], overlaps)
            _close(state.closed, new, unit, 1, shape.refractory)
            _renew(state, shape, overlaps, new, unit)
        _renew(state, shape, overlaps, row, unit)
    return kept


@numba.njit(nogil=True, cache=True)
def _own(
    state: _State, overlaps: _Overlaps, row: int, unit: int, shift: int, amplitude: np.float32, out: np.ndarray
) -> None:
    """out[d + 2] = the unit's correlation at row + d, the spike itself put back."""
    itself = overlaps.start[unit]
    while overlaps.unit[itself] != unit:
        itself += 1
    overlap, weights = overlaps.overlap[itself], overlaps.filters[shift]
    reach, centre = len(weights) // 2, len(overlap) // 2
    for d in range(-2, 3):
        total = np.float32(0)
        for m in range(-reach, reach + 1):
            if 0 <= centre + d + m < len(overlap):
                total += weights[m + reach] * overlap[centre + d + m]
        inside = 0 <= row + d < state.correlation.shape[1]
        out[d + 2] = state.correlation[unit, row + d] + amplitude * total if inside else np.float32(0)


@numba.njit(nogil=True, cache=True)
def _best_beside(state: _State, shape: _Shape, row: int, unit: int, without: np.ndarray) -> tuple[np.float32, int]:
    """Largest gain within one row of a spike that is put back, and where; NONE where other spikes close the unit."""
    n, k = shape.norms[unit], shape.precision[unit]
    best, best_row = NONE, -1
    for t in range(max(row - 1, state.first), min(row + 2, state.stop)):
        own = 1 if abs(t - row) <= shape.refractory else 0
        if state.closed[unit, t] - own <= 0:
            c = without[t - row + 2]
            gain = _gain(c, _amplitude(c, n, k, shape.low, shape.high), n, k)
            if gain > best:
                best, best_row = gain, t
    return best, best_row
