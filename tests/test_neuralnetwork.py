"""Networks: trained, saved, loaded, run over recordings; and every way in which a user can get them wrong."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import dask
import numpy as np
import planted
import pytest

from benchmarks import train_networks
from yass_dask import Recording, config, from_array
from yass_dask.augment import training_data_detect, training_data_triage
from yass_dask.errors import InputError
from yass_dask.evaluate.detections import FALSE, TRUE, TWICE, match_detections
from yass_dask.geometry import find_channel_neighbors, make_channel_index
from yass_dask.kernels.find_peaks_numpy import find_peaks
from yass_dask.neuralnetwork import NeuralNetDenoiser, NeuralNetDetector, NeuralNetTriage
from yass_dask.neuralnetwork.architecture import at_rate, new_classifier, new_denoiser, resampling
from yass_dask.neuralnetwork.fitting import fitting, shifted
from yass_dask.neuralnetwork.metrics import confusion, precision_recall, recall_at
from yass_dask.neuralnetwork.models import SHIPPED, chosen_model
from yass_dask.neuralnetwork.scan import FLOOR_SD, Judge, Scan

row = pytest.mark.coverage_row

W, K, RATE = 31, 3, 20000.0
PLACES = np.stack([np.zeros(6), 20.0 * np.arange(6)], axis=1)
INDEX = make_channel_index(find_channel_neighbors(PLACES, 25.0), PLACES)
QUICK = {"n_iter": 750, "n_batch": 128, "train_step_size": 5e-3}


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def shape(width: float = 4.0) -> np.ndarray:
    """(W, K) of a spike, largest in the middle of the first channel."""
    at = np.arange(W) - W // 2
    wave = -np.exp(-0.5 * (at / width * 2) ** 2) + 0.3 * np.exp(-0.5 * ((at - 8) / 4) ** 2)
    return wave[:, None] * np.array([1.0, 0.5, 0.4])


TEMPLATES = np.stack([shape(), shape(6.0)])
SIGS = (np.eye(K), np.eye(W))


@pytest.fixture(scope="module")
def detect_set() -> tuple[np.ndarray, np.ndarray]:
    return training_data_detect(TEMPLATES, 5, 15, 150, 1, 1, 1, 600, *SIGS)


@pytest.fixture(scope="module")
def detector(detect_set, tmp_path_factory) -> NeuralNetDetector:
    path = tmp_path_factory.mktemp("model") / "detect"
    made = NeuralNetDetector(path, [16, 8], W, K, 0.5, INDEX, **QUICK, sampling_rate=RATE)
    made.fit(*detect_set, save_test_set=True)
    return made


# --- training ---


@row("A12.1", "A12.3")
def test_fit_gives_sizes_and_metrics_far_above_chance(detector, detect_set, tmp_path):
    made = NeuralNetDetector(tmp_path / "d", [16, 8], W, K, 0.5, INDEX, **QUICK)
    found = made.fit(*detect_set, test_size=0.4)
    assert found["filters_size"] == (16, 8) and found["waveform_length"] == W and found["n_neighbors"] == K
    assert found["n_test"] == found["tn"] + found["fp"] + found["fn"] + found["tp"]
    assert found["n_test"] == pytest.approx(0.4 * len(detect_set[0]), abs=1)
    assert found["acc"] > 0.9 and found["prec"] > 0.85 and found["rec"] > 0.85
    assert (NeuralNetDetector.SPIKE, NeuralNetDetector.NOT_SPIKE) == (1, 0)
    card = config.text.read_mapping(made.path_to_model.with_suffix(".yaml"))
    assert card["yass_version"] == version("yass-dask")
    assert card["metrics"] == {name: value for name, value in found.items() if name in card["metrics"]}


def test_same_seed_same_weights(detect_set, tmp_path):
    weights = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        made = NeuralNetDetector(tmp_path / name, [4, 3, 5], W, K, 0.5, INDEX, n_iter=100, n_batch=64, seed=seed)
        made.fit(*detect_set)
        weights.append(made.network)
    for one, two in zip(*weights[:2], strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(weights[0].temporal, weights[2].temporal)


@row("A12.11")
def test_training_stops_by_itself(detect_set, tmp_path, caplog):
    caplog.set_level("INFO", "yass_dask")
    made = NeuralNetDetector(tmp_path / "d", [4, 3], W, K, 0.5, INDEX, n_batch=64, train_step_size=0.05)
    made.settings = made.settings.model_copy(update={"n_report": 20, "patience": 1})
    made.fit(*detect_set)
    lines = [line for line in caplog.messages if line.startswith("detect: iteration")]
    assert 3 < len(lines) < 500, "n_iter is 50000, a report comes after 20"
    assert "held-out" in lines[0]


@row("A12.8")
def test_triage_learns_to_tell_clean_from_collided(tmp_path):
    x, y = training_data_triage(TEMPLATES, 8, 20, 300, 1, 12, 6, *SIGS)
    made = NeuralNetTriage(tmp_path / "t", [16, 8, 16], W, K, 0.5, **QUICK)
    found = made.fit(x, y)
    assert found["acc"] > 0.85
    again = NeuralNetTriage.load(tmp_path / "t", 0.5)
    np.testing.assert_array_equal(again.predict(x), made.predict(x))
    assert (NeuralNetTriage.CLEAN, NeuralNetTriage.COLLIDED) == (1, 0)


@row("A12.9")
@pytest.mark.parametrize("sizes", [(8, 4), (24, 24, W)])
def test_denoiser_takes_away_more_than_half_of_the_noise(sizes, tmp_path):
    clean = np.concatenate([scale * TEMPLATES[:, :, 0] for scale in np.linspace(3, 15, 400)]).astype(np.float32)
    made = NeuralNetDenoiser(tmp_path / "n", sizes, W, **QUICK)
    found = made.fit(clean + rng(1).normal(size=clean.shape), clean)
    assert found["mse"] < 0.5 * found["mse_raw"]
    again = NeuralNetDenoiser.load(tmp_path / "n")
    np.testing.assert_array_equal(again.predict(clean), made.predict(clean))


def test_training_goes_on_from_given_weights(detector, detect_set, tmp_path):
    made = NeuralNetDetector(tmp_path / "d", [16, 8], W, K, 0.5, INDEX, n_iter=1, train_step_size=1e-6)
    made.fit(*detect_set, start=detector.network)
    np.testing.assert_allclose(made.network.temporal, detector.network.temporal, atol=1e-5)


def test_without_jax_training_says_what_to_install(detect_set, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yass_dask.neuralnetwork.training_jax", None)
    with pytest.raises(InputError, match=r"yass-dask\[jax\]"):
        NeuralNetDetector(tmp_path / "d", [4, 3], W, K, 0.5, INDEX).fit(*detect_set)


# --- prediction ---


@row("A12.4", "A12.5")
def test_probabilities_and_labels(detector, detect_set):
    x, y = detect_set
    p = detector.predict_proba(x)
    assert p.dtype == np.float32 and p.min() >= 0 and p.max() <= 1
    np.testing.assert_array_equal(detector.predict(x), (p >= 0.5).astype(np.int8))
    assert (detector.predict(x) == y).mean() > 0.9


@row("A12.4")
def test_exactly_the_threshold_is_a_spike(tmp_path):
    made = NeuralNetTriage(tmp_path / "t", [4, 3], W, K, 0.5)
    made.network = type(new_classifier([4, 3], W, K, 0))(*(0 * layer for layer in new_classifier([4, 3], W, K, 0)))
    np.testing.assert_array_equal(made.predict(np.ones((2, W, K))), [1, 1])


def test_the_triage_sees_large_spikes_scaled_down(tmp_path):
    made = NeuralNetTriage(tmp_path / "t", [4, 3, 5], W, K, 0.5)
    made.network = new_classifier([4, 3, 5], W, K, 0)
    large = rng(3).normal(size=(40, W, K))
    large *= 15 / np.abs(large).max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(made.predict_proba(10 * large), made.predict_proba(large), atol=1e-5)
    assert np.abs(made.predict_proba(0.5 * large) - made.predict_proba(large)).max() > 0.01


@row("A12.2", "A12.7", "A12.10")
def test_saved_sets_and_models_come_back(detector, detect_set):
    again = NeuralNetDetector.load(detector.path_to_model, 0.5, INDEX, load_test_set=True)
    assert again.card == detector.card and again.card.sampling_rate == RATE
    np.testing.assert_array_equal(again.x_test, detector.x_test)
    np.testing.assert_array_equal(again.y_test, detector.y_test)
    np.testing.assert_array_equal(again.predict_proba(detect_set[0]), detector.predict_proba(detect_set[0]))
    assert again.restore(None) is None


# --- recordings ---


def recorded(n_samples: int = 70_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise of unit variance with spikes of one shape on six channels; times and channels of the spikes."""
    draw = rng(2)
    traces = draw.normal(size=(n_samples, 6)).astype(np.float32)
    times = np.arange(300, n_samples - 300, 517)
    times[20] = 20_000  # on the border of two blocks
    channels = draw.integers(0, 6, len(times))
    for time, channel in zip(times, channels, strict=True):
        near = INDEX[channel][INDEX[channel] < 6]
        traces[time - W // 2 : time + W // 2 + 1, near] += 12 * TEMPLATES[0][:, : len(near)]
    return traces, times, channels


@row("A12.6")
def test_spikes_of_a_recording_are_found_where_they_are(detector):
    traces, times, channels = recorded()
    (index,) = detector.predict_recording(traces)
    assert index.dtype == np.int64
    close = np.abs(index[:, :1] - times) <= 1
    assert close.any(axis=0).mean() > 0.97 and close.any(axis=1).mean() > 0.9
    where = close.argmax(axis=1)[close.any(axis=1)]
    assert (np.abs(channels[where] - index[close.any(axis=1), 1]) <= 1).all()
    assert close.sum(axis=0).max() == 1, "no spike is found twice, on no border"


@pytest.mark.parametrize("chunk_blocks", [1, 2, 10])
def test_chunks_change_nothing_and_nothing_is_computed_before(detector, chunk_blocks):
    traces, *_ = recorded()
    names = ("waveform", "probability", "spike_index")
    expected = detector.predict_recording(traces, names)
    recording = from_array(traces, RATE, PLACES).with_chunks(chunk_blocks)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed while building")

    with dask.config.set(scheduler=refuse):
        lazy = detector.predict_recording(recording, names)
    for array, found in zip(expected, lazy, strict=True):
        np.testing.assert_array_equal(found.compute(scheduler="sync"), array)


@row("A12.6")
def test_outputs_belong_together(detector):
    traces, *_ = recorded(20_500)
    index, waveforms, probability = detector.predict_recording(traces, ("spike_index", "waveform", "probability"))
    assert waveforms.shape == (len(index), W, K) and probability.shape == traces.shape
    np.testing.assert_allclose(detector.predict_proba(waveforms), probability[tuple(index.T)], atol=1e-5)
    assert (probability[tuple(index.T)] >= 0.5).all()
    assert not probability[np.abs(traces) < FLOOR_SD].any()
    for (row, channel), wave in zip(index, waveforms, strict=True):
        np.testing.assert_array_equal(wave[:, 0], traces[row - W // 2 : row + W // 2 + 1, channel])


def test_a_wider_channel_index_is_cut_and_a_narrower_one_padded(detector):
    traces, *_ = recorded(20_500)
    wide = make_channel_index(find_channel_neighbors(PLACES, 60.0), PLACES)
    narrow = np.arange(6)[:, None]
    for index in (wide, narrow):
        made = NeuralNetDetector.load(detector.path_to_model, 0.5, index)
        assert len(made.predict_recording(traces)[0]) > 20


def test_a_network_sees_the_same_at_another_rate():
    network = new_classifier([8, 6, 5], W, K, 1)
    wave = lambda rate, n: np.exp(-0.5 * ((np.arange(n) - n // 2) / rate / 2e-4) ** 2)  # noqa: E731
    odds = []
    for rate in (20000.0, 30000.0):
        moved, before = at_rate(network, 20000.0, rate)
        n = 201
        traces = np.stack([wave(rate, n), 0.5 * wave(rate, n), -0.2 * wave(rate, n)], axis=1).astype(np.float32)
        judge = Judge(moved, np.array([[0, 1, 2]] * 3, np.int32), before, np.inf, "numpy")
        odds.append(judge.log_odds(traces, np.array([n // 2]), np.array([0]))[0])
    assert odds[1] == pytest.approx(odds[0], abs=0.02 * max(1, abs(odds[0])))
    matrix, before = resampling(W, 20000.0, 20000.0)
    np.testing.assert_allclose(matrix, np.eye(W), atol=1e-6)
    assert before == W // 2


@pytest.mark.parametrize("seed", range(5))
def test_peaks_are_those_of_the_map(seed, monkeypatch):
    """Against the kernel find_peaks, with log-odds that tie."""
    draw = rng(seed)
    traces = draw.normal(size=(3000, 6)).astype(np.float32)
    judge = Judge(new_classifier([4, 3], W, K, seed), INDEX[:, :K].astype(np.int32), 15, np.inf, "numpy")
    monkeypatch.setattr(Judge, "log_odds", lambda _, traces, rows, channels: np.rint(3 * traces[rows, channels]) % 7)
    scan = Scan(judge, RATE, 2.0, 0, 8, INDEX.astype(np.int32))
    expected = find_peaks(
        scan.map(traces, 92, 2908), threshold=2.0, sign=1, exclusion=8, neighbors=scan.neighbors, first=100, stop=2900
    )
    assert len(expected[0]) > 100
    for one, other in zip(scan.peaks(traces, 100, 2900), expected, strict=True):
        np.testing.assert_array_equal(one, other)


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((5, W + 1, K)), r"give \(n, 31, 3\)"),
        (np.zeros((5, W, K + 2)), r"give \(n, 31, 3\)"),
        (np.zeros((W, K)), r"give \(n, 31, 3\)"),
        (np.full((5, W, K), np.nan), "NaN"),
    ],
)
def test_waveforms_of_another_kind_are_refused(detector, x, message):
    with pytest.raises(InputError, match=message):
        detector.predict(x)
    with pytest.raises(InputError, match=message):
        detector.fit(x, np.zeros(len(x)))


def test_labels_are_checked(detector):
    x = np.zeros((50, W, K))
    for y, message in [
        (np.zeros(49), "one label for each of the 50"),
        (np.full(50, 2), "labels are 0 and 1"),
        (np.arange(50) < 3, "too few to train on"),
    ]:
        with pytest.raises(InputError, match=message):
            detector.fit(x, y)
    with pytest.raises(InputError, match="test_size"):
        detector.fit(x, np.arange(50) < 25, test_size=1.5)
    with pytest.raises(InputError, match="same number"):
        NeuralNetDenoiser("n", [4, 3], W).fit(x[:, :, 0], x[:20, :, 0])


@row("A12.1")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 1.5}, "between 0 and 1"),
        ({"filters_size": [16]}, "two or three"),
        ({"filters_size": [16, 0]}, "two or three"),
        ({"waveform_length": 0}, "at least 1"),
        ({"channel_index": np.zeros(4)}, "channel_index"),
    ],
)
def test_constructor_arguments_are_checked(change, message):
    given = {"path_to_model": "d", "filters_size": [16, 8], "waveform_length": W, "n_neighbors": K, "threshold": 0.5,
             "channel_index": INDEX} | change  # fmt: skip
    with pytest.raises(InputError, match=message):
        NeuralNetDetector(**given)
    for sizes, shortest in (([4, 3], 15), ([4, 3, 16], 16)):
        with pytest.raises(InputError, match=f"waveform_length is 14: a denoiser needs at least {shortest}"):
            NeuralNetDenoiser("n", sizes, 14)
    with pytest.raises(InputError, match="two or three"):
        NeuralNetDenoiser("n", [4], 31)


def test_an_untrained_network_says_so(tmp_path):
    with pytest.raises(InputError, match="not trained"):
        NeuralNetTriage(tmp_path / "t", [4, 3], W, K, 0.5).predict(np.zeros((1, W, K)))


def test_recordings_that_do_not_fit_are_refused(detector):
    with pytest.raises(InputError, match="output_names"):
        detector.predict_recording(np.zeros((100, 6)), ("spikes",))
    with pytest.raises(InputError, match="channel_index 6 channels"):
        detector.predict_recording(np.zeros((100, 5)))
    with pytest.raises(InputError, match="5 channels, channel_index 6"):
        detector.predict_recording(from_array(np.zeros((100, 5), np.float32), RATE, PLACES[:5]))
    with pytest.raises(InputError, match=r"of 20000 Hz, this one has 30000 Hz"):
        detector.predict_recording(from_array(np.zeros((100, 6), np.float32), 30000.0, PLACES))


def copied(detector: NeuralNetDetector, folder: Path) -> Path:
    for path in (detector.path_to_model, detector.path_to_model.with_suffix(".yaml")):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / "detect.npz"


def test_files_that_are_missing_or_damaged_are_told(detector, tmp_path):
    load = lambda path: NeuralNetDetector.load(path, 0.5, INDEX)  # noqa: E731
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / "nothing")
    path = copied(detector, tmp_path)
    load(path)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(InputError, match="damaged"):
        load(path)
    path.write_text("no weights")
    with pytest.raises(InputError, match="damaged"):
        load(path)
    other = new_classifier([16, 8], W, K, 9)
    np.savez(path, **other._asdict())
    with pytest.raises(InputError, match="not those of"):
        load(path)
    np.savez(path, **other._replace(temporal=np.full((W, 16), np.nan))._asdict())
    with pytest.raises(InputError, match="NaN"):
        load(path)
    path = copied(detector, tmp_path)
    with pytest.raises(InputError, match="detect network, not a triage"):
        NeuralNetTriage.load(path, 0.5)
    path.with_suffix(".yaml").write_text("format: 99")
    with pytest.raises(InputError, match="format 99"):
        load(path)
    path.with_suffix(".yaml").write_text("format: 1")
    with pytest.raises(InputError, match="not whole"):
        load(path)
    with pytest.raises(InputError, match="no test set"):
        NeuralNetDetector(tmp_path / "new", [4, 3], W, K, 0.5, INDEX, load_test_set=True)
    with pytest.raises(InputError, match="no such folder"):
        chosen_model(tmp_path / "nowhere", "detect")


# --- measures ---


def test_confusion_counts_by_hand():
    found = confusion(np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0]))
    assert (found["tn"], found["fp"], found["fn"], found["tp"]) == (1, 1, 1, 2)
    assert (found["acc"], found["prec"], found["rec"]) == (3 / 5, 2 / 3, 2 / 3)
    assert confusion(np.zeros(0), np.zeros(0))["acc"] == 0


