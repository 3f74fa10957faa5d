"""Training data: what YASS documents, and spikes planted into noise, against what was put in."""

from __future__ import annotations

import numpy as np
import planted
import pytest

from yass_dask import config
from yass_dask.augment import kinds, load_templates, spikes, training_data, training_data_detect, training_data_triage
from yass_dask.augment.examples import CLEAN_SD, NOT_SPIKE, SPIKE, UNKNOWN, Windows, examples, label
from yass_dask.augment.noise import NoiseModel, add_noise, draw_noise, measure_noise
from yass_dask.augment.plant import Bank, plant, quiet
from yass_dask.augment.standardized import mean_waveforms, standardized
from yass_dask.errors import InputError
from yass_dask.simulate import Simulation, write

row = pytest.mark.coverage_row

W, K = 21, 4


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def templates() -> np.ndarray:
    """(3, W, K), largest on the first channel, in the middle."""
    waves = np.zeros((3, W, K))
    waves[:, 8:13] = np.array([-1.0, -3, -5, -2, 1])[:, None] * np.array([1.0, 0.6, 0.4, 0.2])
    return waves * np.array([1.0, 2.0, -1.5])[:, None, None]


@pytest.fixture
def white() -> NoiseModel:
    return NoiseModel(np.eye(K), np.eye(W))


# --- kinds of spikes ---


