"""Which spikes of a unit are its own rather than noise, from the log-odds that pursuit gave them.

Pursuit's log-odds are against Gaussian noise. The background of small far units is heavier than that, by an amount
that differs from unit to unit and recording to recording. So each unit's log-odds are read as a mixture: of the
unit's own spikes, normal around half the squared distance of its template from nothing, with twice that as variance;
and of what noise gives, an exponential tail just above the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import expit, log_ndtr, ndtr

from yass_dask.events import evenly

TAIL = 0.75
"""Rate at which noise grows rarer with its log-odds; 1 in Gaussian noise."""
LEAST_POSTERIOR = 0.45
INDEPENDENT_SAMPLES = 4
SURELY = 3.0
"""A spike is kept that is exp(3) times likelier than noise given the unit's rate, whatever the mixture says."""
FEW = 12
MAX_FITTED = 2000
N_STEPS, STEP = 60, 0.7


class Fits(NamedTuple):
    """What the log-odds of each unit's spikes say; nothing is known of units of fewer than FEW."""

    least: np.ndarray
    """(n_units,) log-odds from which on spikes are kept"""
    accuracy: np.ndarray
    """(n_units,) expected of the kept spikes: the unit's own, over these, the noise kept and the own ones left out"""
    centre: np.ndarray
    """(n_units,) mean log-odds of its own spikes, as a share of what the template's level gives"""


def fit_units(fields: Mapping[str, np.ndarray], levels: np.ndarray, threshold: float, n_samples: int) -> Fits:
    """Fit the mixture of every unit.

    Parameters
    ----------
    fields : unit_index and log_odds of all spikes
    levels : (n_units,) distance of each template from nothing, noise standard deviations
    threshold : log-odds from which on pursuit accepts spikes
    n_samples : length of the recording
    """
    counts = np.bincount(fields["unit_index"], minlength=len(levels))
    prior = prior_log_odds(counts, n_samples)
    least, accuracy, centre = np.maximum(prior, threshold), np.ones(len(levels)), np.ones(len(levels))
    chosen = evenly(fields["unit_index"], MAX_FITTED)
    units, log_odds = fields["unit_index"][chosen], fields["log_odds"][chosen].astype(np.float64)
    order = np.argsort(units, kind="stable")
    start = np.searchsorted(units[order], np.arange(len(levels) + 1))
    for u in np.flatnonzero(counts >= FEW):
        expected = 0.5 * float(levels[u]) ** 2
        share, mean = _mixture(log_odds[order[start[u] : start[u + 1]]], expected, threshold)
        least[u] = min(_crossing(share, mean, threshold), max(prior[u] + SURELY, threshold))
        accuracy[u] = _accuracy(share, mean, threshold, float(least[u]))
        centre[u] = mean / max(expected, 1e-9)
    return Fits(least, accuracy, centre)


def prior_log_odds(counts: np.ndarray, n_samples: int) -> np.ndarray:
    """Log-odds that a spike of a unit with so many spikes needs against the prior odds of Gaussian noise.

    The prior odds are its spikes to the number of independent samples, one in `INDEPENDENT_SAMPLES` for band-passed
    noise.
    """
    return np.log(n_samples / INDEPENDENT_SAMPLES / np.maximum(counts, 1))


def _mixture(log_odds: np.ndarray, expected: float, threshold: float) -> tuple[float, float]:
    """Share of own spikes and the mean of their log-odds, by expectation maximization from the template's level."""
    share, mean = 0.8, max(expected, threshold + 0.5)
    squared, n = log_odds**2, len(log_odds)
    for _ in range(N_STEPS):
        a, b, c = _log_ratio(share, mean, threshold)
        own = expit(a * squared + b * log_odds + c)
        total = float(own.sum())
        share = min(max(total / n, 1e-3), 1 - 1e-3)
        # The mean of what lies above the threshold is higher than that of all.
        sd = math.sqrt(2 * mean)
        low = (threshold - mean) / sd
        excess = sd * math.exp(-0.5 * low**2 - log_ndtr(-low)) / math.sqrt(2 * math.pi)
        mean = max(mean + STEP * (float(own @ log_odds) / max(total, 1e-9) - mean - excess), threshold)
    return share, mean


def _log_ratio(share: float, mean: float, threshold: float) -> tuple[float, float, float]:
    """Log of own spikes to noise at log-odds x, both counted above the threshold: a x^2 + b x + c, as (a, b, c)."""
    above = log_ndtr((mean - threshold) / math.sqrt(2 * mean))
    constant = -0.25 * mean - 0.5 * math.log(4 * math.pi * mean) - above - math.log(TAIL) - TAIL * threshold
    return -0.25 / mean, 0.5 + TAIL, math.log(share / (1 - share)) + float(constant)


def _crossing(share: float, mean: float, threshold: float) -> float:
    """Log-odds from which on a spike is the unit's own with LEAST_POSTERIOR at least."""
    grid = np.linspace(threshold, max(mean, threshold), 400)
    enough = np.polyval(_log_ratio(share, mean, threshold), grid) >= np.log(LEAST_POSTERIOR / (1 - LEAST_POSTERIOR))
    return float(grid[np.argmax(enough)]) if enough.any() else float(grid[-1])


def _accuracy(share: float, mean: float, threshold: float, least: float) -> float:
    """Expected accuracy of the spikes above `least`, the unit's spikes that pursuit did not accept among the missed."""
    sd = np.sqrt(2 * mean)
    own = share / ndtr((mean - threshold) / sd)
    noise = (1 - share) * np.exp(-TAIL * (least - threshold))
    return float(own * ndtr((mean - least) / sd) / (own + noise))
