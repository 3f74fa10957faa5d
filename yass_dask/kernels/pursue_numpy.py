"""Matching pursuit on a block, given its correlation with the templates."""

from typing import Any

import numpy as np

from yass_dask.kernels.bank import Bank, Spikes


def pursue(correlation: np.ndarray, *, bank: Bank, given: Spikes, first: int, stop: int, n_sweeps: int) -> Spikes:
    """Explain traces as a sum of templates, the largest gain first.

    The gain of unit u at row t with amplitude a is  2 a c - a^2 n - k (a - 1)^2  (the decrease of the squared norm
    less a Gaussian price for the amplitude), c the correlation with the template, n its squared norm, k its
    precision; a is the best amplitude, clipped to the bounds. Each step takes the largest gain above its unit's
    threshold, the earlier row on a tie, then the lower unit; moves it to the sub-sample peak of the correlation (a
    parabola through three rows); subtracts it; and closes the unit for its refractory time. When nothing is left,
    each spike is put back and fitted again, `n_sweeps` times, in the order of acceptance (coordinate descent), and
    dropped if it no longer reaches the threshold; what that frees is pursued again.

    Parameters
    ----------
    correlation : (n_rows, n_units) float32
        Of the whitened traces with the templates, see `correlate_numpy`.
    bank : templates valid for this block
    given : spikes that stand already (a neighbour block's); they are subtracted first and never moved
    first, stop : spikes are placed in rows [first, stop) only

    Returns
    -------
    The spikes found (not the given ones), sorted by row, then unit.
    """
    state = _State(correlation, bank, first, stop)
    for i in range(len(given.row)):
        state.add(given.row[i], given.unit[i], given.shift[i], -given.amplitude[i])
        state.close(given.row[i], given.unit[i], 1)
    found = state.greedy([])
    for _ in range(n_sweeps):
        found = state.greedy(state.refit(found))
    return _sorted(found)


class _State:
    """Correlations of all units at all rows, and which of them are closed; changes as spikes are subtracted."""

    def __init__(self, correlation: np.ndarray, bank: Bank, first: int, stop: int) -> None:
        self.bank = bank
        self.correlation = correlation.copy()
        self.closed = np.zeros(self.correlation.shape, np.int16)
        rows = np.arange(len(correlation))
        self.outside = (rows < first) | (rows >= stop)

    def gain(self, u: Any = slice(None), rows: Any = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Gains and amplitudes of units at rows, -inf where closed or outside."""
        c = self.correlation[rows, u]
        gain, amplitude = _gain(c, self.bank, u)
        shut = (self.closed[rows, u] > 0) | (self.outside[rows, None] if np.ndim(gain) == 2 else self.outside[rows])
        return np.where(shut, -np.inf, gain), amplitude

    def greedy(self, found: list[tuple]) -> list[tuple]:
        """Take spikes until no gain reaches its threshold."""
        if self.correlation.size == 0:
            return found
        while True:
            gain, _ = self.gain()
            gain[gain <= self.bank.thresholds[None, :]] = -np.inf
            row, unit = np.unravel_index(np.argmax(gain), gain.shape)
            if gain[row, unit] == -np.inf:
                return found
            found.append(self.place(int(row), int(unit)))

    def place(self, row: int, unit: int) -> tuple:
        """Fit the sub-sample shift and amplitude of a spike, subtract it, close its unit."""
        shift, c = _peak(self.correlation[:, unit], row, len(self.bank.filters) - 1)
        gain, amplitude = _gain(c, self.bank, unit)
        self.add(row, unit, shift, -amplitude)
        self.close(row, unit, 1)
        return row, unit, shift, np.float32(amplitude), np.float32(gain)

    def refit(self, found: list[tuple]) -> list[tuple]:
        """Put each spike back in turn and fit it again within one row of where it was."""
        kept = []
        for row, unit, shift, amplitude, _ in found:
            self.add(row, unit, shift, amplitude)
            self.close(row, unit, -1)
            rows = np.arange(max(row - 1, 0), min(row + 2, len(self.outside)))
            gain, _ = self.gain(unit, rows)
            best = int(np.argmax(gain))
            if gain[best] > self.bank.thresholds[unit]:
                kept.append(self.place(int(rows[best]), unit))
        return kept

    def add(self, row: int, unit: int, shift: int, amplitude: float) -> None:
        """Change all correlations as if `amplitude` times the shifted template were added to the traces."""
        bank = self.bank
        n_samples = bank.temporal.shape[2]
        reach = bank.filters.shape[1] // 2
        length = 2 * n_samples - 1 + 2 * reach
        low, high = row - length // 2, row + length // 2 + 1
        cut = slice(max(low, 0), min(high, len(self.correlation)))
        if cut.start >= cut.stop:
            return
        for p in range(bank.pair_start[unit], bank.pair_start[unit + 1]):
            # overlap[lag] of the template shifted by d is overlap(lag - d); lag = row of v - row of u
            overlap = np.convolve(bank.pair_overlap[p], bank.filters[shift][::-1])
            change = np.float32(amplitude) * overlap.astype(np.float32)
            self.correlation[cut, bank.pair_unit[p]] += change[cut.start - low : length - (high - cut.stop)]

    def close(self, row: int, unit: int, change: int) -> None:
        """Close (+1) or reopen (-1) a unit around a spike."""
        reach = self.bank.refractory
        self.closed[max(row - reach, 0) : max(row + reach + 1, 0), unit] += change


def _gain(c: Any, bank: Bank, unit: Any) -> tuple[Any, Any]:
    """Gain and amplitude of correlations `c` of a unit (or all units, along the last axis)."""
    n, k = bank.norms[unit], bank.precision[unit]
    amplitude = np.clip((c + k) / (n + k), np.float32(bank.amplitude_low), np.float32(bank.amplitude_high))
    return 2 * amplitude * c - amplitude * amplitude * n - k * (amplitude - 1) ** 2, amplitude


def _peak(c: np.ndarray, row: int, n_steps: int) -> tuple[int, np.float32]:
    """Sub-sample peak of a correlation: shift index and the value there; none at the ends of the block."""
    if row == 0 or row == len(c) - 1:
        return n_steps // 2, c[row]
    left, middle, right = c[row - 1], c[row], c[row + 1]
    bend = left - 2 * middle + right
    if bend >= 0:
        return n_steps // 2, middle
    offset = min(max(np.float32(0.5) * (left - right) / bend, np.float32(-0.5)), np.float32(0.5))
    index = int(np.floor(offset * n_steps + np.float32(0.5)))
    at = np.float32(index / n_steps)
    value = middle + np.float32(0.5) * (right - left) * at + np.float32(0.5) * bend * at * at
    return index + n_steps // 2, value


def _sorted(found: list[tuple]) -> Spikes:
    """Spikes in the order of row, then unit."""
    order = sorted(range(len(found)), key=lambda i: found[i][:2])
    columns = [[found[i][field] for i in order] for field in range(5)]
    types = (np.int32, np.int32, np.int32, np.float32, np.float32)
    return Spikes(*(np.array(column, kind) for column, kind in zip(columns, types, strict=True)))
