"""The denoiser network: waveforms on one channel, without their noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.backends import kernel
from yass_dask.errors import InputError
from yass_dask.kernels.network import Denoiser
from yass_dask.neuralnetwork import files
from yass_dask.neuralnetwork.architecture import new_denoiser
from yass_dask.neuralnetwork.files import Card
from yass_dask.neuralnetwork.settings import Settings
from yass_dask.neuralnetwork.waveforms import LEAST_EXAMPLES, WaveformNetwork, check_numbers


class NeuralNetDenoiser(WaveformNetwork):
    """Takes noise, and what other spikes add, out of waveforms, one channel at a time.

    Two convolutions along time, as in YASS of 2020, or two dense layers, then a linear one; beside them a linear map.

    Parameters
    ----------
    path_to_model : where the trained model is saved: an npz file, and a yaml file beside it
    filters_size : filters of the two convolutions, YASS's [16, 8]; a third number: samples that the first ones see, all
        `waveform_length` of them for two dense layers
    waveform_length : samples of a waveform
    n_iter, n_batch, l2_reg_scale, train_step_size : see `Settings`; n_iter is an upper bound
    load_test_set : read the test set that an earlier fit has saved
    sampling_rate : samples per second of the waveforms, for the card
    seed : the same seed, the same weights

    Raises
    ------
    InputError
        Values that no network can have.
    """

    KIND, LOSS = "denoise", "denoise"
    network: Denoiser

    def __init__(
        self, path_to_model: str | Path, filters_size: Sequence[int], waveform_length: int, n_iter: int = 50000,
        n_batch: int = 512, l2_reg_scale: float = 5e-8, train_step_size: float = 1e-3, load_test_set: bool = False, *,
        sampling_rate: float | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        settings = Settings(
            n_iter=n_iter, n_batch=n_batch, l2_reg_scale=l2_reg_scale, train_step_size=train_step_size, seed=seed
        )
        card = Card(self.KIND, tuple(filters_size), int(waveform_length), 1, sampling_rate)
        super().__init__(path_to_model, card, settings, load_test_set)
        new_denoiser(filters_size, waveform_length, 0)  # refuses sizes that cannot be

    @classmethod
    def load(cls, path_to_model: str | Path, load_test_set: bool = False) -> NeuralNetDenoiser:
        """Load a model from a file.

        Raises
        ------
        InputError
            The file is missing, damaged, or another kind of network.
        """
        network, card = files.load(path_to_model, cls.KIND)
        made = cls(path_to_model, card.filters_size, card.waveform_length, load_test_set=load_test_set)
        made.network, made.card = network, card
        return made

    def fit(
        self, x_train: np.ndarray, y_train: np.ndarray, test_size: float = 0.3, save_test_set: bool = False, *,
        start: Denoiser | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Train the network, measure it, and save it to `path_to_model`.

        Parameters
        ----------
        x_train : (n, waveform_length) waveforms with noise
        y_train : (n, waveform_length) the same without
        test_size, save_test_set, start : as for the detector

        Returns
        -------
        Sizes of the network, and mean squared errors on the test set: `mse`, and `mse_raw` of what went in.

        Raises
        ------
        InputError
            Another shape, NaN, too few examples, or JAX is not installed.
        """
        x = self._waveforms("x_train", x_train)
        y = self._waveforms("y_train", y_train)
        if len(x) != len(y) or len(x) < LEAST_EXAMPLES:
            raise InputError(
                f"x_train has {len(x)} waveforms, y_train {len(y)}: give the same number, at least {LEAST_EXAMPLES}"
            )
        start = start or new_denoiser(self.card.filters_size, self.card.waveform_length, self.settings.seed)

        def measure(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
            errors = {"mse": self.predict(x), "mse_raw": x}
            return {name: float(((found - y) ** 2).mean()) for name, found in errors.items()}

        return self._fit(x, y, test_size, save_test_set, start, measure)

    def predict(self, waveforms: np.ndarray) -> np.ndarray:
        """(n, waveform_length) float32: waveforms without their noise.

        Raises
        ------
        InputError
            Another shape, NaN, or a network that is not trained.
        """
        x, network = self._waveforms("waveforms", waveforms), self._trained()
        clean: np.ndarray = kernel("denoise", "numba")(x, network=network)
        return clean

    def _waveforms(self, name: str, waveforms: Any) -> np.ndarray:
        return check_numbers(name, waveforms, ("n", self.card.waveform_length))
