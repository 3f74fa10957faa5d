"""The three networks of a model: trained together, kept in one folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.augment.examples import Examples
from yass_dask.kernels.network import Classifier
from yass_dask.neuralnetwork.architecture import new_classifier, new_denoiser
from yass_dask.neuralnetwork.denoiser import NeuralNetDenoiser
from yass_dask.neuralnetwork.detector import NeuralNetDetector
from yass_dask.neuralnetwork.files import KINDS, Card
from yass_dask.neuralnetwork.metrics import confusion
from yass_dask.neuralnetwork.plan import TrainParams
from yass_dask.neuralnetwork.scan import n_seen
from yass_dask.neuralnetwork.triage import NeuralNetTriage, WaveformClassifier

if TYPE_CHECKING:
    from yass_dask.recording import Recording

TEST_SIZE = 0.3


def fit_all(
    folder: Path, sets: Examples, params: TrainParams, *, training_data: str, rates_hz: tuple[float, float],
    start: Mapping[str, Any], seed: int, recording: Recording | None = None,
    test_size: Mapping[str, float] | None = None, kinds: Collection[str] = tuple(KINDS),
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Train detector, triage and denoiser, or some of them, and write them into a folder.

    Parameters
    ----------
    training_data : for the cards: what the sets were made of
    rates_hz : for the cards: recordings of rates between these may be resampled for the networks
    start : weights to begin with, of any of the kinds detect, triage and denoise
    recording : the one that all examples are of, if there is one; for the cards: how many channels a window has there
    kinds : those that are trained
    test_size : of some of the kinds, share of the examples that is held aside for the metrics; TEST_SIZE of the others

    Returns
    -------
    Metrics of each kind, on examples held aside. The detector's log-odds are those of a recording of such spikes, the
    triage's those of a clean one among as many collided ones (see `prior`).
    """
    made = _new(folder, params)
    examples = {
        "detect": (sets.x_detect, sets.y_detect),
        "triage": (sets.x_triage, sets.y_triage),
        "denoise": (sets.x_denoise, sets.y_denoise),
    }
    metrics = {}
    for kind in kinds:
        model = made[kind]
        l2 = params.l2_triage if kind == "triage" else params.settings.l2_reg_scale
        model.settings = params.settings.model_copy(update={"seed": seed, "l2_reg_scale": l2})
        seen = None if recording is None else n_seen(recording, model.card.n_neighbors)
        model.card = replace(model.card, training_data=training_data, rates_hz=rates_hz, channels_seen=seen)
        held = (test_size or {}).get(kind, TEST_SIZE)
        metrics[kind] = model.fit(*examples[kind], held, start=fitting(start.get(kind), model.card))
    n_collided, n_clean = (max(1, int(np.count_nonzero(sets.y_triage == label))) for label in (0, 1))
    shifts = {"detect": -np.log(sets.not_spikes), "triage": np.log(n_collided / n_clean)}
    for kind in shifts.keys() & set(kinds):
        metrics[kind] |= _calibrate(made[kind], float(shifts[kind]))
    return metrics


def _new(folder: Path, params: TrainParams) -> dict[str, Any]:
    """The three models, not trained."""
    length, n_neighbors, rate = params.waveform_length, params.n_neighbors, params.sampling_rate
    itself = np.arange(n_neighbors)[None]
    return {
        "detect": NeuralNetDetector(
            folder / "detect", params.filters_detect, length, n_neighbors, 0.5, itself, sampling_rate=rate
        ),
        "triage": NeuralNetTriage(
            folder / "triage",
            params.filters_triage,
            params.waveform_length_triage,
            params.n_neighbors_triage,
            0.5,
            sampling_rate=rate,
        ),
        "denoise": NeuralNetDenoiser(folder / "denoise", params.filters_denoise, length, sampling_rate=rate),
    }


def fitting(network: Any, card: Card) -> Any:
    """The network if it has the shape that the card tells, else None."""
    if card.kind == "denoise":
        fresh: Any = new_denoiser(card.filters_size, card.waveform_length, 0)
    else:
        fresh = new_classifier(card.filters_size, card.waveform_length, card.n_neighbors, 0)
    same = network is not None and [layer.shape for layer in network] == [layer.shape for layer in fresh]
    return network if same else None


def _calibrate(model: WaveformClassifier, shift: float) -> dict[str, float]:
    """Add to every log-odds: examples were drawn in other shares than there are, or than the log-odds stand for.

    Returns
    -------
    Metrics of the classifier as it is now.
    """
    assert model.x_test is not None and model.y_test is not None
    model.network = shifted(model.network, shift)
    metrics = confusion(model.y_test, model.predict(model.x_test))
    model.card = replace(model.card, metrics={**model.card.metrics, **metrics})
    model.save()
    return metrics


def shifted(network: Classifier, shift: float) -> Classifier:
    """The same network with every log-odds larger by `shift`."""
    last = "output_bias" if len(network.output) else "spatial_bias"
    return network._replace(**{last: (getattr(network, last) + np.float32(shift)).astype(np.float32)})
