"""The mixture of `mixture_numpy`, its fit compiled: most fits are of few cells, where whole-array calls cost more
than what they compute."""

import math

import numba
import numpy as np

from yass_dask.kernels.mixture_numpy import TOLERANCE
from yass_dask.kernels.mixture_search import Data, Prior, search

LARGE = 8.0
"""From here on the asymptotic series of the digamma function is exact to 1e-11."""


def mixture(
    means: np.ndarray, *, weights: np.ndarray, scatter: np.ndarray, max_clusters: int, min_weight: float
) -> np.ndarray:
    """See `mixture_numpy`; sums in another order."""
    return search(means, weights, scatter, max_clusters, min_weight, _fit)


def _fit(data: Data, resp: np.ndarray, prior: Prior, steps: int) -> tuple[np.ndarray, float]:
    means, weights, moments = (np.ascontiguousarray(a) for a in data)
    found: tuple[np.ndarray, float] = _steps(means, weights, moments, np.ascontiguousarray(resp), prior, steps)
    return found


@numba.njit(nogil=True, cache=True)
def _steps(
    means: np.ndarray, weights: np.ndarray, moments: np.ndarray, resp: np.ndarray, prior: Prior, steps: int
) -> tuple[np.ndarray, float]:
    n, d = means.shape
    k = resp.shape[1]
    wishart0 = _log_wishart(prior.nu, -np.linalg.slogdet(prior.scale)[1], d)
    bound = last = -np.inf
    for _ in range(steps):
        weighted = np.ascontiguousarray((resp * weights.reshape(n, 1)).T)
        mass, sums, squares = weighted.sum(axis=1), weighted @ means, weighted @ moments
        linear, quadratic = np.empty((d, k)), np.empty((d * d, k))
        constant, price = np.empty(k), 0.0
        total = k * prior.alpha + mass.sum()
        for c in range(k):
            centre, inverse, log_det = _cluster(mass[c], sums[c], squares[c].reshape(d, d), prior)
            nu, beta, alpha = prior.nu + mass[c], prior.beta + mass[c], prior.alpha + mass[c]
            turned = inverse @ centre
            linear[:, c], quadratic[:, c] = nu * turned, -0.5 * nu * inverse.reshape(d * d)
            log_precision = _log_precision(nu, log_det, d)
            constant[c] = _digamma(alpha) - _digamma(total)
            constant[c] += 0.5 * (log_precision - d * math.log(2 * math.pi) - d / beta - nu * (turned @ centre))
            shifted = centre - prior.mean
            price += 0.5 * d * (prior.beta / beta - 1 + math.log(beta / prior.beta))
            price += 0.5 * prior.beta * nu * (shifted @ (inverse @ shifted))
            price += _log_wishart(nu, log_det, d) - wishart0
            price += 0.5 * (nu - prior.nu) * log_precision - 0.5 * nu * d + 0.5 * nu * (prior.scale * inverse).sum()
            price += mass[c] * (_digamma(alpha) - _digamma(total)) - math.lgamma(alpha) + math.lgamma(prior.alpha)
        price += math.lgamma(total) - math.lgamma(k * prior.alpha)
        resp = means @ linear + moments @ quadratic
        bound = _normalise(resp, constant, weights) - price
        if bound - last < TOLERANCE * max(1.0, abs(bound) * 1e-6):
            break
        last = bound
    return resp, bound


@numba.njit(nogil=True, cache=True)
def _cluster(mass: float, total: np.ndarray, square: np.ndarray, prior: Prior) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, W and log |W| of a cluster."""
    beta = prior.beta + mass
    centre = (prior.beta * prior.mean + total) / beta
    inverse_w = prior.scale + prior.beta * np.outer(prior.mean, prior.mean) + square - beta * np.outer(centre, centre)
    values, vectors = np.linalg.eigh(0.5 * (inverse_w + inverse_w.T))
    values = np.maximum(values, 1e-6)
    return centre, (vectors / values) @ vectors.T, -np.log(values).sum()


@numba.njit(nogil=True, cache=True)
def _normalise(resp: np.ndarray, constant: np.ndarray, weights: np.ndarray) -> float:
    """Turn log joints, less a constant a cluster, into responsibilities in place; the evidence of all points."""
    evidence = 0.0
    for i in range(len(resp)):
        row = resp[i]
        top = -np.inf
        for c in range(len(row)):
            row[c] += constant[c]
            top = max(top, row[c])
        total = 0.0
        for c in range(len(row)):
            row[c] = math.exp(row[c] - top)
            total += row[c]
        for c in range(len(row)):
            row[c] /= total
        evidence += weights[i] * (top + math.log(total))
    return evidence


@numba.njit(nogil=True, cache=True)
def _log_precision(nu: float, log_det: float, d: int) -> float:
    total = d * math.log(2.0) + log_det
    for i in range(d):
        total += _digamma((nu - i) / 2)
    return total


@numba.njit(nogil=True, cache=True)
def _log_wishart(nu: float, log_det: float, d: int) -> float:
    total = -0.5 * nu * log_det - 0.5 * nu * d * math.log(2.0) - d * (d - 1) / 4 * math.log(math.pi)
    for i in range(d):
        total -= math.lgamma((nu - i) / 2)
    return total


@numba.njit(nogil=True, cache=True)
def _digamma(x: float) -> float:
    """Derivative of log gamma for x > 0: recurrence up to LARGE, then the asymptotic series."""
    result = 0.0
    while x < LARGE:
        result -= 1 / x
        x += 1
    s = 1 / (x * x)
    tail = s * (1 / 12 - s * (1 / 120 - s * (1 / 252 - s * (1 / 240 - s * (1 / 132)))))
    return result + math.log(x) - 0.5 / x - tail
