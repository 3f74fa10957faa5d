"""Templates as phy wants them, how alike they are, and on which channels each unit is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from yass_dask.sorting import Sorting

MAX_LAG = 5
"""Samples by which one template is moved when it is compared with another."""
N_SIMILAR = 8
"""Templates per unit that template features are kept of, itself included."""


class PhyTemplates(NamedTuple):
    """Arrays with one row a template."""

    waveforms: np.ndarray
    """(n_templates, n_samples, n_channels) float32 uV"""
    similarity: np.ndarray
    """(n_templates, n_templates) float32: largest cosine over small lags"""
    similar: np.ndarray
    """(n_templates, n_similar) int32: the most similar templates, itself first"""
    channels: np.ndarray
    """(n_templates, n_local) int32: channels where the template is largest, the largest first"""


def phy_templates(sorting: Sorting, n_local: int) -> PhyTemplates:
    """Prepare the templates of a sorting.

    phylib drops axes of length 1, and so cannot open a folder with one template: an all-zero template that no
    spike uses is added to a single one.
    """
    waveforms = np.asarray(sorting.templates, dtype=np.float32)
    if len(waveforms) == 1:
        waveforms = np.concatenate([waveforms, np.zeros_like(waveforms)])
    similarity = template_similarity(waveforms)
    sizes = np.ptp(waveforms, axis=1) if waveforms.size else np.zeros((len(waveforms), waveforms.shape[2]))
    channels = np.argsort(-sizes, axis=1, kind="stable")[:, :n_local]
    return PhyTemplates(waveforms, similarity, _most_similar(similarity), channels.astype(np.int32))


def template_similarity(waveforms: np.ndarray) -> np.ndarray:
    """Cosine between all pairs of templates, at the lag (up to MAX_LAG samples) where it is largest."""
    n_units, n_samples, _ = waveforms.shape
    norms = np.sqrt((waveforms.astype(np.float64) ** 2).sum(axis=(1, 2)))
    unit = (waveforms / np.where(norms > 0, norms, 1.0)[:, None, None]).astype(np.float32)
    best = np.zeros((n_units, n_units), dtype=np.float32)
    for lag in range(min(MAX_LAG, n_samples - 1) + 1):
        ahead, behind = unit[:, lag:], unit[:, : n_samples - lag]
        product = np.tensordot(ahead, behind, axes=([1, 2], [1, 2]))
        best = np.maximum(best, np.maximum(product, product.T))
    return best


def _most_similar(similarity: np.ndarray) -> np.ndarray:
    """The templates most alike, each one itself first (also where it is all zero)."""
    ranked = similarity.copy()
    np.fill_diagonal(ranked, 2.0)
    return np.argsort(-ranked, axis=1, kind="stable")[:, :N_SIMILAR].astype(np.int32)
