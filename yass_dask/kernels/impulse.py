"""Impulse responses: a recursive filter as a convolution, for machines that do not like recursions."""

from functools import lru_cache

import numpy as np
from scipy.signal import sosfilt

NEGLIGIBLE = 1e-9
"""Of its largest value: the response ends where it stays below this."""


@lru_cache(maxsize=8)
def impulse_response(sos: bytes, n: int) -> tuple[np.ndarray, np.float32]:
    """Response of a filter to one sample, and its gain at 0 Hz.

    Parameters
    ----------
    sos : bytes of (n_sections, 6) float64 second-order sections
    n : longest response needed

    Returns
    -------
    (n_taps,) float32, n_taps <= n; gain
    """
    sections = np.frombuffer(sos, np.float64).reshape(-1, 6).copy()
    response = sosfilt(sections, np.eye(1, n)[0])
    heard = np.abs(response) > NEGLIGIBLE * np.abs(response).max()
    last = int(np.flatnonzero(heard).max(initial=0))
    gain = np.prod(sections[:, :3].sum(axis=1) / sections[:, 3:].sum(axis=1))
    return response[: last + 1].astype(np.float32), np.float32(gain)
