"""The five steps of YASS's interface: arguments, files, what stands for what, and spikes against truth."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import distributed
import numpy as np
import pytest
import yaml
from labs import recorded

import yass_dask.compat as yass
from yass_dask.compat import cluster, deconvolute, detect, preprocess, templates
from yass_dask.compat.cluster import legacy
from yass_dask.compat.detect import threshold
from yass_dask.compat.preprocess import batch, experimental
from yass_dask.evaluate import Spikes, compare
from yass_dask.simulate import plan, write

row = pytest.mark.coverage_row
OUT, N_UNITS = "out", 4


class Steps(NamedTuple):
    """A recording sorted step by step, everything saved."""

    config: Path
    truth: Spikes
    preprocessed: tuple[str, dict[str, Any], np.ndarray]
    clear: np.ndarray
    everything: np.ndarray
    clustered: tuple[np.ndarray, np.ndarray, Any]
    templates: tuple[np.ndarray, np.ndarray, list[list[int]], np.ndarray]
    spikes: np.ndarray

    @property
    def out(self) -> Path:
        return self.config.parent / OUT


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    scene = plan(n_channels=8, seconds=20, n_units=N_UNITS, seed=3, snr=(8, 20))
    config = write(tmp_path_factory.mktemp("lab"), scene)
    yass.set_config(config, OUT)
    preprocessed = preprocess.run()
    clear, everything = detect.run(*preprocessed, save_results=True)
    clustered = cluster.run(clear, save_results=True)
    made = templates.run(clustered[0], clustered[1], save_results=True)
    spikes = deconvolute.run(everything, made[0])
    with np.load(config.parent / "ground_truth.npz") as stored:
        truth = Spikes(stored["spike_times"], stored["spike_labels"])
    return Steps(config, truth, preprocessed, clear, everything, clustered, made, spikes)


@pytest.fixture(autouse=True)
def configured(steps: Steps) -> Iterator[None]:
    yass.set_config(steps.config, OUT)
    yield
    yass.reset_config()


def other(steps: Steps, name: str) -> None:
    """Work in a folder of its own from here on."""
    yass.set_config(steps.config, name)


def share_found(times: np.ndarray, truth: np.ndarray, within: int = 2) -> float:
    """Share of true spikes with a found one so near."""
    return float(np.mean([np.abs(times - time).min(initial=within + 1) <= within for time in truth]))


# --- configuration ---


@row("A3.1", "A3.2")
def test_a_step_needs_a_configuration(steps):
    yass.reset_config()
    with pytest.raises(ValueError, match="call set_config"):
        yass.read_config()
    for step in (lambda: preprocess.run(), lambda: detect.run(*steps.preprocessed), lambda: cluster.run(steps.clear)):
        with pytest.raises(ValueError, match="call set_config"):
            step()
    yass.set_config(str(steps.config), "elsewhere/")
    assert yass.read_config().path_to_output_directory == str(steps.config.parent / "elsewhere")


@row("A3.8")
def test_metadata_and_configuration_are_kept(steps):
    from importlib.metadata import version

    metadata = yaml.safe_load((steps.out / "metadata.yaml").read_text())
    assert metadata["versions"]["yass-dask"] == version("yass-dask")
    assert re.match(r"\d{4}-\d\d-\d\dT", str(metadata["written"]))
    stored = yaml.safe_load((steps.out / "config.yaml").read_text())
    assert stored["recordings"]["n_channels"] == 8


# --- preprocess ---


@row("A4.1", "A4.2", "A4.3", "A4.4", "A4.9")
def test_preprocess_returns_a_file_its_params_and_a_matrix(steps):
    path, params, whiten_filter = steps.preprocessed
    n_samples = 20 * 30000
    assert Path(path) == steps.out / "preprocess" / "standarized.bin"
    assert Path(path).stat().st_size == n_samples * 8 * np.dtype(params["dtype"]).itemsize
    for name in ("standarized.yaml", "filtered.yaml"):
        assert yaml.safe_load((steps.out / "preprocess" / name).read_text()) == params
    np.testing.assert_array_equal(np.load(steps.out / "preprocess" / "whitening.npy"), whiten_filter)
    assert whiten_filter.shape == (8, 8)
    traces = np.fromfile(path, params["dtype"]).reshape(-1, 8)
    quiet = (np.abs(traces) < 4).all(axis=1)
    white = traces[quiet] @ whiten_filter
    apart = np.corrcoef(white.T) - np.eye(8)
    assert np.abs(apart).max() < 0.5 * np.abs(np.corrcoef(traces[quiet].T) - np.eye(8)).max()
    assert np.median(np.abs(traces), axis=0) * 1.4826 == pytest.approx(1, abs=0.05)


@row("A4.1", "A13.2", "A1.4", "A1.6")
def test_preprocess_does_not_depend_on_memory_or_processes(steps):
    expected = Path(steps.preprocessed[0]).read_bytes()
    config = yaml.safe_load(steps.config.read_text())
    for memory, processes in (("12MB", 2), ("1GB", 1)):
        config["resources"] = {"max_memory": memory, "processes": processes}
        config["data"]["root_folder"] = str(steps.config.parent)
        yass.set_config(config, f"memory_{memory}")
        path, _, whiten_filter = preprocess.run()
        assert Path(path).read_bytes() == expected
        np.testing.assert_array_equal(whiten_filter, steps.preprocessed[2])


@row("A4.1", "A13.2")
def test_preprocess_runs_on_a_dask_cluster(steps):
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        other(steps, "on_cluster")
        path, _, _ = preprocess.run()
    assert Path(path).read_bytes() == Path(steps.preprocessed[0]).read_bytes()


@row("A4.5")
@pytest.mark.parametrize("there", ["none", "some", "all"])
@pytest.mark.parametrize("rule", ["overwrite", "abort", "skip"])
def test_files_that_are_there(steps, tmp_path, there, rule):
    yass.set_config(steps.config, tmp_path)
    folder = tmp_path / "preprocess"
    if there == "all":
        preprocess.run()
    elif there == "some":
        folder.mkdir()
        (folder / "standarized.bin").write_bytes(b"not ours")
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*")}
    if rule == "abort" and there != "none":
        with pytest.raises(ValueError, match="if_file_exists is 'abort'"):
            preprocess.run(if_file_exists=rule)
        assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*")} == before
        return
    path, _, whiten_filter = preprocess.run(if_file_exists=rule)
    kept = there == "all" and rule == "skip"
    assert (Path(path).stat().st_mtime_ns == before.get("standarized.bin")) == kept
    assert Path(path).read_bytes() == Path(steps.preprocessed[0]).read_bytes()
    np.testing.assert_array_equal(whiten_filter, steps.preprocessed[2])


@row("A4.6")
def test_preprocess_calls_your_own_function(steps):
    def own(CONFIG: Any, if_file_exists: str, scale: float) -> tuple[str, dict[str, Any], np.ndarray]:
        return CONFIG.path_to_output_directory, {"rule": if_file_exists, "scale": scale}, scale * np.eye(8)

    path, params, matrix = preprocess.run("overwrite", own, scale=3)
    assert (path, params) == (str(steps.out), {"rule": "overwrite", "scale": 3})
    np.testing.assert_array_equal(matrix, 3 * np.eye(8))
    with pytest.raises(ValueError, match="one of batch, experimental"):
        preprocess.run(function="preprocess.other.run")


@row("A4.7")
@pytest.mark.parametrize(
    ("argument", "value"),
    [("apply_filter", False), ("filter_order", 1), ("filter_low_pass_freq", 600), ("filter_high_factor", 0.3)],
)
def test_every_argument_of_preprocess_changes_the_traces(steps, argument, value):
    other(steps, f"with_{argument}")
    path, _, _ = preprocess.run(**{argument: value})
    found, usual = np.fromfile(path)[:80_000], np.fromfile(steps.preprocessed[0])[:80_000]
    assert np.corrcoef(found, usual)[0, 1] < 0.999
    assert (steps.out.parent / f"with_{argument}" / "preprocess" / "filtered.bin").exists() == (
        argument != "apply_filter"
    )


@row("A4.7")
def test_the_filter_is_a_band_pass(steps):
    other(steps, "band")
    path, params, _ = preprocess.run(output_dtype="float32", filter_high_factor=0.1)
    assert params["dtype"] == "float32"
    raw = np.fromfile(steps.config.parent / "recording.bin", np.int16).reshape(-1, 8)
    power, before = (np.abs(np.fft.rfft(x[:, 0])) ** 2 for x in (np.fromfile(path, np.float32).reshape(-1, 8), raw))
    hz = np.fft.rfftfreq(len(raw), 1 / 30000)
    low, inside, high = (power[band].sum() / before[band].sum() for band in (hz < 100, abs(hz - 1000) < 400, hz > 9000))
    assert low < 1e-3 * inside
    assert high < 1e-3 * inside


def test_bad_arguments_of_preprocess_are_refused():
    with pytest.raises(ValueError, match="floating type"):
        preprocess.run(output_dtype="int16")
    with pytest.raises(ValueError, match="preprocess"):
        preprocess.run(filter_order=0)
    with pytest.raises(ValueError, match="allowed are overwrite, abort, skip"):
        preprocess.run(if_file_exists="maybe")


@row("A4.8", "A14.1", "A14.6")
def test_experimental_gives_the_numbers_of_the_stable_one(steps):
    other(steps, "experimental")
    path, params, matrix = preprocess.run(function=experimental.run)
    assert params["dtype"] == "float32"
    stable = np.fromfile(steps.preprocessed[0]).reshape(-1, 8)
    np.testing.assert_allclose(np.fromfile(path, np.float32).reshape(-1, 8), stable, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(matrix, steps.preprocessed[2], atol=1e-3)


@row("A4.5", "A4.8")
def test_a_file_of_another_function_is_never_taken(steps, caplog):
    other(steps, "two_functions")
    preprocess.run(function=experimental.run)
    with caplog.at_level("WARNING", "yass_dask"):
        path, params, _ = preprocess.run(function=batch.run)
    assert "preprocess.experimental.run -> preprocess.batch.run" in caplog.text
    assert params["dtype"] == "float64"
    assert Path(path).read_bytes() == Path(steps.preprocessed[0]).read_bytes()


@row("A1.12")
def test_order_of_the_file_does_not_matter(steps, tmp_path):
    config = yaml.safe_load(steps.config.read_text())
    raw = np.fromfile(steps.config.parent / "recording.bin", np.int16).reshape(-1, 8)
    np.ascontiguousarray(raw.T).tofile(tmp_path / "recording.bin")
    (tmp_path / "geometry.npy").write_bytes((steps.config.parent / "geometry.npy").read_bytes())
    config["data"]["root_folder"], config["recordings"]["order"] = str(tmp_path), "channels"
    yass.set_config(config, OUT)
    assert Path(preprocess.run()[0]).read_bytes() == Path(steps.preprocessed[0]).read_bytes()


# --- detect ---


@row("A5.3", "A5.4")
def test_detect_returns_clear_and_all_spikes_at_their_times(steps):
    for train in (steps.clear, steps.everything):
        assert (train.ndim, train.shape[1], train.dtype) == (2, 2, np.dtype("int64"))
        assert (np.diff(train[:, 0]) >= 0).all()
    everything = set(map(tuple, steps.everything.tolist()))
    assert set(map(tuple, steps.clear.tolist())) <= everything
    assert len(steps.clear) < len(everything)
    assert share_found(steps.everything[:, 0], steps.truth.times) > 0.85


@row("A5.4", "A13.6")
def test_detected_times_and_channels_are_exact(steps):
    """Planted spikes: the sample and channel of their extremum, wherever the chunks' borders lie."""
    rng = np.random.default_rng(5)
    traces = 0.3 * rng.standard_normal((65_000, 8))
    times = np.array([500, 14_999, 29_979, 29_999, 30_019, 45_000, 59_985, 60_000, 64_000])
    t = np.arange(-12, 13)[:, None]
    for k, time in enumerate(times):
        gain = 30 * np.exp(-np.abs(np.arange(8) - k % 8))
        traces[time - 12 : time + 13] -= gain * np.exp(-0.5 * (t / 3) ** 2)
    path = steps.config.parent / "planted.bin"
    traces.astype(np.float32).tofile(path)
    params = {"dtype": "float32", "n_channels": 8, "data_order": "samples"}
    clear, everything = detect.run(path, params, np.eye(8), std_factor=15)
    expected = np.column_stack([times, np.arange(len(times)) % 8])
    np.testing.assert_array_equal(everything, expected)
    assert {(500, 0), (45_000, 5), (64_000, 0)} <= set(map(tuple, clear.tolist()))


