"""Matching pursuit on a block of whitened traces: only what a spike changes is computed again.

The largest gain is kept per cell of rows; a subtraction touches the cells within two template lengths and the
units whose templates overlap in space, so a spike costs the same whatever the block's length or the probe's size.
"""

import numba
import numpy as np

from yass_dask.kernels.bank import Bank, Spikes

CELL = 64
TILE = 1024
NONE = np.float32(-np.inf)


def pursue(traces: np.ndarray, *, bank: Bank, given: Spikes, first: int, stop: int, n_sweeps: int) -> Spikes:
    """See `pursue_numpy`; same spikes but where two gains differ in the last bits only."""
    correlation = _correlate(np.ascontiguousarray(traces.T), bank)
    low, high = np.float32(bank.amplitude_low), np.float32(bank.amplitude_high)
    shape = (bank.norms, bank.precision, bank.thresholds, low, high)
    overlaps = (bank.pair_start, bank.pair_unit, bank.pair_overlap, bank.filters)
    closed = np.zeros(correlation.shape, np.int16)
    for i in range(len(given.row)):
        _add(correlation, given.row[i], given.unit[i], given.shift[i], -given.amplitude[i], overlaps)
        _close(closed, given.row[i], given.unit[i], 1, bank.refractory)
    found = _pursue(correlation, closed, shape, overlaps, bank.refractory, first, stop, n_sweeps)
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


def _correlate(traces: np.ndarray, bank: Bank) -> np.ndarray:
    """(n_units, n_rows) float32 from traces (n_channels, n_rows)."""
    result = np.zeros((len(bank.norms), traces.shape[1]), np.float32)
    _correlate_units(traces, bank.temporal, bank.spatial, bank.support, bank.peak, result)
    return result


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _correlate_units(
    x: np.ndarray, temporal: np.ndarray, spatial: np.ndarray, support: np.ndarray, peak: int, out: np.ndarray
) -> None:
    n_channels, n_rows = x.shape
    n_units, rank, n_samples = temporal.shape
    series = np.zeros(n_rows + n_samples, np.float32)
    for u in range(n_units):
        for r in range(rank):
            series[:] = 0
            inner = series[peak : peak + n_rows]
            for k in range(support.shape[1]):
                if support[u, k] < n_channels:
                    weight = spatial[u, r, k]
                    row = x[support[u, k]]
                    for t in range(n_rows):
                        inner[t] += weight * row[t]
            _convolve(series, temporal[u, r], out[u])


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _convolve(series: np.ndarray, taps: np.ndarray, out: np.ndarray) -> None:
    """out[t] += sum_w taps[w] series[t + w], in tiles that stay in the cache, four taps a pass."""
    n_rows, n_taps = len(out), len(taps)
    whole = n_taps // 4 * 4
    for start in range(0, n_rows, TILE):
        stop = min(start + TILE, n_rows)
        piece = out[start:stop]
        length = stop - start
        for w in range(0, whole, 4):
            a, b, c, d = taps[w], taps[w + 1], taps[w + 2], taps[w + 3]
            s = series[start + w : stop + w + 3]
            for t in range(length):
                piece[t] += a * s[t] + b * s[t + 1] + c * s[t + 2] + d * s[t + 3]
        for w in range(whole, n_taps):
            s = series[start + w : stop + w]
            for t in range(length):
                piece[t] += taps[w] * s[t]


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _add(correlation: np.ndarray, row: int, unit: int, shift: int, amplitude: np.float32, overlaps: tuple) -> None:
    """Change the correlations of all overlapping units as if a template were added to the traces."""
    pair_start, pair_unit, pair_overlap, filters = overlaps
    n_rows = correlation.shape[1]
    n_lags = pair_overlap.shape[1]
    reach = filters.shape[1] // 2
    weights = filters[shift]
    low = row - n_lags // 2 - reach
    length = n_lags + 2 * reach
    padded = np.zeros(n_lags + 4 * reach, np.float32)
    begin, end = max(-low, 0), min(length, n_rows - low)
    for p in range(pair_start[unit], pair_start[unit + 1]):
        padded[2 * reach : 2 * reach + n_lags] = pair_overlap[p]
        target = correlation[pair_unit[p]]
        for m in range(2 * reach + 1):
            weight = amplitude * weights[m]
            if weight != 0:
                for i in range(begin, end):
                    target[low + i] += weight * padded[i + m]


