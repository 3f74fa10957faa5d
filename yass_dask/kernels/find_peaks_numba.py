"""Threshold extrema with spatio-temporal exclusion: only samples over threshold are looked at twice."""

import numba
import numpy as np

RUN = 64
"""Samples that are passed over together where none reaches the threshold."""


def find_peaks(
    traces: np.ndarray,
    *,
    threshold: float,
    sign: int,
    exclusion: int,
    neighbors: np.ndarray,
    first: int,
    stop: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `find_peaks_numpy`; same result, sample for sample. Fastest for traces contiguous along time."""
    by_channel = np.ascontiguousarray(traces.T)
    found = _find(by_channel, np.float32(threshold), sign, exclusion, neighbors.astype(np.int32), first, stop)
    found = found[np.lexsort((found[:, 1], found[:, 0]))]
    samples, channels = found[:, 0].copy(), found[:, 1].copy()
    return samples, channels, traces[samples, channels]


@numba.njit(nogil=True, cache=True, inline="always")
def _strength(value: np.float32, sign: int) -> np.float32:
    return abs(value) if sign == 0 else np.float32(sign) * value


@numba.njit(nogil=True, cache=True)
def _find(
    x: np.ndarray,
    threshold: np.float32,
    sign: int,
    exclusion: int,
    neighbors: np.ndarray,
    first: int,
    stop: int,
) -> np.ndarray:
    """(n, 2) row and channel, channel by channel, from x (n_channels, n_rows)."""
    n_channels, n_rows = x.shape
    found = np.empty((256, 2), np.int32)
    count = 0
    for c in range(n_channels):
        row = x[c]
        for start in range(first, stop, RUN):
            end = min(start + RUN, stop)
            if not _any_loud(row[start:end], threshold, sign):
                continue
            for t in range(start, end):
                value = _strength(row[t], sign)
                if value < threshold:
                    continue
                # Cheap look at the samples beside it first: it rejects nearly all.
                if exclusion > 0 and t > 0 and _strength(row[t - 1], sign) >= value:
                    continue
                if exclusion > 0 and t + 1 < n_rows and _strength(row[t + 1], sign) > value:
                    continue
                if _is_extremum(x, t, c, value, sign, exclusion, neighbors[c]):
                    if count == len(found):
                        found = np.concatenate((found, np.empty_like(found)))
                    found[count, 0] = t
                    found[count, 1] = c
                    count += 1
    return found[:count].copy()


@numba.njit(nogil=True, cache=True)
def _any_loud(values: np.ndarray, threshold: np.float32, sign: int) -> bool:
    """Does any reach the threshold? Counted without a branch: many values at once."""
    count = 0
    if sign == 0:
        for value in values:
            count += abs(value) >= threshold
    else:
        for value in values:
            count += np.float32(sign) * value >= threshold
    return count > 0


@numba.njit(nogil=True, cache=True)
def _is_extremum(x: np.ndarray, t: int, c: int, value: np.float32, sign: int, exclusion: int, near: np.ndarray) -> bool:
    n_channels, n_rows = x.shape
    for k in range(len(near)):
        d = near[k]
        if d >= n_channels:
            continue
        for u in range(max(t - exclusion, 0), min(t + exclusion + 1, n_rows)):
            if u == t and d == c:
                continue
            other = _strength(x[d, u], sign)
            if other > value or (other == value and (u < t or (u == t and d < c))):
                return False
    return True
