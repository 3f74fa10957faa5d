"""Which spikes of a unit are its own rather than noise, from the log-odds that pursuit gave them.

Pursuit's log-odds are against Gaussian noise. The background of small far units is heavier than that, by an amount
that differs from unit to unit and recording to recording. So each unit's log-odds are read as a mixture: of the
unit's own spikes, normal around half the squared distance of its template from nothing, with twice that as variance;
and of what noise gives, an exponential tail just above the threshold. Where the tissue moves, spikes are larger at some
displacements than at others: the variance is fitted then, and is only at least as large. A unit that was pursued with
several templates has as many normal distributions, whose means are one multiple of what each template's level gives.
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
LEAST_SEEN = 0.02
"""A template of which pursuit accepts a smaller share of the spikes tells nothing of how many there are."""
MAX_FITTED = 2000
N_STEPS, STEP = 60, 0.7


class Own(NamedTuple):
    """Log-odds of a unit's own spikes: normal, for each of its templates."""

    mean: np.ndarray
    sd: np.ndarray


class Seen(NamedTuple):
    """Log-odds of some of a unit's spikes, and which of its templates each was found with."""

    log_odds: np.ndarray
    """(n_spikes,) float64"""
    template: np.ndarray
    """(n_spikes,)"""
    expected: np.ndarray
    """(n_templates,) mean log-odds by the template's level"""

    @property
    def shares(self) -> np.ndarray:
        """(n_templates,) share of the spikes."""
        shares: np.ndarray = np.bincount(self.template, minlength=len(self.expected)) / len(self.template)
        return shares


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
    spread: np.ndarray | None = None, relative: np.ndarray | None = None,
) -> Fits:  # fmt: skip
    """Fit the mixture of every unit.

    Parameters
    ----------
    fields : unit_index and log_odds of all spikes
    levels : (n_units,) distance of each template from nothing, noise standard deviations
    threshold : log-odds from which on pursuit accepts spikes
    n_samples : length of the recording
    spread : (n_units,) bool, units whose spikes differ in size by more than noise makes them; None: none
    relative : (n_spikes,) level of the template that each spike was found with, in those of its unit; None: 1
    """
    counts = np.bincount(fields["unit_index"], minlength=len(levels))
    prior = prior_log_odds(counts, n_samples)
    least, accuracy, centre = np.maximum(prior, threshold), np.ones(len(levels)), np.ones(len(levels))
    chosen = evenly(fields["unit_index"], MAX_FITTED)
    units, log_odds = fields["unit_index"][chosen], fields["log_odds"][chosen].astype(np.float64)
    order = np.argsort(units, kind="stable")
    start = np.searchsorted(units[order], np.arange(len(levels) + 1))
    for u in np.flatnonzero(counts >= FEW):
        mine = order[start[u] : start[u + 1]]
        sizes, template = np.ones(1), np.zeros(len(mine), np.int64)
        if relative is not None:
            sizes, template = np.unique(relative[chosen][mine], return_inverse=True)
        seen = Seen(log_odds[mine], template, 0.5 * (float(levels[u]) * sizes) ** 2)
        share, own = _mixture(seen, threshold, spread=False)
        least[u] = min(_crossing(share, own, seen, threshold), max(prior[u] + SURELY, threshold))
        if spread is not None and spread[u]:
            least[u] = min(least[u], _crossing(*_mixture(seen, threshold, spread=True), seen, threshold))
        accuracy[u] = _accuracy(share, own, seen, threshold, float(least[u]))
        centre[u] = own.mean[0] / max(seen.expected[0], 1e-9)
    return Fits(least, accuracy, centre)


def prior_log_odds(counts: np.ndarray, n_samples: int) -> np.ndarray:
    """Log-odds that a spike of a unit with so many spikes needs against the prior odds of Gaussian noise.

    The prior odds are its spikes to the number of independent samples, one in `INDEPENDENT_SAMPLES` for band-passed
    noise.
    """
    return np.log(n_samples / INDEPENDENT_SAMPLES / np.maximum(counts, 1))