@numba.njit(nogil=True, cache=True)
def _close(closed: np.ndarray, row: int, unit: int, change: int, refractory: int) -> None:
    for t in range(max(row - refractory, 0), min(row + refractory + 1, closed.shape[1])):
        closed[unit, t] += change


@numba.njit(nogil=True, cache=True, inline="always")
def _amplitude(c: np.float32, n: np.float32, k: np.float32, low: np.float32, high: np.float32) -> np.float32:
    return min(max((c + k) / (n + k), low), high)


@numba.njit(nogil=True, cache=True, inline="always")
def _gain(c: np.float32, a: np.float32, n: np.float32, k: np.float32) -> np.float32:
    return np.float32(2) * a * c - a * a * n - k * (a - np.float32(1)) * (a - np.float32(1))


@numba.njit(nogil=True, cache=True)
def _best_in_cell(
    correlation: np.ndarray, closed: np.ndarray, shape: tuple, start: int, stop: int
) -> tuple[np.float32, int, int]:
    """Largest gain above its unit's threshold in rows [start, stop): gain, row, unit; earlier row, then lower unit."""
    norms, precision, thresholds, low, high = shape
    best, best_row, best_unit = NONE, -1, -1
    for u in range(len(norms)):
        n, k, least = norms[u], precision[u], thresholds[u]
        # Below this correlation no amplitude reaches the threshold: at amplitude a, 2 a c - a^2 n <= c^2 / n.
        bound = np.sqrt(max(least, np.float32(0)) * n) * np.float32(0.999)
        row_c, row_closed = correlation[u], closed[u]
        for t in range(start, stop):
            c = row_c[t]
            if c <= bound or row_closed[t] > 0:
                continue
            gain = _gain(c, _amplitude(c, n, k, low, high), n, k)
            if gain > least and (gain > best or (gain == best and t < best_row)):
                best, best_row, best_unit = gain, t, u
    return best, best_row, best_unit


@numba.njit(nogil=True, cache=True)
def _peak(c: np.ndarray, row: int, n_steps: int) -> tuple[int, np.float32]:
    half = np.float32(0.5)
    if row == 0 or row == len(c) - 1:
        return n_steps // 2, c[row]
    left, middle, right = c[row - 1], c[row], c[row + 1]
    bend = left - np.float32(2) * middle + right
    if bend >= 0:
        return n_steps // 2, middle
    offset = min(max(half * (left - right) / bend, -half), half)
    index = int(np.floor(offset * np.float32(n_steps) + half))
    at = np.float32(index) / np.float32(n_steps)
    return index + n_steps // 2, middle + half * (right - left) * at + half * bend * at * at


@numba.njit(nogil=True, cache=True)
def _write(found: np.ndarray, i: int, row: int, unit: int, shift: int, amplitude: np.float32, gain: np.float32) -> None:
    found[i, 0], found[i, 1], found[i, 2], found[i, 3], found[i, 4] = row, unit, shift, amplitude, gain


@numba.njit(nogil=True, cache=True)
def _place(
    correlation: np.ndarray,
    closed: np.ndarray,
    shape: tuple,
    overlaps: tuple,
    refractory: int,
    row: int,
    unit: int,
) -> tuple[int, np.float32, np.float32]:
    """Fit shift and amplitude of a spike, subtract it, close its unit; returns shift, amplitude, gain."""
    norms, precision, _, low, high = shape
    shift, c = _peak(correlation[unit], row, len(overlaps[3]) - 1)
    a = _amplitude(c, norms[unit], precision[unit], low, high)
    _add(correlation, row, unit, shift, -a, overlaps)
    _close(closed, row, unit, 1, refractory)
    return shift, a, _gain(c, a, norms[unit], precision[unit])


