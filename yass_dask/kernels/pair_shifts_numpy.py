"""By how much histograms of depth are shifted against others: the best shift of each pair, and how well it fits."""

import numpy as np

ROWS_AT_ONCE = 128


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
    shifts, likeness = np.zeros((2, len(first)), np.float32)
    for start in range(0, len(first), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        cosine = _cosines(images[first[some]], images[second[some]], window, reach)
        row = np.arange(len(cosine))
        best = cosine.argmax(axis=1)
        middle = np.clip(best, 1, 2 * reach - 1)
        left, top, right = (cosine[row, middle + d] for d in (-1, 0, 1))
        bend = left - 2 * top + right
        offset = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, 1), 0)
        shifts[some] = middle - reach + np.clip(offset, -1, 1)
        likeness[some] = cosine[row, best]
    return shifts, likeness


def _cosines(a: np.ndarray, b: np.ndarray, window: np.ndarray, reach: int) -> np.ndarray:
    """(n_pairs, 2 reach + 1), from shift -reach on, by Fourier transforms along depth."""
    n_depths = a.shape[2]
    n = 1 << int(n_depths + reach).bit_length()
    shifts = np.arange(-reach, reach + 1)
    spectrum = (np.conj(np.fft.rfft(a * window, n)) * np.fft.rfft(b, n)).sum(axis=1)
    product = np.fft.irfft(spectrum, n)[:, shifts]
    mask = np.conj(np.fft.rfft(window, n))
    energy = np.fft.irfft(mask * np.fft.rfft((b**2).sum(axis=1), n), n)[:, shifts]
    own = ((a**2).sum(axis=1) * window).sum(axis=1)
    # Where next to nothing lies under the window, transforms leave rounding errors: that is like nothing.
    floor = 1e-5 * np.maximum((b**2).sum(axis=(1, 2)) * own, 1e-12)
    cosine = product / np.sqrt(np.maximum(own[:, None] * energy, floor[:, None]))
    return np.clip(cosine, 0, 1)
