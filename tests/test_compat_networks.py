"""Augmentation and networks under YASS's names, and detection by a network; the science is tested where it is made."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import yass_dask.compat as yass
from yass_dask.compat import detect, pipeline, preprocess
from yass_dask.evaluate import Spikes, compare
from yass_dask.simulate import plan, write

row = pytest.mark.coverage_row
pytestmark = pytest.mark.skipif(find_spec("yass_dask.neuralnetwork") is None, reason="the networks are not there yet")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("lab"), plan(n_channels=8, seconds=20, n_units=4, seed=3, snr=(8, 20)))


@pytest.fixture(scope="module")
def truth(lab: Path) -> Spikes:
    with np.load(lab.parent / "ground_truth.npz") as stored:
        return Spikes(stored["spike_times"], stored["spike_labels"])


def share_found(times: np.ndarray, truth: Spikes) -> float:
    return float(np.mean([np.abs(times - time).min(initial=9) <= 3 for time in truth.times]))


@row("A5.6", "A5.7", "A5.8")
def test_networks_find_the_spikes(lab, truth):
    yass.set_config(lab, "networks")
    preprocessed = preprocess.run()
    trains = [detect.run(*preprocessed, function=f) for f in (detect.nnet.run, "nnet", detect.nnet_experimental.run)]
    for clear, everything in trains:
        np.testing.assert_array_equal(everything, trains[0][1])
        assert share_found(everything[:, 0], truth) > 0.9
        assert 0 < len(clear) < len(everything)


@row("A5.7")
def test_arguments_of_the_networks_are_real(lab, tmp_path):
    from yass_dask.neuralnetwork.models import SHIPPED

    yass.set_config(lab, "arguments")
    preprocessed = preprocess.run()

    def found(**given: object) -> tuple[int, int]:
        clear, everything = detect.run(*preprocessed, function="nnet", **given)
        return len(clear), len(everything)

    usual = found()
    np.testing.assert_array_equal(detect.nnet.run(*preprocessed)[1], detect.run(*preprocessed, function="nnet")[1])
    assert usual[0] > 100
    assert found(detector_threshold=0.99)[1] < usual[1]
    assert found(triage_threshold=0.99)[0] < usual[0] <= found(triage=False)[0]
    for name in ("detect", "triage"):
        for path in SHIPPED.glob(f"{name}.*"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert found(detector=tmp_path, triage=tmp_path / "triage.npz") == usual
    with pytest.raises(ValueError, match="are in two folders"):
        found(detector=tmp_path, triage=SHIPPED)
    with pytest.raises(ValueError, match="nothing"):
        found(detector=tmp_path / "nothing" / "there")


@row("A3.4")
def test_pipeline_takes_the_detector(lab, truth):
    train = pipeline.run(lab, output_dir="with_network", detector="nnet")
    assert compare(truth, Spikes(*train.T), 30000).mean_accuracy > 0.9


@row("A11.1", "A11.2", "A11.4")
def test_templates_and_training_data_take_the_configuration_that_was_set(lab, truth):
    from yass_dask.compat.augment import make

    yass.set_config(lab, "augment")
    settings = yass.read_config()
    train = np.stack(truth, axis=1)
    templates = make.load_templates("augment", train, settings, [0, 2, 3])
    size = settings.spike_size
    assert templates.shape == (3, 8 * size + 1, 8)
    middle = np.abs(templates).max(axis=2)
    assert (np.abs(middle.argmax(axis=1) - 4 * size) <= 3).all()
    x_detect, y_detect, x_triage, y_triage, x_ae, y_ae = make.training_data(settings, templates, 5, 20, 60, "augment")
    assert len(x_detect) == len(y_detect) == 60 * (1 + 1 + 1 + 1 + 10)
    assert y_detect.sum() == 120
    assert (len(x_triage), y_triage.sum()) == (120, 60)
    assert x_detect.shape[1] == 2 * size + 1
    assert x_ae.shape == y_ae.shape == (60, 2 * size + 1)


@row("A12.1")
def test_networks_have_their_names_and_constants():
    from yass_dask.compat import neuralnetwork

    assert (neuralnetwork.NeuralNetDetector.SPIKE, neuralnetwork.NeuralNetDetector.NOT_SPIKE) == (1, 0)
    assert (neuralnetwork.NeuralNetTriage.CLEAN, neuralnetwork.NeuralNetTriage.COLLIDED) == (1, 0)


@row("A12.8", "A12.9")
def test_the_later_triage_takes_longer_waveforms_and_more_channels(caplog):
    from yass_dask.compat.neuralnetwork import AutoEncoder, KerasModel, NeuralNetTriage
    from yass_dask.neuralnetwork.models import SHIPPED

    path = SHIPPED / "triage"
    triage = NeuralNetTriage.load(path, 0.5)
    length, n_channels = triage.card.waveform_length, triage.card.n_neighbors
    x = 3 * np.random.default_rng(0).normal(size=(40, length + 11, n_channels + 2))
    seen = x[:, (length + 11) // 2 - length // 2 :][:, :length, :n_channels]
    wide = KerasModel(path, allow_longer_waveform_length=True, allow_more_channels=True)
    np.testing.assert_array_equal(wide.predict_proba(x), triage.predict_proba(seen))
    assert f"the middle {length} are taken" in caplog.text and f"the first {n_channels} are taken" in caplog.text
    middle = float(np.median(triage.predict_proba(seen)))
    labels = wide.predict_with_threshold(x, middle)
    assert 0 < labels.mean() < 1
    np.testing.assert_array_equal(labels, triage.predict_proba(seen) >= np.float32(middle))
    caplog.clear()
    strict = KerasModel(path)
    np.testing.assert_array_equal(strict.predict_proba(seen), triage.predict_proba(seen))
    assert not caplog.text
    for wrong in (x, x[:, :length], x[:, :, :n_channels], seen[:, 1:]):
        with pytest.raises(ValueError, match=f"give .n, {length}, {n_channels}"):
            strict.predict_proba(wrong)
    with pytest.raises(ValueError, match="yass train"):
        KerasModel("triage-31wf7ch.h5")
    denoiser = AutoEncoder.load(SHIPPED / "denoise")
    waveforms = x[:, : denoiser.card.waveform_length, 0]
    assert denoiser.predict(waveforms).shape == waveforms.shape
