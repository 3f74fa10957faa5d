"""What detector, triage and denoiser have in common: training on waveforms, files, checks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.arrayfiles import read_npy
from yass_dask.errors import InputError
from yass_dask.neuralnetwork import files
from yass_dask.neuralnetwork.files import Card
from yass_dask.neuralnetwork.settings import Report, Settings

_log = logging.getLogger("yass_dask")

LEAST_EXAMPLES = 20
"""Of each label: with fewer nothing can be learned."""
HELD_SHARE, MOST_HELD = 0.1, 50_000
"""Of the examples to train on: those that tell when to stop."""


class WaveformNetwork:
    """A network over waveforms, with its card; see its subclasses."""

    KIND = ""
    LOSS = "classify"

    def __init__(self, path_to_model: str | Path, card: Card, settings: Settings, load_test_set: bool) -> None:
        self.path_to_model = files.weights_path(path_to_model)
        self.card = card
        self.settings = settings
        self.network: Any = None
        """Weights; None before `fit` and `load`"""
        self.x_test: np.ndarray | None = None
        self.y_test: np.ndarray | None = None
        if load_test_set:
            self.x_test, self.y_test = (_read_set(path) for path in self._set_paths())

    def _fit(
        self, x: np.ndarray, y: np.ndarray, test_size: float, save_test_set: bool, start: Any,
        measure: Callable[[np.ndarray, np.ndarray], dict[str, float]],
    ) -> dict[str, Any]:  # fmt: skip
        """Train, measure on examples held aside, save."""
        if not 0 < test_size < 1:
            raise InputError(f"test_size is {test_size}: give the share of the examples to test on, between 0 and 1")
        train = training()
        order = np.random.default_rng([self.settings.seed, 3]).permutation(len(x))
        test, held, rest = np.split(order, _bounds(len(x), test_size))

        def told(report: Report) -> None:
            _log.info("%s: iteration %d, loss %.5f, on held-out examples %.5f", self.KIND, *report)

        self.network = train(
            self.LOSS, start, x[rest], y[rest], (x[held], y[held]), self.settings, told
        )  # fmt: skip
        self.x_test, self.y_test = x[test], y[test]
        metrics = {"n_train": len(rest) + len(held), "n_test": len(test), **measure(x[test], y[test])}
        self.card = replace(self.card, metrics=metrics)
        self.save()
        if save_test_set:
            for path, values in zip(self._set_paths(), (self.x_test, self.y_test), strict=True):
                np.save(path, values)
        sizes = ("filters_size", "waveform_length", "n_neighbors")
        return {**{name: getattr(self.card, name) for name in sizes}, **metrics}

    def save(self) -> Path:
        """Write weights and card to `path_to_model`; returns the weights' path."""
        self._trained()
        return files.save(self.path_to_model, self.network, self.card)

    def _trained(self) -> Any:
        if self.network is None:
            raise InputError(f"the {self.KIND} network is not trained: call fit(x, y), or load() a trained one")
        return self.network

    def _set_paths(self) -> list[Path]:
        stem = self.path_to_model.with_suffix("")
        return [stem.with_name(f"{stem.name}-{letter}-test.npy") for letter in "xy"]

    def restore(self, sess: object = None) -> None:
        """Nothing to do: weights are plain arrays (TensorFlow restored its variables here)."""


def check_numbers(name: str, values: Any, shape: Sequence[int | str]) -> np.ndarray:
    """float32 of an array of this shape (a word stands for any length).

    Raises
    ------
    InputError
        It has another shape, or holds NaN or infinity.
    """
    found = np.asarray(values, np.float32)
    wanted = "(" + ", ".join(map(str, shape)) + ")"
    fits = found.ndim == len(shape) and all(
        isinstance(n, str) or n == m for n, m in zip(shape, found.shape, strict=True)
    )
    if not fits:
        raise InputError(f"{name} has shape {found.shape}; give {wanted}, the waveforms this network was made for")
    if not np.isfinite(found).all():
        where = np.argwhere(~np.isfinite(found))[0].tolist()
        raise InputError(f"{name} holds NaN or infinity, first at {where}: take such waveforms out")
    return found


def check_labels(name: str, labels: Any, n: int) -> np.ndarray:
    """int8 labels, enough of each.

    Raises
    ------
    InputError
        Another number than n, labels other than 0 and 1, or too few of one.
    """
    found = np.asarray(labels)
    if found.shape != (n,):
        raise InputError(f"{name} has shape {found.shape}; give one label for each of the {n} waveforms")
    if not np.isin(found, (0, 1)).all():
        raise InputError(f"{name} holds {np.setdiff1d(found, (0, 1))[0]!r}; labels are 0 and 1")
    counts = [int(np.count_nonzero(found == label)) for label in (0, 1)]
    if min(counts) < LEAST_EXAMPLES:
        raise InputError(
            f"{name} has {counts[0]} zeros and {counts[1]} ones: too few to train on; "
            f"give at least {LEAST_EXAMPLES} of each (a longer recording, or more spikes of the units)"
        )
    return found.astype(np.int8)


def _bounds(n: int, test_size: float) -> list[int]:
    """Ends of the test set and of the held-out set, at least one example in each set."""
    n_test = min(max(1, round(test_size * n)), n - 2)
    n_held = min(max(1, round(HELD_SHARE * (n - n_test))), MOST_HELD)
    return [n_test, n_test + min(n_held, n - n_test - 1)]


def training() -> Callable[..., Any]:
    """What fits the weights.

    Raises
    ------
    InputError
        JAX is not installed.
    """
    try:
        from yass_dask.neuralnetwork.training_jax import train
    except ImportError as error:
        raise InputError("training needs JAX, which is not installed; pip install 'yass-dask[jax]'") from error
    return train


def _read_set(path: Path) -> np.ndarray:
    return read_npy(path, "no test set is there: fit with save_test_set=True")
