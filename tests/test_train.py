"""`yass train`, and sorts that use what it wrote."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from labs import edit, simulated
from pydantic import ValidationError
from typer.testing import CliRunner

from yass_dask import from_array
from yass_dask.cli import app
from yass_dask.commands import TrainOptions, run_train
from yass_dask.commands.training import read_spike_train, train_params
from yass_dask.conditioning import PreprocessParams
from yass_dask.detect import (
    MOST_CHANNELS,
    DetectParams,
    Finder,
    NetworkFinder,
    detect,
    refuse_unfit_networks,
    takes_network,
)
from yass_dask.errors import InputError
from yass_dask.neuralnetwork import files
from yass_dask.neuralnetwork.background import whitened
from yass_dask.neuralnetwork.learn import MAX_S, _empty, _middle, _plantings
from yass_dask.neuralnetwork.models import chosen_model
from yass_dask.neuralnetwork.plan import TrainParams
from yass_dask.neuralnetwork.scan import Judge
from yass_dask.pipeline import SortParams, sort
from yass_dask.runtime import Executor

row = pytest.mark.coverage_row

QUICK = """
filters_detect: [8, 4, 8]
filters_triage: [8, 4, 8]
filters_denoise: [4, 4]
background_s: 8
spikes_per_s: 8
settings: {n_iter: 300, n_report: 100, n_batch: 128, train_step_size: 0.005}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Path:
    """Configuration of a recording of 20 s with its truth and a quick config_train.yaml beside it."""
    folder = tmp_path_factory.mktemp("lab")
    path = simulated(folder, seconds=20.0, n_units=5, seed=4)
    edit(path, "resources", processes=1)
    truth = np.load(folder / "ground_truth.npz")
    np.save(folder / "train.npy", np.stack([truth["spike_times"], truth["spike_labels"]], axis=1))
    (folder / "config_train.yaml").write_text(QUICK)
    return path


@pytest.fixture(scope="module")
def model(lab) -> Path:
    """Networks trained in YASS's form of the command."""
    files_ = [str(lab.parent / name) for name in ("train.npy", "config_train.yaml", "config.yaml")]
    ran = CliRunner().invoke(app, ["train", *files_, "--output-dir", "own", "--no-progress"])
    assert ran.exit_code == 0, ran.output
    assert "planted spikes found at precision 0.9" in ran.output and "yass sort CONFIG --detector nnet" in ran.output
    return lab.parent / "own"


@row("A2.9")
def test_train_writes_networks_cards_a_log_and_a_plot(model):
    for kind in ("detect", "triage", "denoise"):
        _, card = chosen_model(model, kind)
        assert card.metrics["n_train"] > 100 and "templates" in card.training_data
        assert card.rates_hz == (30000.0, 30000.0)
    assert chosen_model(model, "detect")[1].filters_size == (8, 4, 8)
    assert (model / "precision_recall.png").stat().st_size > 5000
    log = (model / "yass.log").read_text()
    assert "detect: iteration 200" in log and "clean templates of" in log
    assert not list(model.glob("work-*")), "nothing of the preprocessing is left"
    metrics = chosen_model(model, "detect")[1].metrics
    assert metrics["prec"] > 0.8 and metrics["rec"] > 0.4


def test_train_finds_units_by_itself_and_the_same_seed_gives_the_same_weights(lab, monkeypatch):
    quick = train_params(lab.parent / "config_train.yaml")
    monkeypatch.setattr("yass_dask.commands.training.train_params", lambda path: quick)
    digests = []
    for folder in ("alone", "again"):
        told = run_train(TrainOptions((lab,), Path(folder), progress=False))
        assert "templates; networks in" in told
        loaded = [chosen_model(lab.parent / folder, kind)[0] for kind in ("detect", "triage", "denoise")]
        digests.append([files.digest(network) for network in loaded])
    assert digests[0] == digests[1]


@row("A2.9")
def test_sort_with_the_trained_networks(lab, model):
    words = ["sort", str(lab), "-o", "sorted", "--detector", "nnet", "--model", str(model), "--no-progress"]
    ran = CliRunner().invoke(app, [*words, "--set", "n_refinements=0", "--set", "detect.triage=true"])
    assert ran.exit_code == 0, ran.output
    assert "units" in ran.output
    written = (lab.parent / "sorted" / "config.yaml").read_text()
    assert "method: nnet" in written and str(model) in written
    found, truth = np.load(lab.parent / "sorted" / "spike_train.npy")[:, 0], np.load(lab.parent / "train.npy")[:, 0]
    assert np.mean([np.abs(found - time).min() <= 12 for time in truth]) > 0.7


# --- the detect stage ---


