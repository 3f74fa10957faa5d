"""Nonparametric Gaussian mixture by variational Bayes, on weighted cells; the number of clusters is found.

Dirichlet weights and Normal-Wishart clusters (Bishop, Pattern Recognition and Machine Learning, 10.2; the mixture of
Lee et al., NeurIPS 2017, section 3). Deterministic: no sampling in the E-step, births by splitting along principal
axes, deaths by merging, each accepted only if it raises the evidence lower bound.
"""

import numpy as np
from scipy.special import digamma, gammaln

from yass_dask.kernels.mixture_search import Data, Posterior, Prior, m_step, search

TOLERANCE = 1e-3


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
    return search(means, weights, scatter, max_clusters, min_weight, fit)


def fit(data: Data, resp: np.ndarray, prior: Prior, steps: int) -> tuple[np.ndarray, float]:
    """Variational steps from given responsibilities until the bound stands still."""
    last = -np.inf
    for _ in range(steps):
        post = m_step(data, resp, prior)
        resp, evidence = _e_step(data, post)
        bound = _bound(data, evidence, post, prior)
        if bound - last < TOLERANCE * max(1.0, abs(bound) * 1e-6):
            break
        last = bound
    return resp, bound


def _log_rho(data: Data, post: Posterior) -> np.ndarray:
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


def _e_step(data: Data, post: Posterior) -> tuple[np.ndarray, np.ndarray]:
    """(n_cells, n_clusters) responsibilities, and (n_cells,) the logarithm of what they were divided by."""
    log_rho = _log_rho(data, post)
    top = log_rho.max(axis=1, keepdims=True)
    rho = np.exp(log_rho - top)
    total = rho.sum(axis=1, keepdims=True)
    return rho / total, (top + np.log(total))[:, 0]


def _bound(data: Data, evidence: np.ndarray, post: Posterior, prior: Prior) -> float:
    """Evidence lower bound right after the E-step, which gave `evidence` of each cell."""
    d = data.means.shape[1]
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
    return float(data.weights @ evidence - dirichlet - (normal + wishart).sum())


def _log_wishart(nu: np.ndarray, log_det: np.ndarray, d: int) -> np.ndarray:
    """log B(W, nu), the Wishart's normalisation (Bishop B.79)."""
    steps = (nu[:, None] - np.arange(d)[None]) / 2
    return -0.5 * nu * log_det - 0.5 * nu * d * np.log(2) - d * (d - 1) / 4 * np.log(np.pi) - gammaln(steps).sum(axis=1)
