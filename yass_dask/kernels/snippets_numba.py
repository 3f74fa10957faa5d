"""Cut out aligned waveforms around events."""

import numba
import numpy as np


def snippets(
    traces: np.ndarray,
    *,
    rows: np.ndarray,
    channels: np.ndarray,
    before: int,
    n_samples: int,
    shifts: np.ndarray,
    filters: np.ndarray,
) -> np.ndarray:
    """See `snippets_numpy`; same result but for the last bit of the sums."""
    result = np.zeros((len(rows), n_samples, channels.shape[1]), np.float32)
    _cut(
        traces,
        rows.astype(np.int64),
        channels.astype(np.int64),
        before,
        shifts.astype(np.int64),
        filters,
        result,
    )
    return result


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _cut(
    x: np.ndarray,
    rows: np.ndarray,
    channels: np.ndarray,
    before: int,
    shifts: np.ndarray,
    filters: np.ndarray,
    out: np.ndarray,
) -> None:
    n_rows, n_channels = x.shape
    n, n_samples, n_local = out.shape
    taps = filters.shape[1]
    reach = taps // 2
    for i in range(n):
        weights = filters[shifts[i]]
        start = rows[i] - before
        for w in range(n_samples):
            for m in range(taps):
                t = start + w + m - reach
                if t < 0 or t >= n_rows or weights[m] == 0:
                    continue
                for k in range(n_local):
                    c = channels[i, k]
                    if c < n_channels:
                        out[i, w, k] += weights[m] * x[t, c]
