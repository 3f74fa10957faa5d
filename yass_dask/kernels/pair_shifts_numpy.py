"""By how much histograms of depth are shifted against others: the best shift of each pair, and how well it fits."""

import numpy as np

PAIRS_AT_ONCE = 256
LEAST_ENERGY = 1e-5
"""Share of an image's energy that counts as nothing."""
FLOOR = 1e-12


def pair_shifts(
    images: np.ndarray, *, first: np.ndarray, second: np.ndarray, window: np.ndarray, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """Shift s at which images[second] at depth d + s are most like images[first] at depth d, within a window.

    Likeness is the cosine of the two, weighted by the window, which stays with the first image. Shifts come to a
    fraction of a bin, by a parabola through the best and the two beside it; the smaller shift wins ties.

    Parameters
    ----------
    images : (n_images, n_sizes, n_depths) float32, >= 0
    first, second : (n_pairs,) int
    window : (n_depths,) float32, >= 0
    reach : largest shift, in bins, >= 1

    Returns
    -------
    (n_pairs,) float32 shifts in bins, within [-reach, reach]; (n_pairs,) float32 likeness, 0 to 1
    """
    under = np.flatnonzero(window)
    if len(under) == 0 or len(first) == 0:
        return np.zeros(len(first), np.float32), np.zeros(len(first), np.float32)
    shown, seen, energy = _spectra(images, window, int(under[0]), int(under[-1]) + 1, reach)
    own = ((images**2).sum(axis=1) * window).sum(axis=1)
    shifts, likeness = np.zeros((2, len(first)), np.float32)
    for start in range(0, len(first), PAIRS_AT_ONCE):
        some = slice(start, start + PAIRS_AT_ONCE)
        i, j = first[some], second[some]
        product = np.fft.irfft(np.einsum("paf,paf->pf", shown[i], seen[j]), energy.shape[1])[:, : 2 * reach + 1]
        cosine = product / np.sqrt(np.maximum(own[i, None] * energy[j, : 2 * reach + 1], FLOOR))
        shifts[some], likeness[some] = _top(np.clip(cosine, 0, 1), reach)
    return shifts, likeness


def _spectra(images: np.ndarray, window: np.ndarray, low: int, high: int, reach: int) -> tuple[np.ndarray, ...]:
    """Fourier transforms along depth of every image: conjugate under the window, and over what it may be shifted to;
    and (n_images, n) energy of each image under the window at every shift, from -reach on.
    """
    n = 1 << int(high - low + 2 * reach - 1).bit_length()
    around = np.pad(images, ((0, 0), (0, 0), (reach, reach)))[:, :, low : high + 2 * reach]
    shown = np.conj(np.fft.rfft(images[:, :, low:high] * window[low:high], n))
    mask = np.conj(np.fft.rfft(window[low:high], n))
    energy = np.fft.irfft(mask * np.fft.rfft((around**2).sum(axis=1), n), n)
    # Where next to nothing lies under the window, transforms leave rounding errors: that is like nothing.
    least = LEAST_ENERGY * (around**2).sum(axis=(1, 2))
    return shown, np.fft.rfft(around, n), np.maximum(energy, least[:, None])


def _top(cosine: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Shift of the largest value of each row (n_pairs, 2 reach + 1), by a parabola, and the value."""
    row = np.arange(len(cosine))
    best = cosine.argmax(axis=1)
    middle = np.clip(best, 1, 2 * reach - 1)
    left, top, right = (cosine[row, middle + d] for d in (-1, 0, 1))
    bend = left - 2 * top + right
    offset = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, 1), 0)
    return middle - reach + np.clip(offset, -1, 1), cosine[row, best]
