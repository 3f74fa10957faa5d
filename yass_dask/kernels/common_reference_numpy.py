"""Common median reference of a block."""

import numpy as np


def common_reference(traces: np.ndarray, *, groups: np.ndarray) -> np.ndarray:
    """Subtract, sample by sample, the median over the channels of a group from that group's channels.

    Parameters
    ----------
    traces : (n_samples, n_channels) float32
    groups : (n_channels,) int, group (shank) of each channel; channels with -1 (bad ones) neither give nor take

    Returns
    -------
    (n_samples, n_channels) float32. With an even number of channels the median is the mean of the middle two.
    """
    result = traces.copy()
    for group in np.unique(groups[groups >= 0]):
        members = np.flatnonzero(groups == group)
        result[:, members] -= np.median(traces[:, members], axis=1, keepdims=True)
    return result
