"""What choosing the sure spikes makes of a small unit's template: too large, and how to tell by how much.

Pursuit accepts a spike from some log-odds on. Of a unit not far above the noise it finds those to which noise added,
and their mean is a template for such spikes only: fewer and fewer are found with it. Noise along a template moves the
mean along that template (any Gaussian noise does: what is expected of it, given its projection on the filter of w, is
in proportion to w). So a number tells all of it: how many times the template the spikes were before they were chosen.
Their best amplitudes are normal around that number, with a standard deviation of 1 / level, cut off where pursuit
stops to accept; the number is fitted to them (Hald 1949, the truncated normal distribution).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from yass_dask.deconvolve import DeconvolveParams
from yass_dask.sizes import unheld

AMPLITUDES = np.linspace(0.4, 1.4, 201)
LIKELY_SD = 0.2
"""A template is right but for so much, as far as a few spikes can tell."""


@dataclass(frozen=True)
class Selection:
    """How pursuit chose the spikes of a round; see `DeconvolveParams`."""

    log_odds: float
    min_share: float
    amplitude_sd: float

    @classmethod
    def of(cls, params: DeconvolveParams) -> Selection:
        """Of a pursuit by these parameters."""
        return cls(params.log_odds, params.min_share, params.amplitude_sd)

    def least(self, level: np.ndarray) -> np.ndarray:
        """Best amplitude from which on a spike is accepted with a template of this level (noise sd from nothing)."""
        n, k = level**2, self.amplitude_sd**-2
        gain = np.maximum(2 * self.log_odds, self.min_share * n)
        least: np.ndarray = (np.sqrt((gain + k) * (n + k)) - k) / n
        return least

    def excess(self, piece: np.ndarray, amplitude: np.ndarray, level: np.ndarray) -> np.ndarray:
        """(n_pieces,) times its template that the mean of a piece's spikes is too large by, at least 0.

        Parameters
        ----------
        piece, amplitude : (n_spikes,) which piece each spike is of, and its amplitude as pursuit held it to 1
        level : (n_pieces,) of the template that the spikes were found with; inf for a piece to be left as it is
        """
        level = np.where(np.isfinite(level), np.maximum(level, 1e-3), 1e3)
        best = unheld(amplitude, level[piece], self.amplitude_sd)
        count, total, products, squares = (
            np.bincount(piece, weight, minlength=len(level))
            for weight in (np.ones(len(piece)), best, amplitude * best, amplitude**2)
        )
        mean, averaged = total / np.maximum(count, 1), products / np.maximum(squares, 1e-9)
        whole, cut = self._fit(count, mean, level, chosen=False), self._fit(count, mean, level, chosen=True)
        # Not more than the choice alone explains: what else is wrong with a template, averaging mends.
        excess: np.ndarray = np.clip(averaged - cut, 0, whole - cut)
        return excess

    def _fit(self, count: np.ndarray, mean: np.ndarray, level: np.ndarray, *, chosen: bool) -> np.ndarray:
        """(n_pieces,) likeliest mean amplitude of all spikes, of those `chosen` or of all."""
        off = ((mean[:, None] - AMPLITUDES) * level[:, None]) ** 2
        if chosen:
            off += 2 * log_ndtr((AMPLITUDES - self.least(level)[:, None]) * level[:, None])
        penalty = ((AMPLITUDES - 1) / LIKELY_SD) ** 2
        found: np.ndarray = AMPLITUDES[(count[:, None] * off + penalty).argmin(axis=1)]
        return found
