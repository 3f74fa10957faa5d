"""Where peaks come from: the place of a point source that explains how large a peak is on the channels around it."""

import numpy as np


def localize(
    traces: np.ndarray,
    *,
    rows: np.ndarray,
    channels: np.ndarray,
    reach: int,
    sites: np.ndarray,
    positions: np.ndarray,
    grid: np.ndarray,
) -> np.ndarray:
    """Posterior mean of the place of each peak's source, over a grid around the peak's channel.

    The size of a peak on a channel is the product of the channel's trace and the trace of the peak's own channel,
    which was scaled to norm 1. A source at distance r is seen at 1 / r (monopole), at an amplitude that is fitted.
    The noise is that of the traces or, if it is larger, what the best place on the grid leaves over: so a large peak,
    whose misfit is the model's and not noise's, is not put onto a point of the grid.

    Parameters
    ----------
    traces : (n_rows, n_channels) float32, with noise of standard deviation 1
    rows, channels : (n,) int, reach <= rows < n_rows - reach
    reach : the trace that sizes are taken from is so many samples long before and after the peak
    sites : (n_channels, n_local) int, channels that a peak on a channel is looked for on, padded with n_channels
    positions : (n_channels, 2) um
    grid : (n_points, 3) um from the peak's channel: across, along, and away from the probe (> 0)

    Returns
    -------
    (n, 2) float32 um: across and along the probe

    Ouyang and Boussard ("monopolar triangulation", Boussard et al., NeurIPS 2021); on a grid: Pachitariu et al. 2024.
    """
    n_channels = traces.shape[1]
    places = np.zeros((len(rows), 2), np.float32)
    around = np.arange(-reach, reach + 1)
    for site in np.unique(channels):
        mine = np.flatnonzero(channels == site)
        local = sites[site][sites[site] < n_channels]
        snippets = traces[(rows[mine, None] + around)[:, :, None], local]
        main = traces[rows[mine, None] + around, site]
        main = main.astype(np.float64) / np.maximum(np.linalg.norm(main, axis=1, keepdims=True), 1e-9)
        sizes = np.einsum("nt,ntc->nc", main, snippets)
        offsets = positions[local] - positions[site]
        distance = np.sqrt(((grid[:, None, :2] - offsets) ** 2).sum(axis=2) + grid[:, 2:] ** 2)
        seen = 1 / distance
        seen /= np.linalg.norm(seen, axis=1, keepdims=True)
        explained = np.maximum(sizes @ seen.T, 0) ** 2
        best = explained.max(axis=1, keepdims=True)
        left = (sizes**2).sum(axis=1, keepdims=True) - best
        noise = np.maximum(left / max(len(local) - 4, 1), 1)
        weight = np.exp((explained - best) / (2 * noise))
        weight /= weight.sum(axis=1, keepdims=True)
        places[mine] = positions[site] + weight @ grid[:, :2]
    return places
