"""Matching pursuit on a block: only what a spike changes is computed again.

The largest gain is kept per unit and cell of rows. A subtraction touches the cells within two template lengths, of the
units whose templates overlap in space: a spike costs the same whatever the block's length or the probe's size.
"""

import numba
import numpy as np

from yass_dask.kernels.bank import SAME_AMPLITUDE, Bank, Spikes
from yass_dask.kernels.pursuit_state import (
    CELL,
    NONE,
    Overlaps,
    Shape,
    State,
    add,
    amplitude_of,
    choose,
    close,
    extents,
    gain_of,
    look,
    renew,
)


def pursue(correlation: np.ndarray, *, bank: Bank, given: Spikes, first: int, stop: int, n_sweeps: int) -> Spikes:
    """See `pursue_numpy`; same spikes but where two gains differ in the last bits only."""
    correlation = correlation.T.copy()
    low, high = np.float32(bank.amplitude_low), np.float32(bank.amplitude_high)
    shape = Shape(bank.norms, bank.precision, bank.thresholds, low, high, bank.refractory)
    # Whole numbers of one type throughout: for another one all that it is given to would be compiled again.
    other = bank.pair_unit.astype(np.int64)
    overlaps = Overlaps(bank.pair_start, other, bank.pair_overlap, *extents(bank.pair_overlap), bank.filters)
    n_cells = max(0, -(-(stop - first) // CELL))
    state = State(
        correlation,
        np.zeros(correlation.shape, np.int16),
        np.empty((n_cells, len(bank.norms)), np.float32),
        np.empty((n_cells, len(bank.norms)), np.int64),
        np.empty(n_cells, np.float32),
        np.empty(n_cells, np.int64),
        first,
        stop,
    )
    whole = [np.ascontiguousarray(values, np.int64) for values in given[:3]]
    fixed = (*whole, np.ascontiguousarray(given.amplitude, np.float32))
    found = _pursue(state, shape, overlaps, fixed, n_sweeps)
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


# --- fitting spikes ---


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
    c: np.ndarray, at: int, row: int, unit: int, n_rows: int, shape: Shape, n_steps: int
) -> tuple[int, np.float32, np.float32]:
    """Shift, amplitude and gain of a spike at `row`, c[at] its unit's correlation there."""
    shift, value = n_steps // 2, c[at]
    if 0 < row < n_rows - 1:
        shift, value = _peak(c[at - 1], c[at], c[at + 1], n_steps)
    a = amplitude_of(value, shape.norms[unit], shape.precision[unit], shape.low, shape.high)
    return shift, a, gain_of(value, a, shape.norms[unit], shape.precision[unit])


@numba.njit(nogil=True, cache=True)
def _write(found: np.ndarray, i: int, row: int, unit: int, fit: tuple) -> None:
    found[i, 0], found[i, 1], found[i, 2], found[i, 3], found[i, 4] = row, unit, fit[0], fit[1], fit[2]


@numba.njit(nogil=True, cache=True)
def _pursue(state: State, shape: Shape, overlaps: Overlaps, fixed: tuple, n_sweeps: int) -> np.ndarray:
    row, unit, shift, amplitude = fixed
    for i in range(len(row)):
        add(state.correlation, row[i], unit[i], shift[i], -amplitude[i], overlaps)
        close(state.closed, row[i], unit[i], 1, shape.refractory)
    for u in range(len(shape.norms)):
        look(state, shape, 0, len(state.best), u)
    for cell in range(len(state.best)):
        choose(state, cell)
    found = np.empty((64, 5), np.float64)
    count = len(found[:0])  # not a literal 0, which is a type of its own
    found, count = _greedy(state, shape, overlaps, found, count)
    for _ in range(n_sweeps):
        count = _refit(state, shape, overlaps, found, count)
        found, count = _greedy(state, shape, overlaps, found, count)
    return found[:count]


@numba.njit(nogil=True, cache=True)
def _greedy(state: State, shape: Shape, overlaps: Overlaps, found: np.ndarray, count: int) -> tuple[np.ndarray, int]:
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
        add(state.correlation, row, unit, fit[0], -fit[1], overlaps)
        close(state.closed, row, unit, 1, shape.refractory)
        renew(state, shape, overlaps, row, unit)
    return found, count


@numba.njit(nogil=True, cache=True)
def _refit(state: State, shape: Shape, overlaps: Overlaps, found: np.ndarray, count: int) -> int:
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
        add(state.correlation, row, unit, shift, a, overlaps)
        close(state.closed, row, unit, -1, shape.refractory)
        if not dropped:
            add(state.correlation, new, unit, fit[0], -fit[1], overlaps)
            close(state.closed, new, unit, 1, shape.refractory)
            renew(state, shape, overlaps, new, unit)
        renew(state, shape, overlaps, row, unit)
    return kept


@numba.njit(nogil=True, cache=True)
def _own(
    state: State, overlaps: Overlaps, row: int, unit: int, shift: int, amplitude: np.float32, out: np.ndarray
) -> None:
    """out[d + 2] = the unit's correlation at row + d, the spike itself put back."""
    itself = overlaps.start[unit]
    while overlaps.unit[itself] != unit:
        itself += 1
    overlap, weights = overlaps.lags[itself], overlaps.filters[shift]
    reach, centre = len(weights) // 2, len(overlap) // 2
    for d in range(-2, 3):
        total = np.float32(0)
        for m in range(-reach, reach + 1):
            if 0 <= centre + d + m < len(overlap):
                total += weights[m + reach] * overlap[centre + d + m]
        inside = 0 <= row + d < state.correlation.shape[1]
        out[d + 2] = state.correlation[unit, row + d] + amplitude * total if inside else np.float32(0)


@numba.njit(nogil=True, cache=True)
def _best_beside(state: State, shape: Shape, row: int, unit: int, without: np.ndarray) -> tuple[np.float32, int]:
    """Largest gain within one row of a spike that is put back, and where; NONE where other spikes close the unit."""
    n, k = shape.norms[unit], shape.precision[unit]
    best, best_row = NONE, -1
    for t in range(max(row - 1, state.first), min(row + 2, state.stop)):
        own = 1 if abs(t - row) <= shape.refractory else 0
        if state.closed[unit, t] - own <= 0:
            c = without[t - row + 2]
            gain = gain_of(c, amplitude_of(c, n, k, shape.low, shape.high), n, k)
            if gain > best:
                best, best_row = gain, t
    return best, best_row
