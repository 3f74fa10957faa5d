"""Nonparametric Gaussian mixture by variational Bayes, on weighted cells; the number of clusters is found.

Dirichlet weights and Normal-Wishart clusters (Bishop, Pattern Recognition and Machine Learning, 10.2; the mixture of
Lee et al., NeurIPS 2017, section 3). Deterministic: no sampling in the E-step, births by splitting along principal
axes, deaths by merging, each accepted only if it raises the evidence lower bound.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import digamma, gammaln

LOCAL_STEPS = 12
GLOBAL_STEPS = 25
TOLERANCE = 1e-3
SPLIT_AXES = 3


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


def mixture(
    means: np.ndarray, *, weights: np.ndarray, scatter: np.ndarray, max_clusters: int, min_weight: float
) -> np.ndarray:
    """Responsibilities of clusters for cells.

    Parameters
    ----------
    means : (n_cells, D) mean of each cell
    weights : (n_cells,) points in it
    scatter : (n_cells, D, D) covariance of the points within it (and of what a mask left open)
    max_clusters : no split goes beyond
    min_weight : clusters with fewer points than this die

    Returns
    -------
    (n_cells, n_clusters) float64, rows sum to 1
    """
    means, weights, scatter = (np.asarray(a, np.float64) for a in (means, weights, scatter))
    prior = _prior(means, weights)
    # Both steps need the second moments of the cells, and nothing else of their scatter.
    data = (means, weights, (scatter + means[:, :, None] * means[:, None, :]).reshape(len(means), -1))
    resp, bound = _fit(data, np.ones((len(means), 1)), prior, 1)
    tried: set[tuple[int, ...]] = set()
    for _ in range(max_clusters):
        grown = _split_all(data, resp, prior, min_weight, tried, max_clusters)
        if grown is None:
            break
        grown, grown_bound = _without_small(data, *_fit(data, grown, prior, GLOBAL_STEPS), prior, min_weight)
        # Splits that look good alone may take from each other: only a better whole is kept.
        if grown_bound <= bound:
            break
        resp, bound = grown, grown_bound
    return _merge_all(data, resp, prior)


def _prior(means: np.ndarray, weights: np.ndarray) -> Prior:
    d = means.shape[1]
    centre = np.average(means, axis=0, weights=weights)
    spread = np.average(((means - centre) ** 2).sum(axis=1), weights=weights) / d
    nu = d + 1 + 10.0
    return Prior(centre, 1.0 / max(spread, 1.0), nu, np.eye(d) * (nu - d - 1), 1.0)


def _m_step(data: tuple, resp: np.ndarray, prior: Prior) -> Posterior:
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


def _log_rho(data: tuple, post: Posterior) -> np.ndarray:
    """(n_cells, n_clusters) expected log joint of a point of each cell."""
    means, _, moments = data
    d = means.shape[1]
    turned = np.matmul(post.inverse, post.mean[:, :, None])[:, :, 0]
    # The mean over a cell's points of (x - m)' W (x - m).
    distance = moments @ post.inverse.reshape(len(post.nu), -1).T - 2 * (means @ turned.T)
    distance += (turned * post.mean).sum(axis=1)
    log_weight = digamma(post.alpha) - digamma(post.alpha.sum())
    return log_weight + 0.5 * (_log_precision(post, d) - d * np.log(2 * np.pi) - d / post.beta - post.nu * distance)


def _log_precision(post: Posterior, d: int) -> np.ndarray:
    """E[log |Lambda|] of each cluster."""
    steps = (post.nu[:, None] - np.arange(d)[None]) / 2
    return digamma(steps).sum(axis=1) + d * np.log(2) + post.log_det


def _e_step(data: tuple, post: Posterior) -> tuple[np.ndarray, np.ndarray]:
    """(n_cells, n_clusters) responsibilities, and (n_cells,) the logarithm of what they were divided by."""
    log_rho = _log_rho(data, post)
    top = log_rho.max(axis=1, keepdims=True)
    rho = np.exp(log_rho - top)
    total = rho.sum(axis=1, keepdims=True)
    return rho / total, (top + np.log(total))[:, 0]


def _bound(data: tuple, evidence: np.ndarray, post: Posterior, prior: Prior) -> float:
    """Evidence lower bound right after the E-step, which gave `evidence` of each cell."""
    d = data[0].shape[1]
    alpha0 = np.full(len(post.alpha), prior.alpha)
    dirichlet = (
        gammaln(post.alpha.sum()) - gammaln(post.alpha).sum() - gammaln(alpha0.sum()) + gammaln(alpha0).sum()
    ) + ((post.alpha - alpha0) * (digamma(post.alpha) - digamma(post.alpha.sum()))).sum()
    shifted = post.mean - prior.mean
    normal = 0.5 * (
        d * prior.beta / post.beta
        + prior.beta * post.nu * np.einsum("kd,kde,ke->k", shifted, post.inverse, shifted)
        - d
        + d * np.log(post.beta / prior.beta)
    )
    prior_log_det = -np.linalg.slogdet(prior.scale)[1]
    wishart = (
        _log_wishart(post.nu, post.log_det, d)
        - _log_wishart(np.array([prior.nu]), np.array([prior_log_det]), d)
        + 0.5 * (post.nu - prior.nu) * _log_precision(post, d)
        - 0.5 * post.nu * d
        + 0.5 * post.nu * np.einsum("de,ked->k", prior.scale, post.inverse)
    )
    return float(data[1] @ evidence - dirichlet - (normal + wishart).sum())


def _log_wishart(nu: np.ndarray, log_det: np.ndarray, d: int) -> np.ndarray:
    """log B(W, nu), the Wishart's normalisation (Bishop B.79)."""
    steps = (nu[:, None] - np.arange(d)[None]) / 2
    return -0.5 * nu * log_det - 0.5 * nu * d * np.log(2) - d * (d - 1) / 4 * np.log(np.pi) - gammaln(steps).sum(axis=1)