@row("A5.2")
def test_detect_takes_paths_and_values_alike(steps):
    path, params, _ = steps.preprocessed
    folder = steps.out / "preprocess"
    for given_params in (params, str(folder / "standarized.yaml"), folder / "standarized.yaml"):
        for matrix in (str(folder / "whitening.npy"), folder / "whitening.npy"):
            clear, everything = detect.run(Path(path), given_params, matrix)
            np.testing.assert_array_equal(everything, steps.everything)
            np.testing.assert_array_equal(clear, steps.clear)


@row("A5.1")
def test_arguments_of_detect_are_real(steps):
    path, params, matrix = steps.preprocessed
    rotated = matrix @ np.roll(np.eye(8), 1, axis=1)
    _, moved = detect.run(path, params, rotated)
    assert len(moved) and not np.array_equal(moved, steps.everything)
    _, few = detect.run(path, params, matrix, std_factor=9)
    assert 0 < len(few) < len(steps.everything)
    quieter = steps.config.parent / "quieter.bin"
    (np.fromfile(path) / 2).tofile(quieter)
    _, half = detect.run(quieter, params, matrix)
    assert 0 < len(half) < len(steps.everything)
    with pytest.raises(ValueError, match="whiten_filter has shape"):
        detect.run(path, params, np.eye(7))
    with pytest.raises(ValueError, match="n_channels"):
        detect.run(path, {"dtype": "float64", "data_order": "samples"}, matrix)