def test_precision_and_recall_by_hand():
    precision, recall = precision_recall(np.array([True, False, True, True]), np.array([4.0, 3, 2, 2]))
    np.testing.assert_allclose(precision, [1, 1 / 2, 3 / 4])
    np.testing.assert_allclose(recall, [1 / 3, 1 / 3, 1])
    assert recall_at(precision, recall, 0.7) == 1 and recall_at(precision, recall, 0.9) == pytest.approx(1 / 3)
    assert recall_at(precision, recall, 1.1) == 0


def test_detections_are_matched_the_strongest_first():
    sizes = np.array([[9.0, 3, 0], [0, 2, 8]])
    near = np.abs(np.subtract.outer(np.arange(3), np.arange(3))) <= 1
    samples, channels = np.array([100, 101, 103, 200, 305]), np.array([0, 1, 2, 0, 2])
    strengths = np.array([5.0, 9, 4, 7, 6])
    found = match_detections(samples, channels, strengths, np.array([100, 300]), np.array([0, 1]), sizes, near, 10)
    np.testing.assert_array_equal(found.status, [TWICE, TRUE, FALSE, FALSE, TRUE])
    np.testing.assert_array_equal(found.found, [9, 6])


def test_log_odds_are_moved_as_told():
    for filters in ([4, 3], [4, 3, 5]):
        network = new_classifier(filters, W, K, 0)
        judge = lambda network: Judge(network, INDEX[:, :K].astype(np.int32), 15, np.inf, "numpy")  # noqa: E731
        traces, rows = rng(1).normal(size=(300, 6)).astype(np.float32), np.array([50, 90])
        before = judge(network).log_odds(traces, rows, rows % 6)
        after = judge(shifted(network, 1.5)).log_odds(traces, rows, rows % 6)
        np.testing.assert_allclose(after - before, 1.5, atol=1e-5)


