"""Weights of the small networks, as plain arrays."""

from typing import NamedTuple

import numpy as np

EVENTS_AT_ONCE = 2048
"""Events whose windows are in memory together."""
SOFT_SD = 40.0


class Classifier(NamedTuple):
    """A network that sees the window of an event on its channel and the nearest ones, and gives a log-odds.

    Along time, the same on every channel: `temporal`, then `mixed`, each with a ReLU. Over the channels: `spatial`, to
    the log-odds (one column, `output` empty: YASS's network) or to a hidden layer with a ReLU and then `output`.
    """

    temporal: np.ndarray
    """(n_window, n_first) float32, as all of them"""
    temporal_bias: np.ndarray
    """(n_first,)"""
    mixed: np.ndarray
    """(n_first, n_second)"""
    mixed_bias: np.ndarray
    """(n_second,)"""
    spatial: np.ndarray
    """(n_neighbors, n_second, n_hidden)"""
    spatial_bias: np.ndarray
    """(n_hidden,)"""
    output: np.ndarray
    """(n_hidden,), or (0,)"""
    output_bias: np.ndarray
    """(1,)"""


class Denoiser(NamedTuple):
    """A network that takes the noise out of a waveform on one channel: what is added to the waveform comes from two
    convolutions with ReLUs and a linear layer, and beside them from a linear map (what a Wiener filter could do). With
    taps as long as the window, and then of one sample, the convolutions are two dense layers.

    Both see x / (1 + |x| / SOFT_SD): what is added to a large spike stays bounded, as its noise is.
    """

    first: np.ndarray
    """(n_taps, n_first) float32, as all of them"""
    first_bias: np.ndarray
    """(n_first,)"""
    second: np.ndarray
    """(n_taps, n_first, n_second)"""
    second_bias: np.ndarray
    """(n_second,)"""
    output: np.ndarray
    """(n_left, n_second, n_window); n_left = n_window less n_taps - 1 of both convolutions"""
    output_bias: np.ndarray
    """(n_window,)"""
    linear: np.ndarray
    """(n_window, n_window)"""
