"""Where peaks come from, peak by peak; what a channel's sources would look like is computed once a channel."""

import numba
import numpy as np


def localize(
    traces: np.ndarray,
    *,
    rows: np.ndarray,
    channels: np.ndarray,
    reach: int,
    sites: np.ndarray,
    positions: np.ndarray,
    grid: np.ndarray,
) -> np.ndarray:
    """See `localize_numpy`; the same sums in another order."""
    places = np.zeros((len(rows), 2), np.float32)
    order = np.argsort(channels, kind="stable")
    _localize(traces, rows, channels, order, reach, sites, positions, grid, places)
    return places


@numba.njit(nogil=True, cache=True)
def _localize(
    traces: np.ndarray,
    rows: np.ndarray,
    channels: np.ndarray,
    order: np.ndarray,
    reach: int,
    sites: np.ndarray,
    positions: np.ndarray,
    grid: np.ndarray,
    places: np.ndarray,
) -> None:
    n_channels, last = traces.shape[1], -1
    seen = np.empty((sites.shape[1], len(grid)))
    sizes, explained = np.empty(sites.shape[1]), np.empty(len(grid))
    n_local = 0
    for peak in order:
        site, row = channels[peak], rows[peak]
        if site != last:
            n_local = _see(seen, sites[site], positions, site, grid, n_channels)
            last = site
        total = _measure(sizes, traces, row, site, sites[site], reach)
        explained[:] = 0
        for c in range(n_local):
            for p in range(len(grid)):
                explained[p] += sizes[c] * seen[c, p]
        best = 0.0
        for p in range(len(grid)):
            explained[p] = max(explained[p], 0.0) ** 2
            best = max(best, explained[p])
        noise = max((total - best) / max(n_local - 4, 1), 1.0)
        weights, across, along = 0.0, 0.0, 0.0
        for p in range(len(grid)):
            weight = np.exp((explained[p] - best) / (2 * noise))
            weights += weight
            across += weight * grid[p, 0]
            along += weight * grid[p, 1]
        places[peak, 0] = positions[site, 0] + across / weights
        places[peak, 1] = positions[site, 1] + along / weights


@numba.njit(nogil=True, cache=True)
def _see(
    seen: np.ndarray, local: np.ndarray, positions: np.ndarray, site: int, grid: np.ndarray, n_channels: int
) -> int:
    """Fill seen (n_local, n_points): a source at each point of the grid, scaled to norm 1; give n_local."""
    n_local = 0
    while n_local < len(local) and local[n_local] < n_channels:
        n_local += 1
    for p in range(len(grid)):
        power = 0.0
        for c in range(n_local):
            x = grid[p, 0] - (positions[local[c], 0] - positions[site, 0])
            y = grid[p, 1] - (positions[local[c], 1] - positions[site, 1])
            seen[c, p] = 1 / np.sqrt(x * x + y * y + grid[p, 2] ** 2)
            power += seen[c, p] ** 2
        for c in range(n_local):
            seen[c, p] /= np.sqrt(power)
    return n_local


@numba.njit(nogil=True, cache=True)
def _measure(sizes: np.ndarray, traces: np.ndarray, row: int, site: int, local: np.ndarray, reach: int) -> float:
    """Fill sizes (n_local,) of a peak; give the sum of their squares."""
    power, total = 0.0, 0.0
    for t in range(row - reach, row + reach + 1):
        power += np.float64(traces[t, site]) ** 2
    for c in range(len(local)):
        sizes[c] = 0.0
        if local[c] >= traces.shape[1]:
            continue
        for t in range(row - reach, row + reach + 1):
            sizes[c] += np.float64(traces[t, site]) * traces[t, local[c]]
        sizes[c] /= max(np.sqrt(power), 1e-9)
        total += sizes[c] ** 2
    return total
