"""Zero-phase filter of a block: one loop over time, channels innermost."""

import numba
import numpy as np


def bandpass(traces: np.ndarray, *, sos: np.ndarray) -> np.ndarray:
    """See `bandpass_numpy`; float32 state, so it differs by about 1e-5 of the largest value."""
    gain = np.float32(np.prod(sos[:, :3].sum(axis=1) / sos[:, 3:].sum(axis=1)))
    sections = np.ascontiguousarray(sos, dtype=np.float32)
    result = np.empty(traces.shape, np.float32)
    first = traces[0].astype(np.float32)
    _run(np.ascontiguousarray(traces), result, sections, first, first * gain, 1)
    last = result[-1].copy()
    _run(result, result, sections, last, last * gain, -1)  # in place: a row is read before it is written
    return result


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _run(
    x: np.ndarray, out: np.ndarray, sos: np.ndarray, before: np.ndarray, after: np.ndarray, direction: int
) -> None:
    """Filter `x` less `before` through all sections, backward for direction -1; `out` is that, plus `after`."""
    n_samples, n_channels = x.shape
    n_sections = sos.shape[0]
    state = np.zeros((n_sections, 2, n_channels), np.float32)
    work = np.empty(n_channels, np.float32)
    for step in range(n_samples):
        # Rows picked so, not of a reversed view: only then the compiler knows that they are contiguous.
        t = step if direction > 0 else n_samples - 1 - step
        row, result = x[t], out[t]
        for c in range(n_channels):
            work[c] = np.float32(row[c]) - before[c]
        for s in range(n_sections):
            b0, b1, b2 = sos[s, 0], sos[s, 1], sos[s, 2]
            a1, a2 = sos[s, 4], sos[s, 5]
            z0, z1 = state[s, 0], state[s, 1]
            for c in range(n_channels):
                value = work[c]
                filtered = b0 * value + z0[c]
                z0[c] = b1 * value - a1 * filtered + z1[c]
                z1[c] = b2 * value - a2 * filtered
                work[c] = filtered
        for c in range(n_channels):
            result[c] = work[c] + after[c]