def test_weights_of_another_shape_are_not_begun_with():
    _, card = chosen_model(None, "detect")
    network, _ = chosen_model(None, "detect")
    assert fitting(network, card) is network
    assert fitting(new_classifier([4, 3], W, K, 0), card) is None
    assert fitting(None, card) is None
    _, card = chosen_model(None, "denoise")
    assert fitting(new_denoiser([4, 3], 17, 0), card) is None


# --- the package's networks ---


def test_the_script_that_trains_them_runs(tmp_path):
    """One short scene and few iterations; the networks have the sizes of the package's."""
    train_networks.main(["--quick", "--output-dir", str(tmp_path)])
    for kind in ("detect", "triage", "denoise"):
        (_, made), (_, shipped) = chosen_model(tmp_path, kind), chosen_model(None, kind)
        assert (made.filters_size, made.waveform_length) == (shipped.filters_size, shipped.waveform_length)
        assert "1 simulated scenes of 4 s" in made.training_data and made.rates_hz == shipped.rates_hz


@pytest.mark.parametrize("kind", ["detect", "triage", "denoise"])
def test_shipped_networks_are_small_and_say_what_they_are(kind):
    network, card = chosen_model(None, kind)
    assert (SHIPPED / f"{kind}.npz").stat().st_size < 1_000_000
    assert "simulated" in card.training_data and card.metrics["n_train"] > 10_000
    assert card.rates_hz[0] <= 15000 and card.rates_hz[1] >= 32000
    assert config.text.read_mapping(SHIPPED / f"{kind}.yaml")["shapes"] == {
        name: list(layer.shape) for name, layer in network._asdict().items()
    }


def test_planted_shapes_are_found_by_the_shipped_detector():
    """Shapes of the tests' own making, on a probe and at a rate of their own."""
    units = planted.shapes(4, 6)
    draw = rng(5)
    times = np.arange(400, 60_000, 311)
    labels = draw.integers(0, 4, len(times))
    scales = np.full(len(times), 1.0)
    traces = planted.plant(60_400, units, times, labels, scales)
    traces *= 8 / np.abs(traces).max()
    traces += draw.normal(size=traces.shape)
    network, card = chosen_model(None, "detect")
    made = NeuralNetDetector.load(SHIPPED / "detect", 0.5, make_channel_index(np.ones((6, 6), bool), PLACES))
    recording: Recording = from_array(traces.astype(np.float32), 24000.0, PLACES)
    (index,) = (array.compute(scheduler="sync") for array in made.predict_recording(recording))
    close = np.abs(index[:, :1] - times) <= 12
    assert close.any(axis=0).mean() > 0.5 and close.any(axis=1).mean() > 0.95
    assert len(network.temporal) == card.waveform_length
