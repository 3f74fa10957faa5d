"""YASS's networks under their names."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from yass_dask.errors import InputError
from yass_dask.neuralnetwork import NeuralNetDenoiser as AutoEncoder
from yass_dask.neuralnetwork import NeuralNetDetector, NeuralNetTriage
from yass_dask.neuralnetwork.waveforms import check_numbers

__all__ = ["AutoEncoder", "KerasModel", "NeuralNetDetector", "NeuralNetTriage"]

_log = logging.getLogger("yass_dask")


class KerasModel:
    """YASS's later triage: a model that may be given longer waveforms, and more channels, than it sees.

    Parameters
    ----------
    path_to_model : a triage network as `yass train` or `NeuralNetTriage.fit` writes it (Keras's files are not read)
    allow_longer_waveform_length : of longer waveforms take the middle, with a warning
    allow_more_channels : of more channels take the first ones, with a warning

    Raises
    ------
    InputError
        The file is missing, damaged, or another kind of network.
    """

    def __init__(
        self, path_to_model: str | Path, allow_longer_waveform_length: bool = False, allow_more_channels: bool = False
    ) -> None:
        if Path(path_to_model).suffix in (".h5", ".keras"):
            raise InputError(f"{path_to_model}: Keras's files are not read; train a triage network with `yass train`")
        self.model = NeuralNetTriage.load(path_to_model, threshold=0.5)
        self.waveform_length, self.n_channels = self.model.card.waveform_length, self.model.card.n_neighbors
        self.allow_longer_waveform_length, self.allow_more_channels = allow_longer_waveform_length, allow_more_channels

    def predict_proba(self, waveforms: np.ndarray) -> np.ndarray:
        """(n,) float32 probability of a clean spike, for waveforms (n, n_samples, n_channels).

        Raises
        ------
        InputError
            Shorter or fewer than the network sees, longer or more and this is not allowed, or NaN.
        """
        found: np.ndarray = self.model.predict_proba(self._seen(waveforms))
        return found

    def predict_with_threshold(self, x: np.ndarray, threshold: float) -> np.ndarray:
        """(n,) int8 labels: 1 (clean) where the probability is higher than or equal to the threshold."""
        return (self.predict_proba(x) >= np.float32(threshold)).astype(np.int8)

    def _seen(self, waveforms: np.ndarray) -> np.ndarray:
        x = check_numbers("waveforms", waveforms, ("n", "n_samples", "n_channels"))
        if x.shape[1] > self.waveform_length and self.allow_longer_waveform_length:
            _log.warning("waveforms of %d samples: the middle %d are taken", x.shape[1], self.waveform_length)
            start = x.shape[1] // 2 - self.waveform_length // 2
            x = x[:, start : start + self.waveform_length]
        if x.shape[2] > self.n_channels and self.allow_more_channels:
            _log.warning("waveforms of %d channels: the first %d are taken", x.shape[2], self.n_channels)
            x = x[:, :, : self.n_channels]
        return x