def _mixture(seen: Seen, threshold: float, *, spread: bool) -> tuple[float, Own]:
    """Share of own spikes and their log-odds, by expectation maximization from the templates' levels."""
    log_odds, template, n = seen.log_odds, seen.template, len(seen.log_odds)
    level = max(float(seen.shares @ seen.expected), 1e-9)
    share, factor, wider = 0.8, max(1.0, (threshold + 0.5) / level), 1.0
    expected = np.maximum(seen.expected, 1e-9)
    for _ in range(N_STEPS):
        mean = factor * expected
        now = Own(mean, np.sqrt(2 * mean * wider))
        own = expit(_at(log_odds, template, *_log_ratio(share, now, threshold)))
        mass = np.bincount(template, own, minlength=len(expected))
        total = max(float(mass.sum()), 1e-9)
        share = min(max(total / n, 1e-3), 1 - 1e-3)
        # What lies above the threshold has a higher mean than all, and is narrower.
        low = (threshold - mean) / now.sd
        hazard = np.exp(-0.5 * low**2 - log_ndtr(-low)) / math.sqrt(2 * math.pi)
        above = np.bincount(template, own * log_odds, minlength=len(expected)) - mass * mean
        if spread:
            squares = np.bincount(template, own * (log_odds - mean[template]) ** 2, minlength=len(expected))
            fitted = float((squares / np.maximum(1 + low * hazard, 0.1) / (2 * mean)).sum()) / total
            most = max(factor * level / 2, 1.0)  # sd from sqrt(2 mean) up to the mean
            wider += STEP * (min(max(fitted, 1.0), most) - wider)
        moved = float((above - mass * now.sd * hazard).sum()) / max(float(mass @ expected), 1e-9)
        factor = max(factor + STEP * moved, threshold / level)
    mean = factor * expected
    return share, Own(mean, np.sqrt(2 * mean * wider))


def _at(x: np.ndarray, template: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """(n,) a x^2 + b x + c, with the numbers of each one's template."""
    if len(a) == 1:
        template = np.zeros(1, np.int64)
    found: np.ndarray = (a[template] * x + b[template]) * x + c[template]
    return found


def _log_ratio(share: float, own: Own, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log of own spikes to noise at log-odds x, both counted above the threshold: a x^2 + b x + c, as (a, b, c)."""
    mean, variance = own.mean, own.sd**2
    above = log_ndtr((mean - threshold) / own.sd)
    constant = -0.5 * mean**2 / variance - 0.5 * np.log(2 * math.pi * variance) - above
    constant -= math.log(TAIL) + TAIL * threshold
    return -0.5 / variance, mean / variance + TAIL, math.log(share / (1 - share)) + constant


def _crossing(share: float, own: Own, seen: Seen, threshold: float) -> float:
    """Log-odds from which on a spike is the unit's own with LEAST_POSTERIOR at least, mean over its templates."""
    found = np.zeros(len(own.mean))
    for k, numbers in enumerate(zip(*_log_ratio(share, own, threshold), strict=True)):
        grid = np.linspace(threshold, max(float(own.mean[k]), threshold), 400)
        enough = np.polyval(numbers, grid) >= np.log(LEAST_POSTERIOR / (1 - LEAST_POSTERIOR))
        found[k] = grid[np.argmax(enough)] if enough.any() else grid[-1]
    return float(seen.shares @ found)


def _accuracy(share: float, own: Own, seen: Seen, threshold: float, least: float) -> float:
    """Expected accuracy of the spikes above `least`, the unit's spikes that pursuit did not accept among the missed."""
    real = share * seen.shares / np.maximum(ndtr((own.mean - threshold) / own.sd), LEAST_SEEN)
    noise = (1 - share) * np.exp(-TAIL * (least - threshold))
    return float(real @ ndtr((own.mean - least) / own.sd) / (real.sum() + noise))
