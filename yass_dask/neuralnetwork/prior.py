"""The threshold of a classifier on waveforms that nobody has labelled."""

from __future__ import annotations

import numpy as np

LEAST_WAVEFORMS = 100
"""With fewer the share of the clean ones cannot be told: the network's own threshold stays."""
TURNS = 200
DIGITS = 2
"""Log-odds are rounded to so many: backends agree to some 1e-6, and must have the same threshold."""


def least_log_odds(log_odds: np.ndarray, kept: float) -> float:
    """Log-odds that about so large a share of the waveforms of class 1 reaches; 0 where there are too few waveforms.

    The network has learned from as many of either class as of the other; how many there are here is found by
    expectation and maximisation over the prior alone (Saerens, Latinne and Decaestecker 2002, Neural Computation 14).

    Parameters
    ----------
    log_odds : (n,) of waveforms, whatever they are
    kept : share of class 1, between 0 and 1
    """
    if len(log_odds) < LEAST_WAVEFORMS:
        return 0.0
    found = np.sort(log_odds.astype(np.float64))
    share, one = 0.5, 1 / len(found)
    for _ in range(TURNS):
        probability = 0.5 * (1 + np.tanh(0.5 * (found + np.log(share) - np.log1p(-share))))
        share = float(np.clip(probability.mean(), one, 1 - one))
    below = np.cumsum(probability)
    first = int(np.searchsorted(below, (1 - kept) * below[-1]))
    return round(float(found[min(first, len(found) - 1)]), DIGITS)
