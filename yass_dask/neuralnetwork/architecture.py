"""Networks before training, and networks for recordings of another rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yass_dask.errors import InputError
from yass_dask.kernels.network import Classifier, Denoiser

DENOISER_TAPS = (5, 11)
"""Samples that the two layers of filters of YASS's denoiser see."""


Shapes = tuple[tuple[int, ...], ...]


def classifier_shapes(filters_size: Sequence[int], waveform_length: int, n_neighbors: int) -> Shapes:
    """Shapes of the fields of a classifier.

    Parameters
    ----------
    filters_size : two sizes: filters along time and mixtures of them, YASS's network;
        three: a hidden layer over the channels, too

    Raises
    ------
    InputError
        Sizes that no network can have.
    """
    sizes = [int(size) for size in filters_size]
    if len(sizes) not in (2, 3) or min(sizes) < 1:
        raise InputError(f"filters_size is {list(filters_size)}: give two or three positive numbers, such as [16, 8]")
    if waveform_length < 1 or n_neighbors < 1:
        raise InputError(f"waveform_length is {waveform_length} and n_neighbors {n_neighbors}: both must be at least 1")
    first, second, *hidden = sizes
    wide, last = (hidden[0], hidden[0]) if hidden else (1, 0)
    return (
        (waveform_length, first), (first,), (first, second), (second,), (n_neighbors, second, wide), (wide,), (last,),
        (1,),
    )  # fmt: skip


def new_classifier(filters_size: Sequence[int], waveform_length: int, n_neighbors: int, seed: int) -> Classifier:
    """A classifier with random weights; raises as `classifier_shapes` does."""
    shapes = classifier_shapes(filters_size, waveform_length, n_neighbors)
    (_, first), _, (_, second), _, spatial, (wide,), (last,), _ = shapes
    draw = np.random.default_rng([seed, 0])
    return Classifier(
        _random(draw, waveform_length, waveform_length, first), _zeros(first),
        _random(draw, first, first, second), _zeros(second),
        _random(draw, n_neighbors * second, *spatial), _zeros(wide),
        _random(draw, wide, wide) if last else _zeros(0), _zeros(1),
    )  # fmt: skip


def denoiser_shapes(filters_size: Sequence[int], waveform_length: int) -> Shapes:
    """Shapes of the fields of a denoiser.

    Parameters
    ----------
    filters_size : two sizes: filters of two convolutions along time, YASS's network; a third: how many samples the
        first ones see, all `waveform_length` of them for a dense network

    Raises
    ------
    InputError
        Sizes that no network can have.
    """
    sizes = [int(size) for size in filters_size]
    if len(sizes) not in (2, 3) or min(sizes) < 1:
        raise InputError(f"filters_size is {list(filters_size)}: give two or three positive numbers, such as [16, 8]")
    first, second, *seen = sizes
    a, b = (seen[0], min(DENOISER_TAPS[1], waveform_length - seen[0] + 1)) if seen else DENOISER_TAPS
    left = waveform_length - (a - 1) - (b - 1)
    if left < 1 or b < 1:
        raise InputError(f"waveform_length is {waveform_length}: a denoiser needs at least {max(a, a + b - 1)} samples")
    return (
        (a, first), (first,), (b, first, second), (second,), (left, second, waveform_length), (waveform_length,),
        (waveform_length, waveform_length),
    )  # fmt: skip


def new_denoiser(filters_size: Sequence[int], waveform_length: int, seed: int) -> Denoiser:
    """A denoiser with random weights; it begins near the identity. It raises as `denoiser_shapes` does."""
    one, (first,), two, (second,), output, _, linear = denoiser_shapes(filters_size, waveform_length)
    draw = np.random.default_rng([seed, 1])
    return Denoiser(
        _random(draw, one[0], *one), _zeros(first), _random(draw, two[0] * first, *two), _zeros(second),
        _random(draw, 10 * output[0] * second, *output), _zeros(waveform_length), np.zeros(linear, np.float32),
    )  # fmt: skip


def _random(draw: np.random.Generator, n_inputs: int, *shape: int) -> np.ndarray:
    """Weights that keep the variance of what goes through them and a ReLU."""
    return (draw.normal(size=shape) * np.sqrt(2 / n_inputs)).astype(np.float32)


def _zeros(n: int) -> np.ndarray:
    return np.zeros(n, np.float32)


def resampling(n_window: int, network_rate: float, recording_rate: float) -> tuple[np.ndarray, int]:
    """The windows of a network out of the rows of a recording of another rate, by sinc interpolation.

    Returns
    -------
    matrix : (n_window, n_rows) float32, window = matrix @ rows; the identity at equal rates
    before : rows before the event's
    """
    middle = n_window // 2
    before = int(np.ceil(middle * recording_rate / network_rate - 1e-9))
    after = int(np.ceil((n_window - 1 - middle) * recording_rate / network_rate - 1e-9))
    wanted = (np.arange(n_window) - middle) / network_rate
    rows = np.arange(-before, after + 1) / recording_rate
    # What the slower of the two rates cannot hold is filtered away.
    matrix = np.sinc((wanted[:, None] - rows) * min(network_rate, recording_rate))
    matrix /= matrix.sum(axis=1, keepdims=True)
    return matrix.astype(np.float32), before


def at_rate(network: Classifier, network_rate: float, recording_rate: float) -> tuple[Classifier, int]:
    """The same network for rows of a recording of another rate, and the rows before the event's.

    Interpolation is linear, and so is the first layer before its ReLU: the two become one layer.
    """
    matrix, before = resampling(len(network.temporal), network_rate, recording_rate)
    return network._replace(temporal=matrix.T @ network.temporal), before
