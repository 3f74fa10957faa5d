"""The search for the number of clusters of a mixture: what its backends share; they fit."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

LOCAL_STEPS = 12
GLOBAL_STEPS = 25
SPLIT_AXES = 3


class Data(NamedTuple):
    """Weighted cells; both steps of a fit need their second moments, and nothing else of their scatter."""

    means: np.ndarray
    """(n_cells, D)"""
    weights: np.ndarray
    """(n_cells,)"""
    moments: np.ndarray
    """(n_cells, D * D): covariance within a cell plus its mean's square"""

    def of(self, cells: np.ndarray) -> "Data":
        """Some of the cells."""
        return Data(self.means[cells], self.weights[cells], self.moments[cells])


class Prior(NamedTuple):
    """Normal-Wishart prior: clusters of about unit covariance (noise), centres anywhere in the data."""

    mean: np.ndarray
    beta: float
    nu: float
    scale: np.ndarray
    """nu0 - D - 1 times the expected covariance"""
    alpha: float


class Posterior(NamedTuple):
    """Clusters of a fit."""

    alpha: np.ndarray
    beta: np.ndarray
    nu: np.ndarray
    mean: np.ndarray
    inverse: np.ndarray
    """(n_clusters, D, D): W, so that nu W is the expected precision"""
    log_det: np.ndarray
    """log |W|"""


Fit = Callable[[Data, np.ndarray, Prior, int], tuple[np.ndarray, float]]
"""(data, responsibilities, prior, steps) -> responsibilities, bound"""


def search(
    means: np.ndarray, weights: np.ndarray, scatter: np.ndarray, max_clusters: int, min_weight: float, fit: Fit
) -> np.ndarray:
    """See `mixture_numpy.mixture`."""
    means, weights, scatter = (np.asarray(a, np.float64) for a in (means, weights, scatter))
    data = Data(means, weights, (scatter + means[:, :, None] * means[:, None, :]).reshape(len(means), -1))
    prior = _prior(means, weights)
    resp, bound = fit(data, np.ones((len(means), 1)), prior, 1)
    tried: set[tuple[int, ...]] = set()
    for _ in range(max_clusters):
        grown = _split_all(data, resp, prior, min_weight, tried, max_clusters, fit)
        if grown is None:
            break
        grown, grown_bound = fit(data, grown, prior, GLOBAL_STEPS)
        grown, grown_bound = _without_small(data, grown, grown_bound, prior, min_weight, fit)
        # Splits that look good alone may take from each other: only a better whole is kept.
        if grown_bound <= bound:
            break
        resp, bound = grown, grown_bound
    return _merge_all(data, resp, prior, fit)


def _prior(means: np.ndarray, weights: np.ndarray) -> Prior:
    d = means.shape[1]
    centre = np.average(means, axis=0, weights=weights)
    spread = np.average(((means - centre) ** 2).sum(axis=1), weights=weights) / d
    nu = d + 1 + 10.0
    return Prior(centre, 1.0 / max(spread, 1.0), nu, np.eye(d) * (nu - d - 1), 1.0)


def m_step(data: Data, resp: np.ndarray, prior: Prior) -> Posterior:
    """Clusters from responsibilities."""
    means, weights, moments = data
    d = means.shape[1]
    wr = weights[:, None] * resp
    mass = wr.sum(axis=0)
    beta, nu = prior.beta + mass, prior.nu + mass
    centre = (prior.beta * prior.mean + wr.T @ means) / beta[:, None]
    second = (wr.T @ moments).reshape(-1, d, d)
    inside = prior.scale + prior.beta * np.outer(prior.mean, prior.mean)
    inverse_w = inside + second - beta[:, None, None] * centre[:, :, None] * centre[:, None, :]
    inverse_w = 0.5 * (inverse_w + inverse_w.transpose(0, 2, 1))
    values, vectors = np.linalg.eigh(inverse_w)
    values = np.maximum(values, 1e-6)
    w = (vectors / values[:, None, :]) @ vectors.transpose(0, 2, 1)
    return Posterior(prior.alpha + mass, beta, nu, centre, w, -np.log(values).sum(axis=1))


