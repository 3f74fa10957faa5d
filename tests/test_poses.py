"""Templates that follow the displacement: smoothing over its bins, poses, and the bank of a block."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_motion import steady

from yass_dask.cluster import _gather_units
from yass_dask.deconvolve import DeconvolveParams, bank_of
from yass_dask.kernels.bank import PER_UNIT, of_units
from yass_dask.merge import Revision
from yass_dask.motion.poses import POSE, Bins, Poses, StoredPoses, follow, pose_fields, smoothed
from yass_dask.noise import Noise
from yass_dask.renewal import sizes_of_pieces
from yass_dask.templates import Templates

N_BINS, N_SAMPLES, N_CHANNELS = 12, 40, 6


def means_of(change: float, counts: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True waveforms (n_bins, n_samples, n_channels), whose first channel changes over the bins; and noisy means."""
    time = -np.exp(-(((np.arange(N_SAMPLES) - 15) / 4.0) ** 2))
    size = 10 * np.linspace(1, 0.3, N_CHANNELS)[None] * np.ones((N_BINS, 1))
    size[:, 0] *= 1 + change * np.sin(2 * np.pi * np.arange(N_BINS) / N_BINS)
    truth = time[None, :, None] * size[:, None]
    noise = np.random.default_rng(seed).normal(size=truth.shape) / np.sqrt(np.maximum(counts, 1))[:, None, None]
    return truth, truth + noise


def test_a_unit_that_looks_the_same_has_one_pose():
    for seed in range(20):
        counts = np.full(N_BINS, 40)
        truth, means = means_of(0.0, counts, seed)
        found = follow(means, counts)
        assert len(found.waveforms) == 1 and not found.row.any()
        assert found.n_spikes[0] == pytest.approx(40 * N_BINS, rel=0.01)
        assert np.abs(found.waveforms[0] - truth[0]).max() < 5 / np.sqrt(40 * N_BINS)


def test_a_change_is_followed_with_less_noise_than_the_means_have():
    counts = np.full(N_BINS, 40)
    truth, means = means_of(0.5, counts)
    smooth, n_spikes = smoothed(means, counts)
    errors = [((some - truth) ** 2).sum() for some in (smooth, means, means.mean(axis=0)[None])]
    assert errors[0] < 0.5 * errors[1] and errors[0] < 0.1 * errors[2]
    assert (n_spikes > 40).all()
    found = follow(means, counts)
    assert 3 < len(found.waveforms) <= N_BINS and (np.diff(found.row) >= 0).all()
    assert ((found.waveforms[found.row] - truth) ** 2).sum() < 2 * errors[1]
    assert found.seen.sum() == counts.sum()


def test_bins_without_spikes_are_like_their_neighbours():
    counts = np.full(N_BINS, 60)
    counts[[0, 5, N_BINS - 1]] = 0
    truth, means = means_of(0.5, counts)
    means[counts == 0] = 1e6  # whatever
    smooth, _ = smoothed(means, counts)
    assert np.abs(smooth - truth).max() < 3.5
    low, high = np.minimum(smooth[4], smooth[6]), np.maximum(smooth[4], smooth[6])
    assert (smooth[5] >= low - 1e-3).all() and (smooth[5] <= high + 1e-3).all()


def moving(n_seconds: int = 60) -> Bins:
    """Up and down by 40 um, one second a block."""
    return Bins.of(steady(np.abs((np.arange(n_seconds) / 15) % 2 - 1) * 40), 30000, 30000.0)