@row("A11.2")
def test_spikes_gives_each_kind_in_its_slice(templates, white):
    x, noisy, amplitudes, slices, *sigs = spikes(templates, 4, 10, 5, *white)
    assert sigs[0] is white.spatial_SIG and sigs[1] is white.temporal_SIG
    assert list(slices) == ["from templates", "spatially misaligned", "temporally misaligned", "collided", "noise"]
    assert x.shape == noisy.shape == (5 * 15, W, K)
    clean, elsewhere, late, both, noise = (x[place] for place in slices.values())
    np.testing.assert_allclose(amplitudes, np.tile(np.linspace(4, 10, 5), 3))
    np.testing.assert_allclose(kinds.amplitudes_of(clean), amplitudes, rtol=1e-6)
    assert (np.abs(clean).argmax(axis=1)[:, 0] == 10).all()
    assert (np.abs(elsewhere[:, 10]).argmax(axis=1) != 0).all(), "the first channel is another one"
    np.testing.assert_allclose(np.sort(elsewhere[:, 10]), np.sort(clean[:, 10]), rtol=1e-6)
    moved = np.abs(late[:, :, 0]).argmax(axis=1)
    assert (np.abs(moved - 10) >= W // 10).all()
    second = both - clean
    ratio = kinds.amplitudes_of(second) / amplitudes
    # What leaves the window at its end takes the peak of the second one along.
    assert (ratio <= 1.2 + 1e-6).all() and (ratio[kinds.amplitudes_of(second) > 0] > 0.1).all()
    assert (np.abs(np.abs(second).max(axis=2).argmax(axis=1) - 10) >= 5).all(), "five samples apart or more"
    assert not noise.any()
    assert (noisy - x).std() == pytest.approx(1, abs=0.05)


@row("A11.2", "A11.3")
def test_kinds_can_be_left_out_and_multiplied(templates, white):
    x, _, _, slices, *_ = spikes(
        templates, 4, 10, 5, *white, make_noise=False, make_spatially_misaligned=False,
        collided_kwargs={"n_per_spike": 3, "min_shift": 2}, temporally_misaligned_kwargs={"n_per_spike": 2},
    )  # fmt: skip
    lengths = {kind: len(x[place]) for kind, place in slices.items()}
    assert lengths == {"from templates": 15, "temporally misaligned": 30, "collided": 45}
    assert len(spikes(templates, 4, 10, 5, *white, return_metadata=False)) == 4


@row("A11.3")
@pytest.mark.parametrize("forced", [True, False])
def test_the_first_channel_may_be_forced_to_be_another(templates, white, forced):
    given = {"spatially_misaligned_kwargs": {"force_first_channel_shuffle": forced}}
    x, _, _, slices, *_ = spikes(templates, 4, 10, 40, *white, **given)
    same = np.abs(x[slices["spatially misaligned"]][:, 10]).argmax(axis=1) == 0
    assert same.mean() == pytest.approx(0 if forced else 1 / K, abs=0 if forced else 0.12)


def test_same_seed_same_spikes(templates, white):
    one, two, other = (spikes(templates, 4, 10, 5, *white, seed=seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


@row("A11.2")
@pytest.mark.parametrize("bad", [{"spatial_sig": np.eye(K + 1)}, {"temporal_sig": np.eye(W + 2)}])
def test_shapes_that_do_not_fit_are_told(templates, white, bad):
    given = {"spatial_sig": white.spatial_SIG, "temporal_sig": white.temporal_SIG} | bad
    with pytest.raises(InputError, match="spatial_SIG"):
        spikes(templates, 4, 10, 5, **given)


def test_nothing_to_make_and_empty_templates_are_told(templates, white):
    none = {f"make_{kind}": False for kind in ("from_templates", "spatially_misaligned", "temporally_misaligned",
                                               "collided", "noise")}  # fmt: skip
    with pytest.raises(InputError, match="switched off"):
        spikes(templates, 4, 10, 5, *white, **none)
    with pytest.raises(InputError, match="not zero"):
        spikes(0 * templates, 4, 10, 5, *white)


@row("A11.5", "A11.6")
def test_detector_data_has_the_counts_and_labels_asked_for(templates, white):
    x, y = training_data_detect(templates, 5, 20, 10, 2, 3, 1, 70, *white)
    assert x.shape == (30 + 60 + 90 + 30 + 70, W, K) and len(y) == len(x)
    np.testing.assert_array_equal(y, [1] * 90 + [0] * 190)
    assert np.abs(x[-70:]).max() < 6, "noise alone"


@row("A11.5", "A11.6")
def test_triage_data_has_the_counts_and_labels_asked_for(templates, white):
    x, y = training_data_triage(templates, 5, 20, 10, 2, max_shift=8, min_shift=4, spatial_SIG=white.spatial_SIG,
                                temporal_SIG=white.temporal_SIG)  # fmt: skip
    np.testing.assert_array_equal(y, [1] * 30 + [0] * 60)
    assert x.shape == (90, W, K)


def test_a_shift_brings_in_zeros():
    x = np.ones((200, 9, 2), np.float32)
    moved = kinds.shifted(x, 2, 4, rng(0))
    assert set(np.unique((moved[:, :, 0] == 0).sum(axis=1)).tolist()) == {2, 3, 4}
    with pytest.raises(InputError, match="min_shift"):
        kinds.shifted(x, 5, 4, rng(0))


# --- noise ---


def coloured(n: int, c: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise of unit variance, alike on neighbours and in time; its covariances."""
    mix = np.eye(c) + 0.5 * np.eye(c, k=1) + 0.5 * np.eye(c, k=-1)
    mix /= np.linalg.norm(mix, axis=0)
    taps = np.array([0.5, 1.0, 0.5]) / np.sqrt(1.5)
    white = rng(4).normal(size=(n, c))
    x = sum(tap * white[k : n - 2 + k] for k, tap in enumerate(taps)) @ mix
    lags = np.convolve(taps, taps)[2:]
    return x, mix.T @ mix, lags


def test_noise_model_finds_both_covariances_and_draws_them_again():
    x, space, lags = coloured(60_000, 4)
    x[1000:1020, 1] -= 30  # a spike, which is no noise
    index = np.array([[0, 1, 2], [1, 0, 2], [2, 1, 3], [3, 2, 1]])
    model = measure_noise(x, index, 11)
    temporal = model.temporal_SIG @ model.temporal_SIG
    # A thousand stretches; loud samples are left out, which takes some of the variance away.
    np.testing.assert_allclose(temporal[0, :4], [*lags, 0], atol=0.1)
    expected = np.mean([space[np.ix_(row, row)] for row in index], axis=0)
    np.testing.assert_allclose(model.spatial_SIG @ model.spatial_SIG, expected, atol=0.12)
    drawn = draw_noise(40_000, model, rng(0))
    np.testing.assert_allclose(np.cov(drawn[:, 5].T), temporal[5, 5] * model.spatial_SIG @ model.spatial_SIG, atol=0.03)
    np.testing.assert_allclose(np.cov(drawn[:, :, 0].T), temporal * (model.spatial_SIG[0] ** 2).sum(), atol=0.03)


def test_noise_needs_quiet_stretches():
    with pytest.raises(InputError, match="stretches"):
        measure_noise(10 * rng(0).normal(size=(2000, 2)), np.array([[0, 1], [1, 0]]), 21)


@row("A11.3")
def test_noise_that_cancels_is_drawn_anew(white):
    x = np.zeros((400, W, K), np.float32)
    x[:, 10, 0] = 2
    smaller = [(np.abs(add_noise(x, white, rng(1), reject)).max(axis=(1, 2)) < 2).mean() for reject in (False, True)]
    assert smaller[1] <= smaller[0] and smaller[1] == 0


# --- from a recording ---


@pytest.fixture(scope="module")
def lab(simulation: Simulation, tmp_path_factory) -> tuple:
    folder = tmp_path_factory.mktemp("lab")
    loaded = config.load(write(folder, simulation.scene))
    return loaded, folder / "clean", np.stack([simulation.spike_times, simulation.spike_labels], axis=1)


@row("A11.1")
def test_load_templates_averages_the_spikes_of_the_chosen_units(lab, simulation):
    loaded, folder, train = lab
    found = load_templates(folder, train, loaded, [2, 0])
    reach = 4 * round(1.5 * 30 / 2)
    assert found.shape == (2, 2 * reach + 1, 8)
    for mean, unit in zip(found, (2, 0), strict=True):
        truth = simulation.templates[unit]
        channel = int(np.abs(truth).max(axis=0).argmax())
        assert int(np.abs(mean).max(axis=0).argmax()) == channel
        assert abs(int(np.abs(mean[:, channel]).argmax()) - reach) <= 1
        assert np.abs(mean).max() == pytest.approx(simulation.snr[unit], rel=0.2)


@row("A11.1")
def test_load_templates_tells_what_is_wrong(lab):
    loaded, folder, train = lab
    with pytest.raises(InputError, match="unit 99 has no spike"):
        load_templates(folder, train, loaded, [99])
    with pytest.raises(InputError, match="outside the recording"):
        load_templates(folder, np.array([[10**9, 0]]), loaded, [0])
    for bad in (train[:, :1], train + 0.5, np.array([[np.nan, 0]])):
        with pytest.raises(InputError, match="whole numbers"):
            load_templates(folder, bad, loaded, [0])


@row("A11.4", "A11.5")
def test_training_data_keeps_the_ratios(lab):
    loaded, folder, train = lab
    uncropped = load_templates(folder, train, loaded, [0, 1, 2, 3])
    *sets, facts = training_data(loaded, uncropped, 4, 20, 50, folder, noise_ratio=3, collision_ratio=2,
                                 misalign_ratio=1, misalign_ratio2=1, return_metadata=True)  # fmt: skip
    x_detect, y_detect, x_triage, y_triage, x_ae, y_ae = sets
    n_neighbors = len(facts["spatial_SIG"])
    assert x_detect.shape == (50 + 100 + 50 + 50 + 150, 45, n_neighbors)
    assert y_detect.sum() == 150 and len(x_triage) == 150 and y_triage.sum() == 50
    assert x_ae.shape == y_ae.shape == (50, 45)
    amplitudes = np.abs(y_ae).max(axis=1)
    assert amplitudes.min() == pytest.approx(4, rel=1e-3) and amplitudes.max() == pytest.approx(20, rel=1e-3)
    single = training_data(loaded, uncropped, 4, 20, 50, folder, multi_channel=False)
    assert single[0].ndim == 2 and single[2].shape[1] == 45


def test_means_do_not_depend_on_blocks(lab, monkeypatch):
    loaded, folder, train = lab
    clean = standardized(folder, loaded)
    whole = mean_waveforms(clean, train, [1], 30)
    monkeypatch.setattr("yass_dask.chunked.MAX_BLOCK_SECONDS", 0.37)
    np.testing.assert_allclose(mean_waveforms(clean, train, [1], 30), whole, atol=1e-5)


# --- planted spikes ---


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank.of(planted.waveforms(planted.shapes(6, 8)).astype(np.float32), planted.PEAK)


def near_line(n: int, reach: int) -> np.ndarray:
    return np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= reach


def planted_block(bank: Bank, noise: float = 1.0, **changes):
    background = (noise * rng(7).normal(size=(60_000, 8))).astype(np.float32)
    given = {"sampling_rate": 30000.0, "per_second": 60, "amplitudes": (5.0, 20.0), "collided": 0.3, "seed": 1}
    return plant(background, bank, near_line(8, 2), **given | changes)


def test_planting_adds_the_signal_and_nothing_else(bank):
    block = planted_block(bank)
    background = rng(7).normal(size=(60_000, 8)).astype(np.float32)
    np.testing.assert_allclose(block.traces - block.signal, background, atol=1e-5)
    assert len(block.spikes.times) == pytest.approx(120 * 1.3, rel=0.15)
    assert (np.diff(block.spikes.times) >= 0).all()
    rebuilt = np.zeros_like(block.signal)
    rows, every = block.spikes.times, np.tile(np.arange(8), (len(block.spikes.times), 1))
    own = block.own(np.arange(len(rows)), rows, every, 60, 120)
    for row, waves in zip(rows, own, strict=True):
        rebuilt[row - 60 : row + 60] += waves.T
    np.testing.assert_allclose(rebuilt, block.signal, atol=1e-4)


def test_what_is_loud_in_the_background_is_unknown():
    x = np.zeros((3000, 4), np.float32)
    x[:, :] = 0.1
    x[1000, 0] = -9
    x[2000:2100] = 0  # excluded
    known = quiet(x, near_line(4, 1), 30000.0)
    assert not known[960:1040, :2].any() and known[1000, 2:].all()
    assert not known[2000:2100].any() and known[500].all()


def test_labels_are_those_of_the_planted_spikes(bank):
    block = planted_block(bank, noise=0.01, collided=0.0, per_second=5)
    times, units = block.spikes.times, block.spikes.units
    main = bank.sizes.argmax(axis=1)[units]
    rows = times + bank.offsets[units, main]
    kind, spike = label(block, np.concatenate([rows, rows + 100]), np.concatenate([main, main]), 30000.0)
    np.testing.assert_array_equal(kind[: len(rows)], SPIKE)
    np.testing.assert_array_equal(spike[: len(rows)], np.arange(len(rows)))
    np.testing.assert_array_equal(kind[len(rows) :], NOT_SPIKE)
    hidden = label(block, rows, (main + 4) % 8, 30000.0)[0]
    assert set(hidden.tolist()) <= {NOT_SPIKE, UNKNOWN}


def test_examples_hold_what_they_say(bank):
    block = planted_block(bank, noise=0.2)
    units = block.spikes.units
    main = bank.sizes.argmax(axis=1)[units]
    rows = block.spikes.times + bank.offsets[units, main]
    far = np.arange(500, 59_000, 997)
    channels = np.concatenate([main, np.zeros(len(far), int)])
    index = np.array([[c, (c + 1) % 8, 8] for c in range(8)], np.int32)
    windows = Windows(index, 15, np.eye(31, dtype=np.float32))
    sets = examples(block, np.concatenate([rows, far]), channels, windows, sampling_rate=30000.0, seed=0)
    yes = sets.x_detect[sets.y_detect == 1]
    assert sets.x_detect.shape[1:] == (31, 3) and not sets.x_detect[:, :, 2].any()
    assert (np.abs(yes[:, 15, 0]) > 3).mean() > 0.95
    clean = sets.x_triage[sets.y_triage == 1]
    assert 20 < len(clean) < len(sets.x_triage)
    n_clean = int(sets.y_triage.sum())
    assert sets.x_denoise.shape == sets.y_denoise.shape and n_clean <= len(sets.x_denoise) < len(yes)
    error = np.abs(sets.x_denoise - sets.y_denoise).max(axis=1)
    assert np.median(error) < CLEAN_SD
    assert sets.not_spikes >= 1
    wide = np.concatenate([index, (index[:, :1] + 2) % 8], axis=1)
    given = (block, np.concatenate([rows, far]), channels, windows)
    wider = examples(*given, sampling_rate=30000.0, seed=0, triage=Windows(wide, 20, np.eye(41, dtype=np.float32)))
    np.testing.assert_array_equal(wider.x_triage[:, 5:36, :3], sets.x_triage)
    np.testing.assert_array_equal(wider.y_triage, sets.y_triage)
    assert wider.x_triage.shape[1:] == (41, 4) and np.abs(wider.x_triage[:, :, 3]).max() > 1


def test_no_template_cannot_be_planted(bank):
    with pytest.raises(ValueError, match="no template"):
        plant(np.zeros((9000, 8), np.float32), Bank.of(np.zeros((2, 31, 8)), 10), near_line(8, 1),
              sampling_rate=30000.0, per_second=5, amplitudes=(5, 9), collided=0.1, seed=0)  # fmt: skip
