"""Detector's companion: is a waveform a single spike, or several on top of each other?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.backends import kernel
from yass_dask.errors import InputError
from yass_dask.kernels.network import Classifier
from yass_dask.neuralnetwork import files
from yass_dask.neuralnetwork.architecture import new_classifier
from yass_dask.neuralnetwork.files import Card
from yass_dask.neuralnetwork.metrics import confusion
from yass_dask.neuralnetwork.scan import LIMITS, log_odds_of, probability_of
from yass_dask.neuralnetwork.settings import Settings
from yass_dask.neuralnetwork.waveforms import WaveformNetwork, check_labels, check_numbers


class WaveformClassifier(WaveformNetwork):
    """A network that tells two kinds of waveforms apart; label 1 is what it looks for."""

    network: Classifier

    def __init__(
        self, path_to_model: str | Path, filters_size: Sequence[int], waveform_length: int, n_neighbors: int,
        threshold: float, settings: Settings, load_test_set: bool, sampling_rate: float | None,
    ) -> None:  # fmt: skip
        if not 0 < threshold < 1:
            raise InputError(f"threshold is {threshold}: give a probability between 0 and 1")
        card = Card(self.KIND, tuple(filters_size), int(waveform_length), int(n_neighbors), sampling_rate)
        super().__init__(path_to_model, card, settings, load_test_set)
        new_classifier(filters_size, waveform_length, n_neighbors, 0)  # refuses sizes that cannot be
        self.threshold = float(threshold)

    def fit(
        self, x_train: np.ndarray, y_train: np.ndarray, test_size: float = 0.3, save_test_set: bool = False, *,
        start: Classifier | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Train the network, measure it, and save it to `path_to_model`.

        Parameters
        ----------
        x_train : (n, waveform_length, n_neighbors)
        y_train : (n,) labels, 0 or 1
        test_size : share of the examples, drawn at random, that is kept for the metrics
        save_test_set : write these to `<model>-x-test.npy` and `<model>-y-test.npy`
        start : weights to begin with; None: random ones

        Returns
        -------
        Sizes of the network, and its metrics on the test set: tn, fp, fn, tp, acc, prec, rec.

        Raises
        ------
        InputError
            Another shape, NaN, too few examples, or JAX is not installed.
        """
        x = self._windows("x_train", x_train)
        y = check_labels("y_train", y_train, len(x))
        card = self.card
        start = start or new_classifier(card.filters_size, card.waveform_length, card.n_neighbors, self.settings.seed)
        measure = lambda x, y: confusion(y, self.predict(x))  # noqa: E731
        return self._fit(limited(x, LIMITS[self.KIND]), y, test_size, save_test_set, start, measure)

    def predict(self, waveforms: np.ndarray) -> np.ndarray:
        """(n,) int8 labels: 1 where the probability is higher than or equal to the threshold."""
        return (self.predict_proba(waveforms) >= np.float32(self.threshold)).astype(np.int8)

    def predict_proba(self, waveforms: np.ndarray) -> np.ndarray:
        """(n,) float32 probability of label 1.

        Parameters
        ----------
        waveforms : (n, waveform_length, n_neighbors), the event's channel first, then the others by distance

        Raises
        ------
        InputError
            Another shape, NaN, or a network that is not trained.
        """
        windows, network = self._windows("waveforms", waveforms), self._trained()
        n, length, n_neighbors = windows.shape
        odds = kernel("classify", "numba")(
            windows.reshape(-1, n_neighbors), rows=np.arange(n) * length,
            channels=np.broadcast_to(np.arange(n_neighbors), (n, n_neighbors)), before=0, network=network,
            limit=LIMITS[self.KIND],
        )  # fmt: skip
        return probability_of(odds)

    @property
    def log_odds(self) -> float:
        """The threshold as a log-odds."""
        return log_odds_of(self.threshold)

    def _windows(self, name: str, waveforms: Any) -> np.ndarray:
        return check_numbers(name, waveforms, ("n", self.card.waveform_length, self.card.n_neighbors))


def limited(windows: np.ndarray, limit: float) -> np.ndarray:
    """Windows (n, n_samples, n_channels), those with larger values scaled down to the limit."""
    size = np.abs(windows).max(axis=(1, 2), keepdims=True, initial=0)
    return windows if limit == np.inf else windows * (limit / np.maximum(size, limit)).astype(np.float32)


class NeuralNetTriage(WaveformClassifier):
    """Tells clean spikes from collided ones.

    Parameters
    ----------
    path_to_model : where the trained model is saved: an npz file, and a yaml file beside it
    filters_size : filters along time and mixtures of them, YASS's [16, 8]; a third number: a hidden layer over channels
    waveform_length : samples of a waveform
    n_neighbors : channels of a waveform
    threshold : probability from which a waveform is clean
    n_iter, n_batch, l2_reg_scale, train_step_size : see `Settings`; n_iter is an upper bound
    input_tensor : not used (TensorFlow's)
    load_test_set : read the test set that an earlier fit has saved
    sampling_rate : samples per second of the waveforms, for the card
    seed : the same seed, the same weights

    Raises
    ------
    InputError
        Values that no network can have.
    """

    KIND = "triage"
    CLEAN, COLLIDED = 1, 0

    def __init__(
        self, path_to_model: str | Path, filters_size: Sequence[int], waveform_length: int, n_neighbors: int,
        threshold: float, n_iter: int = 50000, n_batch: int = 512, l2_reg_scale: float = 5e-8,
        train_step_size: float = 1e-3, input_tensor: object = None, load_test_set: bool = False, *,
        sampling_rate: float | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        settings = Settings(
            n_iter=n_iter, n_batch=n_batch, l2_reg_scale=l2_reg_scale, train_step_size=train_step_size, seed=seed
        )
        super().__init__(
            path_to_model, filters_size, waveform_length, n_neighbors, threshold, settings, load_test_set, sampling_rate
        )

    @classmethod
    def load(
        cls, path_to_model: str | Path, threshold: float, input_tensor: object = None, load_test_set: bool = False
    ) -> NeuralNetTriage:
        """Load a model from a file.

        Raises
        ------
        InputError
            The file is missing, damaged, or another kind of network.
        """
        network, card = files.load(path_to_model, cls.KIND)
        made = cls(
            path_to_model, card.filters_size, card.waveform_length, card.n_neighbors, threshold,
            load_test_set=load_test_set,
        )  # fmt: skip
        made.network, made.card = network, card
        return made