@pytest.fixture(scope="module")
def white(simulation, tmp_path_factory):
    recording = from_array(simulation.traces, simulation.sampling_rate, simulation.positions, simulation.gain_to_uv)
    with whitened(recording, tmp_path_factory.mktemp("white"), PreprocessParams(), client=Executor("sync")) as (
        made,
        _,
    ):
        yield made


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_network_finds_the_spikes_whatever_the_chunks(white, simulation, backend):
    params = DetectParams(method="nnet", triage=True)
    tables = []
    for chunk_blocks in (1, 4):
        clean = white.clean.__class__(white.recording.with_chunks(chunk_blocks), white.clean.scale, backend)
        parts = detect(clean, white.noise, params, backend).parts.values()
        made = [part.compute(scheduler="sync") for part in parts]
        tables.append({name: np.concatenate([part[name] for part in made]) for name in made[0]})
    for name, values in tables[0].items():
        np.testing.assert_array_equal(values, tables[1][name])
    found = tables[0]["sample_index"]
    close = np.abs(found[:, None] - simulation.spike_times) <= 12
    assert close.any(axis=0).mean() > 0.95 and close.any(axis=1).mean() > 0.95
    assert 0.3 < tables[0]["is_clear"].mean() <= 1


@row("A5.8")
def test_every_backend_finds_the_same_spikes(white):
    """The kernels agree to some 1e-6 of a log-odds: too little to show in some eighty peaks."""
    params, length = DetectParams(method="nnet", triage=True), 60_000
    found = []
    for backend in ("numpy", "numba", "jax"):
        finder = Finder.of(white.clean, white.noise, params, backend)
        traces = white.clean.to_sd(np.asarray(white.recording.source.read(0, length + 2 * finder.halo)))
        found.append(finder.block(traces, finder.halo, finder.halo + length, finder.halo))
    assert len(found[0]["sample_index"]) > 50
    for other in found[1:]:
        for name in ("sample_index", "channel_index", "is_clear"):
            np.testing.assert_array_equal(other[name], found[0][name])


def test_triage_takes_peaks_out_of_the_clear_ones_only(white):
    whole, some = (
        Finder.of(white.clean, white.noise, DetectParams(triage=triage, clean_probability=0.9), "numba")
        for triage in (False, True)
    )
    halo, length = max(whole.halo, some.halo), 60_000
    traces = white.clean.to_sd(np.asarray(white.recording.source.read(0, length + 2 * halo)))
    before, after = (finder.block(traces, halo, halo + length, halo) for finder in (whole, some))
    np.testing.assert_array_equal(before["sample_index"], after["sample_index"])
    assert not (after["is_clear"] & ~before["is_clear"]).any()
    assert after["is_clear"].sum() < before["is_clear"].sum()


def test_the_recipe_holds_the_weights(white, model, monkeypatch):
    recipes = []
    plain = DetectParams(method="threshold")
    for params in (plain, DetectParams(method="nnet"), DetectParams(method="nnet", triage=True)):
        recipes.append(detect(white.clean, white.noise, params, "numba").params)
    assert [len(recipe["networks"]) for recipe in recipes] == [0, 1, 2]
    own = detect(white.clean, white.noise, DetectParams(method="nnet", model=str(model)), "numba").params
    assert own["networks"] != recipes[1]["networks"]
    finder = Finder.of(white.clean, white.noise, DetectParams(method="nnet"), "numba")
    assert isinstance(finder, NetworkFinder) and finder.halo >= finder.scan.halo


def test_a_model_of_another_rate_stops_the_sort_with_a_reason(model, simulation, tmp_path):
    recording = from_array(simulation.traces[:40_000], 20_000.0, simulation.positions)
    params = SortParams(detect=DetectParams(method="nnet", model=str(model)))
    with pytest.raises(InputError, match="30000 Hz, this one has 20000 Hz"):
        sort(recording, tmp_path / "out", params, client=Executor("sync"))


def test_a_model_of_fewer_channels_stops_the_sort_with_a_reason(model, tmp_path):
    """Its recording has eight channels; a window of nine that are near each other is new to it."""
    dense = np.stack([np.tile([0.0, 20.0], 8), 10.0 * np.arange(16)], axis=1)
    recording = from_array(np.zeros((40_000, 16), np.int16), 30_000.0, dense)
    for kind in ("detect", "triage"):
        network, card = chosen_model(model, kind)
        assert card.channels_seen == 8 < card.n_neighbors
        message = rf"windows of 8 channels at most, this recording has {card.n_neighbors}.*yass train"
        with pytest.raises(InputError, match=message):
            Judge.of(network, card, recording, "numpy")


def test_what_the_packages_detector_sees_is_not_learned_as_noise(white, simulation):
    times = simulation.spike_times[simulation.spike_times < 120_000]
    empty = _empty(white.read(0, 120_000), white)
    assert empty.shape == (120_000, 8) and empty.mean() > 0.3
    assert (~empty[times]).any(axis=1).mean() > 0.95
    assert _empty(np.zeros((5000, 8), np.float32), white).all()


@pytest.mark.parametrize(("n_channels", "plantings"), [(4, 5), (96, 5), (384, 2), (4000, 1)])
def test_many_channels_need_fewer_plantings(n_channels, plantings):
    assert _plantings(TrainParams(), n_channels, 48.0) == plantings


