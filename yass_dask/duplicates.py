"""Templates that are one unit's, and those that are nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from yass_dask.matching import LowRank, distances, low_rank, noise_levels, pair_overlaps, pairs
from yass_dask.noise import Noise
from yass_dask.templates import Templates, TemplatesParams

MAX_DUPLICATE_SHARE = 0.5
"""Templates that differ by more than this share of the smaller one's norm are no duplicates, however small."""
DUPLICATE_SCALE = 1.2
"""... nor those whose sizes differ by more than this factor."""


def levels(templates: Templates, noise: Noise) -> np.ndarray:
    """(n_units,) distance of each template from nothing, in standard deviations of the noise along it."""
    ranked = low_rank(templates, noise, 5, templates.n_channels)
    signal = np.maximum(ranked.norms - ranked.doubt, 0)
    return np.sqrt(signal / np.maximum(noise_levels(ranked, noise), 1e-9))


def without_duplicates(
    templates: Templates, noise: Noise, params: TemplatesParams, max_lag: int, first_new: int = 0
) -> tuple[Templates, list[dict[str, Any]]]:
    """Join templates that differ by less than noise would show; drop those too small to be told from nothing.

    Joins go from the nearest pair on; the template of more spikes stands for both, or that of a known unit (of an id
    below `first_new`). Two known units are not joined. Returns the audit as well.
    """
    ranked = low_rank(templates, noise, 5, templates.n_channels)
    sd = np.sqrt(np.maximum(noise_levels(ranked, noise), 1e-9))
    root = np.arange(len(templates))
    itself, known = root.copy(), templates.ids < first_new
    audit: list[dict[str, Any]] = []
    for distance, u, v in _close_pairs(ranked, templates.n_channels, sd, params, max_lag):
        a, b = int(root[u]), int(root[v])
        if a == b or (known[a] and known[b]):
            continue
        first = (known[a], templates.n_spikes[a]) >= (known[b], templates.n_spikes[b])
        larger, smaller = (a, b) if first else (b, a)
        root[root == smaller] = larger
        audit.append(
            {"unit": int(templates.ids[smaller]), "action": "merge", "into": int(templates.ids[larger]),
             "reason": f"templates {distance:.1f} noise sd apart"}
        )  # fmt: skip
    height = np.abs(templates.waveforms).max(axis=(1, 2), initial=0)
    kept = np.flatnonzero((root == itself) & (height >= params.min_peak_sd))
    for u in np.flatnonzero((root == itself) & (height < params.min_peak_sd)).tolist():
        audit.append(
            {"unit": int(templates.ids[u]), "action": "drop", "into": None,
             "reason": f"peak of {height[u]:.1f} sd, less than {params.min_peak_sd:g}"}
        )  # fmt: skip
    return templates.select(kept), audit


def _close_pairs(
    ranked: LowRank, n_channels: int, sd: np.ndarray, params: TemplatesParams, max_lag: int
) -> list[tuple[float, int, int]]:
    """(distance, u, v) of pairs nearer than the params allow, the nearest first."""
    start, other = pairs(ranked, n_channels)
    overlaps = pair_overlaps(ranked, start, other, n_channels)
    distance, _ = distances(ranked, start, other, overlaps, max_lag, DUPLICATE_SCALE)
    unit = np.repeat(np.arange(len(start) - 1), np.diff(start))
    norm = np.sqrt(np.minimum(ranked.norms[unit], ranked.norms[other]))
    in_sd = distance / np.sqrt(sd[unit] * sd[other])
    close = (distance < params.duplicate_share * norm) | (
        (in_sd < params.duplicate_sd) & (distance < MAX_DUPLICATE_SHARE * norm)
    )
    close &= unit < other
    return sorted(zip(in_sd[close].tolist(), unit[close].tolist(), other[close].tolist(), strict=True))