@numba.njit(nogil=True, cache=True)
def _pursue(
    correlation: np.ndarray,
    closed: np.ndarray,
    shape: tuple,
    overlaps: tuple,
    refractory: int,
    first: int,
    stop: int,
    n_sweeps: int,
) -> np.ndarray:
    found = np.empty((64, 5), np.float64)
    found, count = _greedy(correlation, closed, shape, overlaps, refractory, first, stop, found, 0)
    for _ in range(n_sweeps):
        count = _refit(correlation, closed, shape, overlaps, refractory, first, stop, found, count)
        found, count = _greedy(correlation, closed, shape, overlaps, refractory, first, stop, found, count)
    return found[:count]


@numba.njit(nogil=True, cache=True)
def _greedy(
    correlation: np.ndarray,
    closed: np.ndarray,
    shape: tuple,
    overlaps: tuple,
    refractory: int,
    first: int,
    stop: int,
    found: np.ndarray,
    count: int,
) -> tuple[np.ndarray, int]:
    """Take spikes until no gain reaches its threshold; appends to `found` (row, unit, shift, amplitude, gain)."""
    n_cells = (stop - first + CELL - 1) // CELL
    gains = np.empty(n_cells, np.float32)
    rows = np.empty(n_cells, np.int64)
    units = np.empty(n_cells, np.int64)
    touched = max(overlaps[2].shape[1] // 2 + overlaps[3].shape[1] // 2, refractory)
    low_cell, high_cell = 0, n_cells
    while True:
        for i in range(low_cell, high_cell):
            start = first + i * CELL
            gains[i], rows[i], units[i] = _best_in_cell(correlation, closed, shape, start, min(start + CELL, stop))
        if n_cells == 0:
            return found, count
        best = np.argmax(gains)
        if gains[best] == NONE:
            return found, count
        row, unit = rows[best], units[best]
        shift, amplitude, gain = _place(correlation, closed, shape, overlaps, refractory, row, unit)
        if count == len(found):
            found = np.concatenate((found, np.empty_like(found)))
        _write(found, count, row, unit, shift, amplitude, gain)
        count += 1
        low_cell = max((row - touched - first) // CELL, 0)
        high_cell = min((row + touched - first) // CELL + 1, n_cells)


@numba.njit(nogil=True, cache=True)
def _refit(
    correlation: np.ndarray,
    closed: np.ndarray,
    shape: tuple,
    overlaps: tuple,
    refractory: int,
    first: int,
    stop: int,
    found: np.ndarray,
    count: int,
) -> int:
    """Put each spike back in turn and fit it again within one row; spikes below the threshold are dropped."""
    norms, precision, thresholds, low, high = shape
    kept = 0
    for i in range(count):
        row, unit = int(found[i, 0]), int(found[i, 1])
        _add(correlation, row, unit, int(found[i, 2]), np.float32(found[i, 3]), overlaps)
        _close(closed, row, unit, -1, refractory)
        best, best_row = NONE, -1
        for t in range(max(row - 1, first), min(row + 2, stop)):
            if closed[unit, t] <= 0:
                c = correlation[unit, t]
                gain = _gain(c, _amplitude(c, norms[unit], precision[unit], low, high), norms[unit], precision[unit])
                if gain > best:
                    best, best_row = gain, t
        if best > thresholds[unit]:
            shift, a, gain = _place(correlation, closed, shape, overlaps, refractory, best_row, unit)
            _write(found, kept, best_row, unit, shift, a, gain)
            kept += 1
    return kept
