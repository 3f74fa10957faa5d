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
    log_det = -np.linalg.slogdet(prior.scale)[1]
    found: tuple[np.ndarray, float] = _steps(
        means, weights, moments, np.ascontiguousarray(resp), prior, float(log_det), steps
    )
    return found


@numba.njit(nogil=True, cache=True)
def _steps(
    means: np.ndarray, weights: np.ndarray, moments: np.ndarray, resp: np.ndarray, prior: Prior, log_det0: float,
    steps: int,
) -> tuple[np.ndarray, float]:  # fmt: skip
    """Loops rather than array expressions, which take seconds to compile, but for the large products."""
    d = means.shape[1]
    k = resp.shape[1]
    wishart0 = _log_wishart(prior.nu, log_det0, d)
    bound = last = -np.inf
    linear, quadratic, constant = np.empty((d, k)), np.empty((d * d, k)), np.empty(k)
    for _ in range(steps):
        weighted, mass = _weighted(resp, weights)
        sums, squares, price, total = weighted @ means, weighted @ moments, 0.0, k * prior.alpha
        for c in range(k):
            total += mass[c]
        for c in range(k):
            centre, inverse, log_det = _cluster(mass[c], sums[c], squares[c], prior)
            nu, beta, alpha = prior.nu + mass[c], prior.beta + mass[c], prior.alpha + mass[c]
            spread, shift, scale = _forms(centre, inverse, nu, prior, linear[:, c], quadratic[:, c])
            log_precision = _log_precision(nu, log_det, d)
            share = _digamma(alpha) - _digamma(total)
            constant[c] = share + 0.5 * (log_precision - d * math.log(2 * math.pi) - d / beta - nu * spread)
            price += 0.5 * d * (prior.beta / beta - 1 + math.log(beta / prior.beta))
            price += 0.5 * prior.beta * nu * shift
            price += _log_wishart(nu, log_det, d) - wishart0
            price += 0.5 * (nu - prior.nu) * log_precision - 0.5 * nu * d + 0.5 * nu * scale
            price += mass[c] * share - math.lgamma(alpha) + math.lgamma(prior.alpha)
        price += math.lgamma(total) - math.lgamma(k * prior.alpha)
        resp = means @ linear + moments @ quadratic
        bound = _normalise(resp, constant, weights) - price
        if bound - last < TOLERANCE * max(1.0, abs(bound) * 1e-6):
            break
        last = bound
    return resp, bound


@numba.njit(nogil=True, cache=True)
def _weighted(resp: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n_clusters, n) weighted responsibilities, and their sums."""
    n, k = resp.shape
    weighted, mass = np.empty((k, n)), np.zeros(k)
    for i in range(n):
        for c in range(k):
            weighted[c, i] = resp[i, c] * weights[i]
    for c in range(k):
        for value in weighted[c]:
            mass[c] += value
    return weighted, mass


@numba.njit(nogil=True, cache=True)
def _forms(
    centre: np.ndarray, inverse: np.ndarray, nu: float, prior: Prior, linear: np.ndarray, quadratic: np.ndarray
) -> tuple[float, float, float]:
    """centre' W centre, the same of its distance from the prior's, and the trace of W and the prior's scale; fills in
    the coefficients of a cluster's log density."""
    d = len(centre)
    spread = shift = scale = 0.0
    for i in range(d):
        turned = moved = 0.0
        for j in range(d):
            turned += inverse[i, j] * centre[j]
            moved += inverse[i, j] * (centre[j] - prior.mean[j])
            scale += inverse[i, j] * prior.scale[i, j]
            quadratic[i * d + j] = -0.5 * nu * inverse[i, j]
        linear[i] = nu * turned
        spread += turned * centre[i]
        shift += moved * (centre[i] - prior.mean[i])
    return spread, shift, scale


@numba.njit(nogil=True, cache=True)
def _cluster(mass: float, total: np.ndarray, square: np.ndarray, prior: Prior) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, W and log |W| of a cluster."""
    d, beta = len(total), prior.beta + mass
    centre, inverse_w = np.empty(d), np.empty((d, d))
    for i in range(d):
        centre[i] = (prior.beta * prior.mean[i] + total[i]) / beta
    for i in range(d):
        for j in range(d):
            second = 0.5 * (square[i * d + j] + square[j * d + i])
            around = prior.beta * prior.mean[i] * prior.mean[j] - beta * centre[i] * centre[j]
            inverse_w[i, j] = prior.scale[i, j] + second + around
    values, vectors = np.linalg.eigh(inverse_w)
    log_det, scaled = 0.0, np.empty((d, d))
    for k in range(d):
        value = max(values[k], 1e-6)
        log_det -= math.log(value)
        for i in range(d):
            scaled[i, k] = vectors[i, k] / value
    return centre, scaled @ vectors.T, log_det


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