def _fit(data: tuple, resp: np.ndarray, prior: Prior, steps: int) -> tuple[np.ndarray, float]:
    """Variational steps from given responsibilities until the bound stands still."""
    last = -np.inf
    for _ in range(steps):
        post = _m_step(data, resp, prior)
        resp, evidence = _e_step(data, post)
        bound = _bound(data, evidence, post, prior)
        if bound - last < TOLERANCE * max(1.0, abs(bound) * 1e-6):
            break
        last = bound
    return resp, bound


def _split_all(
    data: tuple, resp: np.ndarray, prior: Prior, min_weight: float, tried: set, limit: int
) -> np.ndarray | None:
    """Split every cluster whose two halves explain its cells better; None if there is none."""
    owner = resp.argmax(axis=1)
    grown = resp
    for k in range(resp.shape[1]):
        members = np.flatnonzero(owner == k)
        key = tuple(members[:: max(1, len(members) // 50)])
        if data[1][members].sum() < 2 * min_weight or len(members) < 4 or key in tried or grown.shape[1] >= limit:
            continue
        halves = _best_split(tuple(a[members] for a in data), prior, min_weight)
        if halves is None:
            tried.add(key)
            continue
        new = np.zeros((len(resp), 1))
        new[members, 0] = grown[members, k] * halves
        grown = np.hstack([grown, new])
        grown[members, k] *= 1 - halves
    return None if grown is resp else grown


def _best_split(data: tuple, prior: Prior, min_weight: float) -> np.ndarray | None:
    """(n,) responsibility of the second half, None if one cluster is at least as good."""
    means, weights, _ = data
    _, single = _fit(data, np.ones((len(means), 1)), prior, 1)
    best, best_bound = None, single
    centred = means - np.average(means, axis=0, weights=weights)
    _, axes = np.linalg.eigh((centred * weights[:, None]).T @ centred)
    for axis in axes[:, ::-1][:, :SPLIT_AXES].T:
        second = (centred @ axis > two_means(centred @ axis, weights)).astype(np.float64)
        resp, bound = _fit(data, np.stack([1 - second, second], axis=1), prior, LOCAL_STEPS)
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
    data: tuple, resp: np.ndarray, bound: float, prior: Prior, min_weight: float
) -> tuple[np.ndarray, float]:
    """Let clusters of too few points die, one at a time, the smallest first; with the bound of what is left."""
    while resp.shape[1] > 1:
        mass = data[1] @ resp
        smallest = int(mass.argmin())
        if mass[smallest] >= min_weight:
            break
        rest = np.delete(resp, smallest, axis=1)
        orphans = rest.sum(axis=1) < 1e-9
        rest[orphans] = 1.0
        resp, bound = _fit(data, rest / rest.sum(axis=1, keepdims=True), prior, LOCAL_STEPS)
    return resp, bound


def _merge_all(data: tuple, resp: np.ndarray, prior: Prior) -> np.ndarray:
    """Merge pairs, the nearest first, while one cluster explains both at least as well as two."""
    merged = True
    while merged and resp.shape[1] > 1:
        merged = False
        post = _m_step(data, resp, prior)
        for i, j in _nearest_pairs(post):
            cells = np.flatnonzero(resp[:, i] + resp[:, j] > 0.5)
            if len(cells) == 0:
                continue
            local = tuple(a[cells] for a in data)
            pair = resp[cells][:, [i, j]]
            _, two = _fit(local, pair / pair.sum(axis=1, keepdims=True), prior, 1)
            _, one = _fit(local, np.ones((len(cells), 1)), prior, 1)
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
