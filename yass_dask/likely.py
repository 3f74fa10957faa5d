"""Which spikes of a unit are its own rather than noise, from the log-odds that pursuit gave them.

Pursuit's log-odds are against Gaussian noise. The background of small far units is heavier than that, by an amount
that differs from unit to unit and recording to recording. So each unit's log-odds are read as a mixture: of the
unit's own spikes, normal around half the squared distance of its template from nothing, with twice that as variance;
and of what noise gives, an exponential tail just above the threshold. Where the tissue moves, spikes are larger at some
displacements than at others: the variance is fitted then, and is only at least as large.
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


class Own(NamedTuple):
    """Log-odds of a unit's own spikes: normal."""

    mean: float
    sd: float


class Fits(NamedTuple):
    """What the log-odds of each unit's spikes say; nothing is known of units of fewer than FEW."""

    least: np.ndarray
    """(n_units,) log-odds from which on spikes are kept"""
    accuracy: np.ndarray
    """(n_units,) expected of the kept spikes: the unit's own, over these, the noise kept and the own ones left out"""
    centre: np.ndarray
    """(n_units,) mean log-odds of its own spikes, as a share of what the template's level gives"""


def fit_units(
    fields: Mapping[str, np.ndarray], levels: np.ndarray, threshold: float, n_samples: int,
    spread: np.ndarray | None = None,
) -> Fits:  # fmt: skip
    """Fit the mixture of every unit.

    Parameters
    ----------
    fields : unit_index and log_odds of all spikes
    levels : (n_units,) distance of each template from nothing, noise standard deviations
    threshold : log-odds from which on pursuit accepts spikes
    n_samples : length of the recording
    spread : (n_units,) bool, units whose spikes differ in size by more than noise makes them; None: none
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
        mine = log_odds[order[start[u] : start[u + 1]]]
        share, own = _mixture(mine, expected, threshold, spread=False)
        least[u] = min(_crossing(share, own, threshold), max(prior[u] + SURELY, threshold))
        if spread is not None and spread[u]:
            least[u] = min(least[u], _crossing(*_mixture(mine, expected, threshold, spread=True), threshold))
        accuracy[u] = _accuracy(share, own, threshold, float(least[u]))
        centre[u] = own.mean / max(expected, 1e-9)
    return Fits(least, accuracy, centre)


def prior_log_odds(counts: np.ndarray, n_samples: int) -> np.ndarray:
    """Log-odds that a spike of a unit with so many spikes needs against the prior odds of Gaussian noise.

    The prior odds are its spikes to the number of independent samples, one in `INDEPENDENT_SAMPLES` for band-passed
    noise.
    """
    return np.log(n_samples / INDEPENDENT_SAMPLES / np.maximum(counts, 1))


def _mixture(log_odds: np.ndarray, expected: float, threshold: float, *, spread: bool) -> tuple[float, Own]:
    """Share of own spikes and their log-odds, by expectation maximization from the template's level."""
    share, mean, wider = 0.8, max(expected, threshold + 0.5), 1.0
    squared, n = log_odds**2, len(log_odds)
    for _ in range(N_STEPS):
        now = Own(mean, math.sqrt(2 * mean * wider))
        a, b, c = _log_ratio(share, now, threshold)
        own = expit(a * squared + b * log_odds + c)
        total = max(float(own.sum()), 1e-9)
        share = min(max(total / n, 1e-3), 1 - 1e-3)
        # What lies above the threshold has a higher mean than all, and is narrower.
        low = (threshold - mean) / now.sd
        hazard = math.exp(-0.5 * low**2 - log_ndtr(-low)) / math.sqrt(2 * math.pi)
        seen = float(own @ log_odds) / total
        if spread:
            around = float(own @ squared) / total - 2 * mean * seen + mean**2
            fitted = around / max(1 + low * hazard, 0.1) / (2 * mean)
            wider += STEP * (min(max(fitted, 1.0), max(mean / 2, 1.0)) - wider)  # sd from sqrt(2 mean) up to the mean
        mean = max(mean + STEP * (seen - mean - now.sd * hazard), threshold)
    return share, Own(mean, math.sqrt(2 * mean * wider))


def _log_ratio(share: float, own: Own, threshold: float) -> tuple[float, float, float]:
    """Log of own spikes to noise at log-odds x, both counted above the threshold: a x^2 + b x + c, as (a, b, c)."""
    mean, variance = own.mean, own.sd**2
    above = log_ndtr((mean - threshold) / own.sd)
    constant = -0.5 * mean**2 / variance - 0.5 * math.log(2 * math.pi * variance) - above
    constant -= math.log(TAIL) + TAIL * threshold
    return -0.5 / variance, mean / variance + TAIL, math.log(share / (1 - share)) + float(constant)


def _crossing(share: float, own: Own, threshold: float) -> float:
    """Log-odds from which on a spike is the unit's own with LEAST_POSTERIOR at least."""
    grid = np.linspace(threshold, max(own.mean, threshold), 400)
    enough = np.polyval(_log_ratio(share, own, threshold), grid) >= np.log(LEAST_POSTERIOR / (1 - LEAST_POSTERIOR))
    return float(grid[np.argmax(enough)]) if enough.any() else float(grid[-1])


def _accuracy(share: float, own: Own, threshold: float, least: float) -> float:
    """Expected accuracy of the spikes above `least`, the unit's spikes that pursuit did not accept among the missed."""
    real = share / ndtr((own.mean - threshold) / own.sd)
    noise = (1 - share) * np.exp(-TAIL * (least - threshold))
    return float(real * ndtr((own.mean - least) / own.sd) / (real + noise))
