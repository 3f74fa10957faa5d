"""Is there a valley between two groups of values on a line?"""

import numpy as np
from scipy.ndimage import gaussian_filter1d

BINS = 160


def valley(left: np.ndarray, right: np.ndarray) -> float:
    """Depth of the lowest point between two groups: density there over that of the lower of the two peaks.

    1 (or nearly) for one hump cut in two, 0 for two humps with nothing between. The density is that of all values
    together, smoothed over 0.4 of the smaller group's spread, more for few values.

    Parameters
    ----------
    left, right : values of the two groups on the axis that separates them, right having the larger median
    """
    if len(left) < 2 or len(right) < 2:
        return 1.0
    a, b = np.median(left), np.median(right)
    if b <= a:
        return 1.0
    spread = min(_spread(left), _spread(right))
    few = min(len(left), len(right))
    width = max(spread * (0.4 if few >= 100 else 0.4 * (100 / few) ** 0.2), 1e-6)
    margin = 4 * width
    edges = np.linspace(a - margin, b + margin, BINS + 1)
    counts, _ = np.histogram(np.concatenate([left, right]), edges)
    density = gaussian_filter1d(counts.astype(float), width / (edges[1] - edges[0]), mode="nearest")
    centres = 0.5 * (edges[1:] + edges[:-1])
    between = np.flatnonzero((centres >= a) & (centres <= b))
    if len(between) < 3:
        return 1.0
    low = between[np.argmin(density[between])]
    peaks = min(density[: low + 1].max(), density[low:].max())
    return float(density[low] / peaks) if peaks > 0 else 1.0


def _spread(values: np.ndarray) -> float:
    """Robust standard deviation."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))