# --- what goes wrong ---


def failing(*words: object) -> str:
    ran = CliRunner().invoke(app, [*map(str, words), "--no-progress"])
    assert ran.exit_code == 2, ran.output
    return ran.output


def test_bad_files_are_told(lab, tmp_path):
    assert "was given 2 files" in failing("train", lab, lab)
    assert "no such file" in failing("train", lab, "--spike-train", tmp_path / "no.npy")
    (tmp_path / "bad.npy").write_text("spikes")
    with pytest.raises(InputError, match="not a npy file"):
        read_spike_train(tmp_path / "bad.npy")
    np.save(tmp_path / "late.npy", np.array([[10**8, 0]]))
    assert "outside the recording" in failing("train", lab, "-o", "bad", "--spike-train", tmp_path / "late.npy")
    few = np.array([[5000, 0], [9000, 1]])
    np.save(tmp_path / "few.npy", few)
    assert "too few spikes to train on" in failing("train", lab, "-o", "bad", "--spike-train", tmp_path / "few.npy")


def test_keys_of_the_training_are_checked(tmp_path):
    path = tmp_path / "config_train.yaml"
    path.write_text("filter_detect: [16, 8]\nsettings: {n_iter: 0}")
    with pytest.raises(InputError, match=r"n_iter: found 0(.|\n)*did you mean filters_detect"):
        train_params(path)
    path.write_text("max_amplitude: 30")
    assert train_params(path).max_amplitude == 30
    assert train_params(None) == TrainParams()


def test_a_recording_without_spikes_has_nothing_to_teach(tmp_path):
    path = simulated(tmp_path, n_channels=4, seconds=4.0, n_units=0)
    assert "too few spikes to train on" in failing("train", path)


def test_unknown_detectors_and_models_are_told(lab, tmp_path):
    assert "detect.method" in failing("sort", lab, "-o", "x1", "--detector", "nnets")
    message = failing("sort", lab, "-o", "x2", "--detector", "nnet", "--model", tmp_path / "none")
    assert "no such folder" in message
    assert not (lab.parent / "x2" / "preprocess").exists(), "told before anything is computed"
    (tmp_path / "detect.npz").write_bytes(b"")
    message = failing("sort", lab, "-o", "x2", "--detector", "nnet", "--model", tmp_path / "detect.npz")
    assert "a file, not a folder" in message


def test_auto_takes_the_network_where_it_was_measured():
    def takes(n_channels: int, rate: float = 30_000.0, **changes: object) -> bool:
        places = np.stack([np.zeros(n_channels), 20.0 * np.arange(n_channels)], axis=1)
        return takes_network(DetectParams(**changes), from_array(np.zeros((10, n_channels), np.int16), rate, places))

    assert takes(1) and takes(MOST_CHANNELS) and takes(64, 10_000.0)
    assert not takes(MOST_CHANNELS + 1) and not takes(64, 8_000.0) and not takes(4, threshold_sd=5.0)
    assert takes(4, threshold_sd=5.0, model="mine") and takes(MOST_CHANNELS + 1, method="nnet")
    assert not takes(1, method="threshold")


def test_networks_that_are_not_asked_for_are_told(simulation, caplog):
    recording = from_array(simulation.traces, simulation.sampling_rate, simulation.positions)
    refuse_unfit_networks(recording, DetectParams(method="threshold", model="mine"))
    assert "the networks in mine are not used" in caplog.text
    with pytest.raises(InputError, match="mine"):
        refuse_unfit_networks(recording, DetectParams(method="threshold", model="mine", triage=True))


def test_without_jax_nothing_is_begun(lab, monkeypatch):
    monkeypatch.setitem(sys.modules, "yass_dask.neuralnetwork.training_jax", None)
    monkeypatch.setattr("yass_dask.neuralnetwork.learn.whitened", None)
    assert "yass-dask[jax]" in failing("train", lab, "-o", "nojax")


def test_of_a_long_recording_the_middle_is_enough():
    long = from_array(np.zeros((400_000, 1), np.int16), 1000.0, np.zeros((1, 2)))
    middle, first = _middle(long)
    assert first == 50_000 and middle.duration_s == MAX_S
    assert _middle(middle) == (middle, 0)


def test_lower_extrema_are_not_looked_at(white):
    traces = white.clean.to_sd(np.asarray(white.recording.source.read(0, 60_000)))
    x = white.noise.whiten(traces, "numba")
    least = {}
    for floor in (2.25, 6.0):
        finder = Finder.of(white.clean, white.noise, DetectParams(method="nnet", floor_sd=floor), "numba")
        least[floor] = np.abs(finder.found(x, 0, len(x))[2]).min()
    assert 2.25 <= least[2.25] < 6.0 <= least[6.0]
    with pytest.raises(ValidationError, match="floor_sd"):
        DetectParams(floor_sd=2.0)