def test_spikes_are_in_the_bins_of_their_blocks():
    bins = moving()
    assert bins.step_um == 4.0 and bins.n_bins == 10
    rng = np.random.default_rng(1)
    units, samples, depths = rng.integers(0, 3, 500), rng.integers(0, 60 * 30000, 500), np.array([0.0, 50.0, 200.0])
    found = bins.of_spikes(units, samples, depths)
    expected = [
        bins.at(np.array([sample // 30000]), depths)[0, unit] for unit, sample in zip(units, samples, strict=True)
    ]
    np.testing.assert_array_equal(found, expected)
    assert set(found) == set(range(10))


def test_few_bins_however_far_the_tissue_moves():
    assert Bins.of(steady(np.array([-300.0, 500.0])), 30000, 30000.0).n_bins == 32
    assert Bins.of(steady(np.zeros(3)), 30000, 30000.0).n_bins == 1


def templates(n_units: int) -> Templates:
    rng = np.random.default_rng(2)
    time = np.exp(-(((np.arange(N_SAMPLES) - 15) / 4.0) ** 2))
    waveforms = -(5 + 10 * rng.random((n_units, 1, N_CHANNELS))) * time[None, :, None]
    channels = np.stack([np.arange(u, u + N_CHANNELS) for u in range(n_units)])
    return Templates(
        waveforms.astype(np.float32), channels.astype(np.int32), np.full(n_units, 500), np.arange(n_units), 15, 16
    )


def test_what_is_stored_tells_the_pose_of_every_spike():
    three, bins, counts = templates(3), moving(), np.full(10, 50)
    changing = three.waveforms[1] * np.linspace(0.7, 1.3, 10)[:, None, None]
    poses, fields = pose_fields(three, {1: follow(changing, counts)}, np.full(3, 100.0), bins.n_bins)
    table = fields | {"peak": np.array([15]), "n_channels": np.array([16]), POSE + "level": np.ones(len(poses))}
    stored = StoredPoses(table, bins)
    index, found = stored.index(), stored.templates()
    assert len(set(index.row[0])) == len(set(index.row[2])) == 1 and len(set(index.row[1])) == 10
    np.testing.assert_allclose(found.dense()[index.row[0, 0]], three.dense()[0])
    for block in (0, 7, 15):
        size = found.dense()[index.at(block)[1]].min() / three.waveforms[1].min()
        assert size == pytest.approx(
            np.linspace(0.7, 1.3, 10)[bins.at(np.array([block]), np.full(1, 100.0))[0, 0]], abs=0.05
        )
    np.testing.assert_array_equal(index.of_spikes(np.array([1, 0]), np.array([7 * 30000 + 5, 3])),
                                  [index.at(7)[1], index.at(0)[0]])  # fmt: skip


def test_a_blocks_bank_is_that_of_its_poses_alone():
    """Pairs that never meet are not in the whole bank, and none is missing in any block's."""
    three, bins = templates(3), moving()
    followed = {
        u: follow(three.waveforms[u] * np.linspace(0.7, 1.3, 10)[:, None, None], np.full(10, 50)) for u in (0, 2)
    }
    poses, fields = pose_fields(three, followed, np.full(3, 100.0), bins.n_bins)
    index = Poses(fields[POSE + "row"], fields[POSE + "depth"], bins)
    noise = Noise(np.ones((16, 1), np.float32), np.arange(16, dtype=np.int32)[:, None])
    every, params = bank_of(poses, noise, 24, DeconvolveParams()), DeconvolveParams()
    bank = bank_of(poses, noise, 24, params, index.together(60))
    assert len(bank.pair_unit) < 0.4 * len(every.pair_unit)
    for block in (0, 7, 15, 31):
        rows = index.at(block)
        found, alone = of_units(bank, rows), bank_of(poses.select(rows), noise, 24, params)
        for name in (*PER_UNIT, "pair_start", "pair_unit", "pair_overlap"):
            np.testing.assert_allclose(getattr(found, name), getattr(alone, name), rtol=1e-5, atol=1e-4)


def test_no_units_have_no_poses():
    none = replace(templates(1).select(np.zeros(0, int)))
    poses, fields = pose_fields(none, {}, np.zeros(0), 5)
    assert len(poses) == 0 and fields[POSE + "row"].shape == (0, 5)
    index = Poses(fields[POSE + "row"], np.zeros(0), moving())
    assert index.at(0).shape == (0,) and index.together(60).shape == (0, 0)


def test_a_cell_without_spikes_has_a_size():
    """Parts of known units are averaged at their own size; where a part has no spikes there is none to be told."""
    members = {"unit_index": np.array([0, 1, 1]), "amplitude": np.array([1.0, 0.5, 0.7], np.float32)}
    zeros = np.zeros(3, int)
    revision = Revision(members, zeros, np.array([4, 9, 9]), np.ones(3, int), np.array([0, 1, 1]), [], zeros)
    np.testing.assert_allclose(sizes_of_pieces(revision, np.array([4]), 5), [1.0, 0.6, 1.0], rtol=1e-6)


def test_members_that_are_left_out_are_left_out_of_all_fields():
    n = 1200
    clusters = {name: np.zeros(n, np.int32) for name in ("channel_index", "cluster_index", "shift")}
    fields = _gather_units(clusters | {"sample_index": np.arange(n)}, 500)
    assert {len(values) for values in fields.values()} == {500}