@row("A5.5")
def test_detect_writes_files_only_when_asked(steps):
    folder = steps.out / "detect"
    names = {"spike_index_clear.npy", "spike_index_all.npy", "rotation.npy", "scores_clear.npy"}
    assert {path.name for path in folder.glob("*.npy")} == names
    np.testing.assert_array_equal(np.load(folder / "spike_index_clear.npy"), steps.clear)
    scores = np.load(folder / "scores_clear.npy")
    assert len(scores) == len(steps.clear)
    assert scores.shape[1] == np.load(folder / "rotation.npy").shape[1]
    assert np.abs(scores).max(axis=(1, 2)).min() > 2  # every clear spike is larger than noise
    other(steps, "nothing_saved")
    detect.run(*steps.preprocessed)
    assert not (steps.config.parent / "nothing_saved" / "detect").exists()


@row("A5.9", "A13.3")
def test_a_second_call_computes_nothing(steps, monkeypatch):
    def forbidden(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("yass_dask.runtime.Executor.run", forbidden)
    preprocess.run()
    np.testing.assert_array_equal(detect.run(*steps.preprocessed, save_results=True)[1], steps.everything)
    np.testing.assert_array_equal(cluster.run(steps.clear)[0], steps.clustered[0])
    again = templates.run(steps.clustered[0], steps.clustered[1])
    np.testing.assert_array_equal(again[0], steps.templates[0])
    assert again[2] == steps.templates[2]
    np.testing.assert_array_equal(deconvolute.run(steps.everything, steps.templates[0]), steps.spikes)


@row("A5.6")
def test_detect_calls_named_and_own_functions(steps):
    assert len(detect.run(*steps.preprocessed, function="detect.threshold.run")[0]) == len(steps.clear)
    np.testing.assert_array_equal(threshold.run(*steps.preprocessed)[1], steps.everything)

    def own(path: str, params: dict, matrix: np.ndarray, rule: str, save: bool, first: int) -> tuple[Any, Any]:
        return [[first, 0]], np.array([[first, 0], [first + 1, 7]])

    for save in (False, True):
        other(steps, f"own_{save}")
        clear, everything = detect.run(*steps.preprocessed, save_results=save, function=own, first=4)
        assert (clear.tolist(), everything.tolist()) == ([[4, 0]], [[4, 0], [5, 7]])
        assert detect.run(*steps.preprocessed, function=own, first=9)[0].tolist() == [[9, 0]]  # not the saved ones
    with pytest.raises(ValueError, match="function is 'detect"):
        detect.run(*steps.preprocessed, function="detect.magic.run")


@row("A5.10")
@pytest.mark.parametrize("late", [0, 1])
def test_spikes_without_room_for_a_waveform_are_left_out(steps, late):
    traces = np.random.default_rng(0).normal(0, 0.2, (30_000, 8)).astype(np.float32)
    size = yass.read_config().spike_size + 3
    for time in (size - late, 15_000, 29_999 - size + late):
        traces[time, 3] = 50
    path = steps.config.parent / f"edges_{late}.bin"
    traces.tofile(path)
    params = {"dtype": "float32", "n_channels": 8, "data_order": "samples"}
    _, everything = detect.run(path, params, np.eye(8), std_factor=20)
    assert everything[:, 0].tolist() == ([15_000] if late else [size, 15_000, 29_999 - size])


# --- cluster ---


@row("A6.1", "A6.3")
def test_cluster_returns_train_channels_and_posterior(steps):
    train, channels, posterior = steps.clustered
    assert train.shape[1] == 3 and (np.diff(train[:, 0]) >= 0).all()
    units = train[:, 1].astype(int)
    assert set(units) == set(range(len(channels)))
    assert ((train[:, 2] > 0) & (train[:, 2] <= 1)).all()
    given = set(map(tuple, steps.clear.tolist()))
    assert all((int(time), int(channels[int(unit)])) in given for time, unit, _ in train)
    assert posterior["counts"].tolist() == np.bincount(units).tolist()
    assert posterior["means"].shape[0] == posterior["covariances"].shape[0] == len(channels)
    # Two clusters of one channel have means that differ by more than noise does.
    means = posterior["means"]
    for channel in set(channels.tolist()):
        here = means[channels == channel]
        apart = np.linalg.norm(here[:, None] - here[None], axis=-1) + 9 * np.eye(len(here))
        assert apart.min() > 1


@row("A6.3", "A6.5")
@pytest.mark.parametrize("function", ["location", "cluster.neigh_channels", legacy.location, legacy.neigh_channels])
def test_clusters_are_the_true_units(steps, function):
    train, channels, _ = cluster.run(steps.clear, function=function, if_file_exists="overwrite")
    times, units = train[:, 0].astype(int), train[:, 1].astype(int)
    majority, pure = set(), 0.0
    for unit in range(len(channels)):
        mine = times[units == unit]
        shares = [share_found(steps.truth.times[steps.truth.labels == u], mine) for u in range(N_UNITS)]
        majority.add(int(np.argmax(shares)))
        pure += max(shares) * len(mine)
    assert majority == set(range(N_UNITS))
    assert pure > 0.95 * len(train)
    assert len(train) > 0.9 * len(steps.clear)


@row("A6.2", "A6.4")
def test_cluster_takes_a_path_and_writes_its_files(steps):
    train, channels, posterior = cluster.run(steps.out / "detect" / "spike_index_clear.npy")
    np.testing.assert_array_equal(train, steps.clustered[0])
    folder = steps.out / "cluster"
    np.testing.assert_array_equal(np.load(folder / "spike_train_cluster.npy"), train)
    np.testing.assert_array_equal(np.load(folder / "tmp_loc.npy"), channels)
    with np.load(folder / "vbPar.npz") as stored:
        np.testing.assert_array_equal(stored["means"], posterior["means"])


@row("A6.1")
def test_arguments_of_cluster_are_real(steps):
    half, _, _ = cluster.run(steps.clear[::2])
    assert set(half[:, 0]) <= set(steps.clear[::2, 0])
    scores = np.load(steps.out / "detect" / "scores_clear.npy")
    given, channels, _ = cluster.run(steps.clear, scores=scores)
    assert len(channels) == len(steps.clustered[1])
    np.testing.assert_array_equal(given[:, :2], steps.clustered[0][:, :2])
    merged, _, _ = cluster.run(steps.clear, scores=np.random.default_rng(0).standard_normal(scores.shape))
    assert not np.array_equal(merged[:, :2], given[:, :2])  # of noise nothing is learnt
    noisier, traces = steps.out / "preprocess" / "noisier.bin", np.fromfile(steps.preprocessed[0])
    (traces + np.random.default_rng(0).normal(0, 2, traces.shape)).tofile(noisier)
    noisier.with_suffix(".yaml").write_text(yaml.safe_dump(steps.preprocessed[1]))
    _, _, posterior = cluster.run(steps.clear, recordings_filename="noisier.bin")
    assert np.abs(posterior["means"]).max() < 0.8 * np.abs(steps.clustered[2]["means"]).max()
    with pytest.raises(ValueError, match="scores have shape"):
        cluster.run(steps.clear, scores=scores[1:])
    with pytest.raises(ValueError, match="outside of"):
        cluster.run(np.array([[10**9, 0]]))
    with pytest.raises(ValueError, match="spike_index has shape"):
        cluster.run(steps.clear[:, :1])


def test_cluster_calls_your_own_function(steps):
    def own(spike_index: np.ndarray) -> tuple[Any, ...]:
        return np.ones((len(spike_index), 3)), np.zeros(1), {"n": np.array(len(spike_index))}

    train, _, posterior = cluster.run(steps.clear, function=own)
    assert len(train) == int(posterior["n"]) == len(steps.clear)


@row("A6.6", "A2.6")
def test_the_same_seed_gives_the_same_units_and_so_does_any_other(steps):
    for seed, folder in ((0, "seed_a"), (7, "seed_b")):
        np.random.seed(seed)  # noqa: NPY002  # as in YASS's examples
        other(steps, folder)
        preprocess.run()
        np.testing.assert_array_equal(cluster.run(steps.clear)[0], steps.clustered[0])


# --- templates ---


@row("A7.1", "A7.2")
def test_templates_have_yasss_shape_and_their_peak_in_the_middle(steps):
    waveforms, _, groups, _ = steps.templates
    size = yass.read_config().spike_size
    assert waveforms.shape == (8, 4 * size + 1, len(groups))
    assert len(groups) == N_UNITS
    for k in range(N_UNITS):
        main = np.abs(waveforms[:, :, k]).max(axis=1).argmax()
        assert abs(int(np.abs(waveforms[main, :, k]).argmax()) - 2 * size) <= 2


@row("A7.3")
def test_train_of_the_templates_keeps_times_and_weights(steps):
    _, train, groups, _ = steps.templates
    assert train.shape[1] == 3
    before = {(time, unit): weight for time, unit, weight in steps.clustered[0].tolist()}
    for time, template, weight in train.tolist():
        assert weight in [before[time, unit] for unit in groups[int(template)] if (time, unit) in before]


@row("A7.4", "A7.5")
def test_groups_tell_which_units_were_joined(steps):
    """A unit cut in two halves is one again; a unit of noise is dropped."""
    train, channels, _ = steps.clustered
    largest = int(np.bincount(train[:, 1].astype(int)).argmax())
    cut = train.copy()
    mine = np.flatnonzero(train[:, 1] == largest)
    cut[mine[::2], 1] = len(channels)
    noise = np.column_stack([np.arange(1000, 580_000, 10_000), np.full(58, len(channels) + 1), np.ones(58)])
    given = np.concatenate([cut, noise])
    _, found, groups, good = templates.run(given, np.append(channels, [channels[largest], 0]))
    assert any({largest, len(channels)} <= set(group) for group in groups)
    assert sorted(unit for group in groups for unit in group) == good.tolist()
    assert len(channels) + 1 not in good
    assert set(good) <= set(range(len(channels) + 2))
    assert set(found[:, 1].astype(int)) == set(range(len(groups)))


@row("A7.1")
def test_arguments_of_templates_are_real(steps):
    train, channels, _ = steps.clustered
    some, _, _, _ = templates.run(train[train[:, 1] == 0], channels[:1])
    assert some.shape[2] == 1
    weights = train.copy()
    first = np.flatnonzero(train[:, 1] == 0)
    weights[first[5:], 2] = 0  # all the weight on five spikes
    heavy, _, _, _ = templates.run(weights[first], channels[:1])
    assert not np.allclose(heavy, some)
    half = steps.out / "preprocess" / "half.bin"
    (np.fromfile(steps.preprocessed[0]) / 2).tofile(half)
    half.with_suffix(".yaml").write_text(yaml.safe_dump(steps.preprocessed[1]))
    smaller, _, _, _ = templates.run(train[first], channels[:1], recordings_filename="half.bin")
    np.testing.assert_allclose(np.abs(smaller).max() / np.abs(some).max(), 0.5, atol=0.02)
    with pytest.raises(ValueError, match="tmp_loc gives 1 channels"):
        templates.run(train, channels[:1])
    with pytest.raises(ValueError, match="do not exist"):
        templates.run(train, channels, recordings_filename="nowhere.bin")


@row("A7.3")
def test_weights_weigh(steps):
    """Mean of two kinds of spikes with weights 1 and 1/4 is nearer to the first kind."""
    train, channels, _ = steps.clustered
    a, b = (train[train[:, 1] == unit] for unit in np.argsort(-np.bincount(train[:, 1].astype(int)))[:2])
    n = min(len(a), len(b))
    channel = channels[[int(a[0, 1])]]
    means = [templates.run(np.column_stack([one[:n, 0], np.zeros(n), np.ones(n)]), channel)[0] for one in (a, b)]
    mixed = np.concatenate([a[:n], b[:n]])
    mixed[:, 1], mixed[:, 2] = 0, np.repeat([1, 0.25], n)
    found = templates.run(mixed, channel)[0]
    expected = 0.8 * means[0] + 0.2 * means[1]
    main = int(channel[0])
    assert np.abs(found[main] - expected[main]).max() < 0.15 * np.abs(means[0][main]).max()


@row("A7.6")
def test_templates_are_written_only_when_asked(steps):
    folder = steps.out / "templates"
    np.testing.assert_array_equal(np.load(folder / "templates.npy"), steps.templates[0])
    np.testing.assert_array_equal(np.load(folder / "spike_train.npy"), steps.templates[1])
    assert json.loads((folder / "groups.json").read_text()) == steps.templates[2]
    np.testing.assert_array_equal(np.load(folder / "idx_good_templates.npy"), steps.templates[3])
    other(steps, "templates_not_saved")
    preprocess.run()
    templates.run(folder.parent / "cluster" / "spike_train_cluster.npy", folder.parent / "cluster" / "tmp_loc.npy")
    assert not (steps.config.parent / "templates_not_saved" / "templates").exists()


# --- deconvolute ---


@row("A8.1", "A8.4")
def test_deconvolute_finds_the_true_spikes_and_collisions(steps):
    assert (steps.spikes.shape[1], steps.spikes.dtype) == (2, np.dtype("int64"))
    assert (np.diff(steps.spikes[:, 0]) >= 0).all()
    assert set(steps.spikes[:, 1]) == set(range(N_UNITS))
    agreement = compare(steps.truth, Spikes(*steps.spikes.T), 30000)
    assert agreement.n_matched == N_UNITS
    assert agreement.mean_accuracy > 0.95
    assert all(abs(unit.offset_samples or 0) <= 1 for unit in agreement.units)


@row("A8.1")
def test_planted_collisions_are_recovered(steps):
    """Two templates on top of each other, at lags of up to half a waveform: often detection sees one of them only."""
    made, rng = steps.templates[0], np.random.default_rng(1)
    size, n_pairs = made.shape[1] // 2, 120
    heights = np.abs(made).max(axis=(0, 1))
    large, small = np.argsort(-heights)[[0, 1]]
    times = 1000 + 2500 * np.arange(n_pairs)
    lags = rng.integers(-15, 16, n_pairs)
    traces = rng.standard_normal((times[-1] + 1000, 8))
    truth = np.concatenate([np.column_stack([times, np.full(n_pairs, large)]),
                            np.column_stack([times + lags, np.full(n_pairs, small)])])  # fmt: skip
    for time, unit in truth:
        traces[time - size : time + size + 1] += made[:, :, unit].T
    path = steps.out / "collisions.bin"
    traces.astype(np.float32).tofile(path)
    params = {"dtype": "float32", "n_channels": 8, "data_order": "samples"}
    path.with_suffix(".yaml").write_text(yaml.safe_dump(params))
    _, candidates = detect.run(path, params, np.eye(8))
    spikes = deconvolute.run(candidates, made, "collisions.bin", save_results=False)
    agreement = compare(Spikes(*truth.T), Spikes(*spikes.T), 30000)
    found = {unit.unit_id: unit for unit in agreement.units}
    assert found[large].recall > 0.95 and found[small].recall > 0.9
    assert len(candidates) < 6 * n_pairs
    assert found[small].n_collisions == n_pairs


@row("A8.1")
def test_spike_index_is_the_set_of_candidates(steps):
    made, reach = steps.templates[0], yass.read_config().spike_size
    first = steps.everything[steps.everything[:, 0] < 300_000]
    found = deconvolute.run(first, made, save_results=False)
    whole = steps.spikes[steps.spikes[:, 0] < first[-1, 0] - reach]
    assert found[:, 0].max() <= first[-1, 0] + reach
    np.testing.assert_array_equal(found[: len(whole)], whole)
    every_third = steps.everything[::3]
    fewer = deconvolute.run(every_third, made, save_results=False)
    assert 0 < len(fewer) < len(steps.spikes)
    assert all(np.abs(every_third[:, 0] - time).min() <= reach for time, _ in fewer)
    assert len(deconvolute.run(np.zeros((0, 2), int), made, save_results=False)) == 0
    with pytest.raises(ValueError, match="outside of"):
        deconvolute.run([[5, 8]], made)


@row("A8.1")
def test_the_function_behind_deconvolute_may_be_called_itself(steps):
    np.testing.assert_array_equal(deconvolute.legacy(steps.everything, steps.templates[0]), steps.spikes)


@row("A8.2", "A8.4")
def test_deconvolute_takes_paths_and_writes_its_train(steps):
    folder = steps.out
    np.testing.assert_array_equal(np.load(folder / "spike_train.npy"), steps.spikes)
    paths = (folder / "detect" / "spike_index_all.npy", str(folder / "templates" / "templates.npy"))
    np.testing.assert_array_equal(deconvolute.run(*paths, function="deconvolute.legacy"), steps.spikes)


@row("A8.3")
def test_templates_of_another_shape_are_refused(steps):
    waveforms = steps.templates[0]
    for wrong in (waveforms.transpose(2, 1, 0), waveforms[:, :-1], waveforms[:, :, 0]):
        with pytest.raises(ValueError, match=r"templates (have|has) shape"):
            deconvolute.run(steps.everything, wrong)


@row("A8.1")
def test_templates_of_deconvolute_are_real(steps):
    waveforms = steps.templates[0].copy()
    waveforms[:, :, 2] = 0
    found = deconvolute.run(steps.everything, waveforms, save_results=False)
    assert set(found[:, 1]) == {0, 1, 3}
    swapped = deconvolute.run(steps.everything, steps.templates[0][:, :, ::-1], save_results=False)
    np.testing.assert_array_equal(np.sort(N_UNITS - 1 - swapped[:, 1]), np.sort(steps.spikes[:, 1]))


@row("A8.5")
def test_deconvolute_resumes_and_never_takes_another_result(steps, caplog):
    other(steps, "resumed")
    preprocess.run()
    made = steps.templates[0]
    first = deconvolute.run(steps.everything, made)
    path = steps.config.parent / "resumed" / "spike_train.npy"
    stamp = path.stat().st_mtime_ns
    np.testing.assert_array_equal(deconvolute.run(steps.everything, made), first)
    assert path.stat().st_mtime_ns == stamp
    with caplog.at_level("WARNING", "yass_dask"):
        fewer = deconvolute.run(steps.everything[::2], made)
    assert "spike_index" in caplog.text and len(fewer) < len(first)
    with pytest.raises(ValueError, match="'abort'"):
        deconvolute.run(steps.everything, made, if_file_exists="abort")

    def own(spike_index: np.ndarray, templates_: np.ndarray, recordings_filename: str) -> np.ndarray:
        return spike_index[:3]

    np.testing.assert_array_equal(deconvolute.run(steps.everything, made, function=own), steps.everything[:3])


@pytest.mark.parametrize("n_channels", [1, 4])
def test_a_recording_without_spikes_has_no_units(tmp_path, n_channels):
    noise = np.random.default_rng(0).normal(0, 20, (45_000, n_channels)).astype(np.int16)
    yass.set_config(recorded(tmp_path, noise), OUT)
    preprocessed = preprocess.run()
    clear, everything = detect.run(*preprocessed, save_results=True, std_factor=9)
    assert clear.shape == everything.shape == (0, 2)
    train, channels, posterior = cluster.run(clear, save_results=True)
    assert (train.shape, channels.shape, posterior["counts"].shape) == ((0, 3), (0,), (0,))
    made, train, groups, good = templates.run(train, channels, save_results=True)
    assert (made.shape, train.shape, groups, len(good)) == ((n_channels, 4 * 22 + 1, 0), (0, 3), [], 0)
    assert deconvolute.run(everything, made).shape == (0, 2)


def test_steps_work_in_another_output_directory(steps):
    found = deconvolute.run(steps.everything, steps.templates[0], output_directory=OUT, save_results=False)
    yass.set_config(steps.config, "somewhere")
    again = deconvolute.run(steps.everything, steps.templates[0], output_directory=OUT, save_results=False)
    np.testing.assert_array_equal(found, again)
    assert yass.read_config().output_directory == "somewhere"