def _split_all(
    data: Data, resp: np.ndarray, prior: Prior, min_weight: float, tried: set, limit: int, fit: Fit
) -> np.ndarray | None:
    """Split every cluster whose two halves explain its cells better; None if there is none."""
    owner = resp.argmax(axis=1)
    grown = resp
    for k in range(resp.shape[1]):
        members = np.flatnonzero(owner == k)
        key = tuple(members[:: max(1, len(members) // 50)])
        if data.weights[members].sum() < 2 * min_weight or len(members) < 4 or key in tried or grown.shape[1] >= limit:
            continue
        halves = _best_split(data.of(members), prior, min_weight, fit)
        if halves is None:
            tried.add(key)
            continue
        new = np.zeros((len(resp), 1))
        new[members, 0] = grown[members, k] * halves
        grown = np.hstack([grown, new])
        grown[members, k] *= 1 - halves
    return None if grown is resp else grown


def _best_split(data: Data, prior: Prior, min_weight: float, fit: Fit) -> np.ndarray | None:
    """(n,) responsibility of the second half, None if one cluster is at least as good."""
    means, weights = data.means, data.weights
    _, single = fit(data, np.ones((len(means), 1)), prior, 1)
    best, best_bound = None, single
    centred = means - np.average(means, axis=0, weights=weights)
    _, axes = np.linalg.eigh((centred * weights[:, None]).T @ centred)
    for axis in axes[:, ::-1][:, :SPLIT_AXES].T:
        second = (centred @ axis > two_means(centred @ axis, weights)).astype(np.float64)
        resp, bound = fit(data, np.stack([1 - second, second], axis=1), prior, LOCAL_STEPS)
        mass = weights @ resp
        if mass.min() >= min_weight and bound > best_bound:
            best, best_bound = resp[:, 1], bound
    return best


def two_means(values: np.ndarray, weights: np.ndarray) -> float:
    """Threshold that splits weighted values into two groups of least inner variance."""
    order = np.argsort(values, kind="stable")
    v, w = values[order], weights[order]
    left = np.cumsum(w)[:-1]
    sums = np.cumsum(w * v)
    right = left[-1] + w[-1] - left
    between = sums[:-1] ** 2 / left + (sums[-1] - sums[:-1]) ** 2 / right
    cut = int(np.argmax(between))
    return float(0.5 * (v[cut] + v[cut + 1]))


def _without_small(
    data: Data, resp: np.ndarray, bound: float, prior: Prior, min_weight: float, fit: Fit
) -> tuple[np.ndarray, float]:
    """Let clusters of too few points die, one at a time, the smallest first; with the bound of what is left."""
    while resp.shape[1] > 1:
        mass = data.weights @ resp
        smallest = int(mass.argmin())
        if mass[smallest] >= min_weight:
            break
        rest = np.delete(resp, smallest, axis=1)
        orphans = rest.sum(axis=1) < 1e-9
        rest[orphans] = 1.0
        resp, bound = fit(data, rest / rest.sum(axis=1, keepdims=True), prior, LOCAL_STEPS)
    return resp, bound


def _merge_all(data: Data, resp: np.ndarray, prior: Prior, fit: Fit) -> np.ndarray:
    """Merge pairs, the nearest first, while one cluster explains both at least as well as two."""
    merged = True
    while merged and resp.shape[1] > 1:
        merged = False
        post = m_step(data, resp, prior)
        for i, j in _nearest_pairs(post):
            cells = np.flatnonzero(resp[:, i] + resp[:, j] > 0.5)
            if len(cells) == 0:
                continue
            local = data.of(cells)
            pair = resp[cells][:, [i, j]]
            _, two = fit(local, pair / pair.sum(axis=1, keepdims=True), prior, 1)
            _, one = fit(local, np.ones((len(cells), 1)), prior, 1)
            if one >= two:
                resp = resp.copy()
                resp[:, i] += resp[:, j]
                resp = np.delete(resp, j, axis=1)
                merged = True
                break
    return resp


def _nearest_pairs(post: Posterior) -> list[tuple[int, int]]:
    """Pairs (i < j) in the order of Mahalanobis distance; each cluster with its two nearest only."""
    n = len(post.nu)
    precision = post.nu[:, None, None] * post.inverse
    shifted = post.mean[:, None] - post.mean[None]
    distance = np.einsum("ijd,ide,ije->ij", shifted, precision, shifted)
    distance = np.minimum(distance, distance.T) + np.where(np.eye(n, dtype=bool), np.inf, 0)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :2].tolist()
    near = {(min(i, j), max(i, j)) for i in range(n) for j in nearest[i] if i != j}
    return sorted(near, key=lambda pair: (distance[pair], pair))
