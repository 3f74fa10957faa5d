"""Stages, one by one, on small inputs whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import dask
import numpy as np
import planted
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yass_dask import events as events_module
from yass_dask import geometry
from yass_dask.chunked import LazyParts
from yass_dask.cluster import ClusterParams, assign
from yass_dask.conditioning import PreprocessParams, undo_shifts
from yass_dask.drops import last_drops, without_leftovers
from yass_dask.errors import InputError
from yass_dask.events import Events, between, evenly
from yass_dask.likely import fit_units
from yass_dask.merge import MergeParams, Revision, find_clusters, revise, split
from yass_dask.noise import Noise, measure_noise
from yass_dask.preprocess import COUNTS_PER_SD, Clean, Scale, measure_scale, preprocess
from yass_dask.readers import from_array
from yass_dask.recording import Recording
from yass_dask.refine import Units, without_duplicates
from yass_dask.results import audit_table, contamination_of
from yass_dask.templates import Templates, TemplatesParams
from yass_dask.unitfeatures import Frames, StoredFrames
from yass_dask.verdicts import UnitFacts, coincident, most_alike

RATE = 2000.0
"""Blocks of 2000 samples; the filter settles within some hundred."""
OFF = PreprocessParams(filter_low_hz=None, filter_high_hz=None, common_reference="off")


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def compute(lazy: LazyParts) -> Any:
    """A stage's result, as the store would open it."""
    parts = dask.compute(*lazy.parts.values(), scheduler="sync")
    fields = {name for part in parts for name in part}
    return lazy.open({name: np.concatenate([part[name] for part in parts]) for name in fields})


# --- preprocess ---------------------------------------------------------------------------------------------


def raw(n_samples: int = 7000, n_channels: int = 6, sd: float = 30.0, dtype: Any = np.int16) -> np.ndarray:
    """White noise around another level on each channel."""
    draw = rng(n_samples, n_channels)
    return (draw.normal(size=(n_samples, n_channels)) * sd + 100 * np.arange(n_channels)).astype(dtype)


def recorded(traces: np.ndarray, chunk_blocks: int = 2, **changes: Any) -> Recording:
    recording = from_array(traces, RATE, geometry.linear(traces.shape[1]))
    return replace(recording.with_chunks(chunk_blocks), **changes)


def cleaned(
    recording: Recording, params: PreprocessParams = OFF, backend: str = "numba"
) -> tuple[np.ndarray, Scale, Clean]:
    """Clean traces, their scale, and the handle a store would give."""
    scale = compute(measure_scale(recording, params, backend))
    lazy = preprocess(recording, scale, params, backend)
    assert lazy.traces.dtype == np.int16
    assert lazy.traces.shape == (recording.n_samples, recording.n_channels)
    traces = lazy.traces.compute(scheduler="sync")
    return traces, scale, lazy.open(from_array(traces, RATE).source)


def test_traces_are_standardized_counts():
    x = raw()
    traces, scale, clean = cleaned(recorded(x))
    assert not scale.bad.any()
    np.testing.assert_allclose(scale.median, 100 * np.arange(6), atol=2)
    np.testing.assert_allclose(scale.sd, 30, rtol=0.05)
    # With filter and reference off nothing else is done: the definition, to half a count.
    expected = (x - scale.median) / scale.sd * COUNTS_PER_SD
    np.testing.assert_allclose(traces, expected, atol=0.51)
    np.testing.assert_allclose(clean.unit_per_sd, scale.sd)
    np.testing.assert_allclose(clean.to_sd(traces), traces / 64, rtol=1e-6)


def test_a_gain_is_carried_over():
    gain = np.array([0.1, 0.2, 0.3])
    _, scale, clean = cleaned(recorded(raw(n_channels=3), gain_to_uv=gain))
    np.testing.assert_allclose(clean.unit_per_sd, gain * scale.sd, rtol=1e-6)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_chunks_do_not_change_clean_traces(backend):
    """The same bits, with a short last block; also where the recording is shorter than the filter's halo."""
    for n_samples in (7001, 150):
        x = raw(n_samples)
        found = [cleaned(recorded(x, n), PreprocessParams(), backend)[0] for n in (1, 3, 100)]
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_array_equal(found[0], found[2])


def test_dead_noisy_constant_and_named_channels_are_masked():
    x = raw(n_channels=8).astype(np.float64)
    x[:, 1] = 100 + (x[:, 1] - 100) * 0.02
    x[:, 3] *= 20
    x[:, 4] = 7
    traces, scale, clean = cleaned(recorded(x.astype(np.int16), bad_channels=(6,)), PreprocessParams())
    np.testing.assert_array_equal(np.flatnonzero(scale.bad), [1, 3, 4, 6])
    assert not traces[:, scale.bad].any()
    assert (traces[:, ~scale.bad].std(axis=0) > 30).all()
    assert clean.recording.channel_ids.tolist() == list(range(8))
    assert np.isfinite(clean.unit_per_sd).all() and (clean.unit_per_sd > 0).all()
    noise = compute(measure_noise(clean, PreprocessParams(), "numba"))
    assert not noise.matrix()[:, scale.bad].any()
    assert not noise.matrix()[scale.bad].any()


def test_excluded_periods_are_zero_and_do_not_count():
    x = raw()
    plain, scale, _ = cleaned(recorded(x))
    loud = x.copy()
    loud[1000:2500] *= 20
    traces, excluding, _ = cleaned(recorded(loud, excluded_samples=((1000, 2500), (6990, 7000))))
    assert not traces[1000:2500].any() and not traces[6990:].any()
    np.testing.assert_allclose(excluding.sd, scale.sd, rtol=0.1)
    away = np.r_[0:1000, 2500:6990]
    np.testing.assert_allclose(traces[away] / 64 * excluding.sd, plain[away] / 64 * scale.sd, atol=10)


def test_all_excluded_is_refused():
    with pytest.raises(InputError, match="excluded"):
        cleaned(recorded(raw(), excluded_samples=((0, 7000),)))


def test_all_constant_is_refused():
    with pytest.raises(InputError, match="constant"):
        cleaned(recorded(np.full((3000, 4), 5, np.int16)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_is_refused_with_its_place(value):
    x = raw(dtype=np.float32)
    x[4321, 2] = value
    with pytest.raises(InputError, match=r"channel 2 .* sample 4321"):
        cleaned(recorded(x), PreprocessParams())


def test_nan_on_a_bad_channel_is_left_out():
    x = raw(dtype=np.float32)
    x[:, 2] = np.nan
    traces, scale, _ = cleaned(recorded(x, bad_channels=(2,)), PreprocessParams())
    assert scale.bad.tolist() == [False, False, True, False, False, False]
    assert not traces[:, 2].any() and traces[:, 3].any()


@pytest.mark.parametrize("params", [OFF, PreprocessParams()])
def test_nan_in_an_excluded_period_is_left_out(params):
    """The message for NaN says that excluding the period helps."""
    x = raw(dtype=np.float32)
    x[3000:3100] = np.nan
    traces, _, _ = cleaned(recorded(x, excluded_samples=((2990, 3110),)), params)
    assert not traces[2990:3110].any()
    assert (traces[:2900].std(axis=0) > 30).all() and (traces[3200:].std(axis=0) > 30).all()


def tone(hz: float, n: int = 8000) -> np.ndarray:
    """One tone on three channels, and a little noise that gives each a scale."""
    return 500 * np.sin(2 * np.pi * hz * np.arange(n) / RATE)[:, None] + rng(int(hz)).normal(size=(n, 3))


@pytest.mark.parametrize(
    ("low", "high", "kept", "removed"),
    [
        (300.0, None, [600.0, 900.0], [30.0]),
        (None, 300.0, [5.0, 50.0], [900.0]),
        (200.0, 500.0, [320.0], [30.0, 900.0]),
        (None, None, [5.0, 300.0, 990.0], []),
        (300.0, 6000.0, [600.0], [30.0]),
    ],
)
def test_corners_of_the_filter(low, high, kept, removed):
    params = PreprocessParams(filter_low_hz=low, filter_high_hz=high, common_reference="off")
    for hz in kept + removed:
        traces, scale, _ = cleaned(recorded(tone(hz).astype(np.float32)), params)
        height = (traces * scale.sd / COUNTS_PER_SD)[2000:6000].std() * np.sqrt(2)
        if hz in kept:
            assert height == pytest.approx(500, rel=0.1), hz
        else:
            assert height < 25, hz


@pytest.mark.parametrize(("low", "high"), [(500.0, 400.0), (400.0, 400.0), (950.0, 6000.0), (1000.0, None)])
def test_corners_the_wrong_way_round_are_refused(low, high):
    with pytest.raises(InputError, match=r"filter_low_hz = .* must be below"):
        measure_scale(recorded(raw()), PreprocessParams(filter_low_hz=low, filter_high_hz=high), "numba")


def analog(times: np.ndarray) -> np.ndarray:
    """A signal within 0.3 of the sampling rate, at any time in samples."""
    draw = rng(11)
    frequency, phase = draw.uniform(0.02, 0.3, 40), draw.uniform(0, 2 * np.pi, 40)
    return np.cos(2 * np.pi * np.asarray(times)[..., None] * frequency + phase).sum(axis=-1)


def test_sample_shifts_are_undone():
    """Channels that read one signal late by parts of a sample show it at one time again."""
    shifts = np.array([0.0, 1 / 13, 0.5, 12 / 13])
    times = np.arange(5000)
    late = np.stack([analog(times + shift) for shift in shifts], axis=1) * 200 + 1000
    probe = geometry.Probe(geometry.linear(4).positions, sample_shifts=shifts)
    assert np.abs(late - late[:, :1])[100:-100].max() > 500
    moved = undo_shifts(late, shifts)
    # A windowed sinc of 65 taps: a thousandth of the signal.
    np.testing.assert_allclose(moved[40:-40], late[40:-40, :1].repeat(4, axis=1), atol=0.002 * 200 * 40)
    for chunk_blocks in (1, 3):
        recording = replace(recorded(late.astype(np.float32), chunk_blocks), probe=probe)
        traces, scale, _ = cleaned(recording)
        back = traces * scale.sd / COUNTS_PER_SD + scale.median
        np.testing.assert_allclose(back[40:-40], late[40:-40, :1].repeat(4, axis=1), atol=0.003 * 200 * 40)


def referenced(common_reference: str, n: int = 4, bad: tuple[int, ...] = ()) -> np.ndarray:
    """Two shanks of `n` channels, each with a hum of its own: the share of it that is left, per channel."""
    hums = 300 * rng(12).normal(size=(6000, 2))
    x = 20 * rng(13).normal(size=(6000, 2 * n)) + hums.repeat(n, axis=1)
    x[:, list(bad)] = 5000 * rng(14).normal(size=(6000, len(bad)))
    probe = geometry.Probe(geometry.linear(2 * n).positions, shanks=np.repeat([3, 7], n))
    recording = replace(recorded(x.astype(np.float32), bad_channels=bad), probe=probe)
    params = PreprocessParams(filter_low_hz=None, filter_high_hz=None, common_reference=common_reference)
    traces, scale, _ = cleaned(recording, params)
    left = traces * scale.sd / COUNTS_PER_SD
    return np.array([abs(left[:, c] @ hums[:, c // n]) / (hums[:, c // n] ** 2).sum() for c in range(2 * n)])


def test_common_reference_goes_by_shank():
    assert (referenced("off") > 0.9).all()
    assert (referenced("auto") > 0.9).all(), "fewer than 32 channels on a shank"
    assert (referenced("on") < 0.05).all()
    assert (referenced("auto", n=32) < 0.05).all()


def test_bad_channels_neither_give_nor_take_a_reference():
    left = referenced("on", n=5, bad=(1, 3))
    assert left[[1, 3]].tolist() == [0, 0], "masked"
    assert (left < 0.05).all(), "the other channels' reference is not spoilt"


def test_whitening_makes_noise_independent():
    mixing = np.eye(5) + 0.4 * np.eye(5, k=1) + 0.4 * np.eye(5, k=-1)
    x = (50 * rng(15).normal(size=(20000, 5)) @ mixing).astype(np.float32)
    traces, _, clean = cleaned(recorded(x))
    params = PreprocessParams(whitening_floor=1e-6)
    noise = compute(measure_noise(clean, params, "numba"))
    assert abs(np.corrcoef(traces.T)[0, 1]) > 0.5
    white = noise.whiten(clean.to_sd(traces), "numba")
    # Measured without what is louder than 4 sd and its surroundings: some per cent of bias.
    np.testing.assert_allclose(np.cov(white.T), np.eye(5), atol=0.06)
    np.testing.assert_allclose(white, clean.to_sd(traces) @ noise.matrix(), atol=1e-4)


# --- events -------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(groups=st.lists(st.integers(0, 4), max_size=80), limit=st.integers(1, 20))
def test_evenly_keeps_as_many_as_allowed_spread_over_the_order(groups, limit):
    groups = np.array(groups, np.int64)
    kept = evenly(groups, limit)
    assert kept.dtype == bool and kept.shape == groups.shape
    for group in np.unique(groups):
        chosen = np.flatnonzero(kept[groups == group])
        count = int((groups == group).sum())
        assert len(chosen) == min(limit, count)
        gaps = np.diff(np.concatenate([[-1], chosen, [count]]))
        assert gaps.max() <= -(-count // limit) + 1


def test_evenly_goes_by_the_group_alone():
    groups = np.array([0] * 10 + [1] * 3)
    alone = evenly(groups[:10], 5)
    np.testing.assert_array_equal(evenly(groups, 5)[:10], alone)
    assert evenly(groups, 5)[10:].all()


@settings(max_examples=200, deadline=None)
@given(
    samples=st.lists(st.integers(0, 30), max_size=40).map(sorted),
    start=st.integers(-5, 35),
    length=st.integers(0, 40),
    whole=st.sampled_from([0, 1, 3, 1000]),
)
def test_within_gives_the_rows_of_a_span(samples, start, length, whole):
    """Also where the table is searched without being read (fewer rows than `whole` are read at once)."""
    table = {"sample_index": np.array(samples, np.int64), "row": np.arange(len(samples))}
    expected = [i for i, sample in enumerate(samples) if start <= sample < start + length]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events_module, "WHOLE_ROWS", whole)
        found = Events(table).within(start, start + length)
    assert found["row"].tolist() == expected
    assert between(table, start, start + length)["row"].tolist() == expected
    assert len(Events(table)) == len(samples)


# --- clusters -----------------------------------------------------------------------------------------------


def cloud(centre: list[float], n: int, seed: int, n_local: int = 2) -> np.ndarray:
    """(n, n_local, 3) features of unit noise around a centre."""
    centre = np.array(centre + [0.0] * (3 * n_local - len(centre))).reshape(n_local, 3)
    return centre + rng(seed, n).normal(size=(n, n_local, 3))


def three_clouds(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and the cloud of each point."""
    centres, sizes = ([8, 0, 0], [0, 8, 0], [0, 0, 0, -9]), (300, 300, 100)
    clouds = [cloud(centre, n, seed + 100 * k) for k, (centre, n) in enumerate(zip(centres, sizes, strict=True))]
    return np.concatenate(clouds).astype(np.float32), np.repeat([0, 1, 2], sizes)


@pytest.mark.parametrize("seed", range(8))
def test_assign_finds_clusters_that_a_valley_separates(seed):
    points, owners = three_clouds(seed)
    labels, weights = assign(points, ClusterParams(), "numba")
    assert sorted(np.unique(labels[labels >= 0]).tolist()) == [0, 1, 2]
    assert (labels < 0).mean() < 0.03
    for k in range(3):
        share = np.bincount(owners[labels == k], minlength=3) / (labels == k).sum()
        assert share.max() > 0.99
    assert ((weights > 0) == (labels >= 0)).all() and weights.max() <= 1


@pytest.mark.parametrize("seed", range(8))
def test_assign_finds_clusters_in_coarse_cells(seed):
    """Five points a cell; cells are cut at gaps, so that none lies across two clouds."""
    points, owners = three_clouds(seed)
    labels, _ = assign(points, ClusterParams(n_cells=150), "numba")
    sizes = np.bincount(labels[labels >= 0])
    assert len(sizes) == 3
    assert {int(np.bincount(owners[labels == k]).argmax()) for k in range(3)} == {0, 1, 2}
    assert sizes.sum() > 0.93 * len(points)


@pytest.mark.parametrize("seed", range(8))
def test_assign_leaves_one_cluster_whole_and_outliers_out(seed):
    points = np.concatenate([cloud([8, 0, 0], 500, seed), cloud([60, 60, -60], 3, seed)]).astype(np.float32)
    labels, _ = assign(points, ClusterParams(), "numba")
    assert np.unique(labels[:500][labels[:500] >= 0]).tolist() == [0]
    assert (labels[500:] == -1).all()


@pytest.mark.parametrize("n", [0, 1, 11])
def test_assign_of_too_few_points(n):
    labels, weights = assign(np.ones((n, 2, 3), np.float32), ClusterParams(min_spikes=12), "numba")
    assert labels.tolist() == [-1] * n and weights.tolist() == [0] * n


# --- merge decisions ----------------------------------------------------------------------------------------

REFRACTORY = 45


def train(n: int, n_samples: int, seed: int) -> np.ndarray:
    """`n` random spikes, at least two refractory times apart."""
    dead = 2 * REFRACTORY
    return np.sort(rng(seed, n).integers(0, n_samples - n * dead, n)) + dead * np.arange(n)


def decide(
    units: list[tuple[np.ndarray, np.ndarray]], distance: float = 5.0, levels: list[float] | None = None,
    n_samples: int = 3_000_000,
) -> Revision:  # fmt: skip
    """Revision of units given as (times, features), which look the same in each other's frames."""
    n = len(units)
    pairs = [(u, v) for u in range(n) for v in sorted(range(n), key=lambda v: (v != u, v))]
    rows = [
        (time, u, v, feature)
        for u, (times, features) in enumerate(units)
        for time, feature in zip(times, features, strict=True)
        for _, v in (pair for pair in pairs if pair[0] == u)
    ]
    rows.sort(key=lambda row: row[:3])
    table = {
        "sample_index": np.array([row[0] for row in rows], np.int64),
        "unit_index": np.array([row[1] for row in rows], np.int32),
        "other_index": np.array([row[2] for row in rows], np.int32),
        "shift": np.full(len(rows), 8, np.int32),
        "amplitude": np.ones(len(rows), np.float32),
        "features": np.array([row[3] for row in rows], np.float32),
    }
    spikes = sorted((time, u) for u, (times, _) in enumerate(units) for time in times)
    trains = {
        "sample_index": np.array([time for time, _ in spikes], np.int64),
        "unit_index": np.array([u for _, u in spikes], np.int32),
    }
    frames = Frames(
        unit=np.array([u for u, _ in pairs], np.int32),
        other=np.array([v for _, v in pairs], np.int32),
        lag=np.zeros(len(pairs), np.int32),
        distance=np.array([0 if u == v else distance for u, v in pairs], np.float32),
        channels=np.zeros((n, 2), np.int32),
        own=np.zeros((len(pairs), 2, 3), np.float32),
    )
    facts = UnitFacts(
        ids=10 + np.arange(n), levels=np.array(levels or [20.0] * n), next_id=50, refractory=REFRACTORY,
        n_samples=n_samples,
    )  # fmt: skip
    features = Events(table)
    clusters = compute(find_clusters(features, n, ClusterParams(), "numba"))
    stored = StoredFrames(frames._asdict())
    return compute(revise(features, clusters, Events(trains), stored, facts, MergeParams(), "numba"))


def actions(revision: Revision) -> list[tuple[str, int, int | None]]:
    return [(line["action"], line["unit"], line["into"]) for line in revision.audit]


def test_two_halves_of_one_unit_are_joined():
    whole = train(500, 3_000_000, 1)
    revision = decide([(whole[::2], cloud([9, 0, 0], 250, 1)), (whole[1::2], cloud([9, 0, 0], 250, 2))])
    assert len(revision.piece_unit) == 2
    assert revision.piece_group.tolist() == [0, 0]
    larger, smaller = sorted([0, 1], key=lambda p: (-revision.piece_count[p], p))
    assert actions(revision) == [("merge", 10 + smaller, 10 + larger)]
    assert "valley" in revision.audit[0]["reason"]


def test_units_with_a_valley_between_them_stay_apart():
    units = [
        (train(250, 3_000_000, 1), cloud([9, 0, 0], 250, 1)),
        (train(250, 3_000_000, 2), cloud([0, 9, 0], 250, 2)),
    ]
    revision = decide(units)
    assert revision.piece_group.tolist() == [0, 1]
    assert actions(revision) == []
    np.testing.assert_array_equal(revision.piece_id, [10, 11])


def test_units_that_fire_independently_are_not_joined():
    """One waveform, but as many joint spikes within the refractory time as strangers have: a veto."""
    units = [(train(1000, 3_000_000, seed), cloud([9, 0, 0], 1000, seed)) for seed in (1, 2)]
    revision = decide(units)
    assert revision.piece_group.tolist() == [0, 1]
    assert actions(revision) == []


def test_a_unit_of_two_clusters_is_split():
    times = train(500, 3_000_000, 1)
    both = np.concatenate([cloud([9, 0, 0], 300, 1), cloud([0, 9, 0], 200, 2)])
    revision = decide([(times, both)])
    assert revision.piece_unit.tolist() == [0, 0]
    assert sorted(revision.piece_group.tolist()) == [0, 1]
    larger = int(np.argmax(revision.piece_count))
    assert revision.piece_id[larger] == 10, "the larger piece keeps the unit's id"
    assert revision.piece_id[1 - larger] == 50, "the other one gets the next"
    assert actions(revision) == [("split", 50, None)]
    # Each spike is a member of the piece its features lie in; outliers of none.
    assert len(revision.members["sample_index"]) > 0.97 * len(times)
    of_first = np.isin(revision.members["sample_index"], times[:300])
    assert (revision.members["unit_index"][of_first] == larger).mean() > 0.99


def test_units_of_few_spikes_or_of_nothing_are_dropped():
    units = [
        (train(200, 3_000_000, 1), cloud([9, 0, 0], 200, 1)),
        (train(5, 3_000_000, 2), cloud([0, 9, 0], 5, 2)),
        (train(200, 3_000_000, 3), cloud([0, 0, 9], 200, 3)),
    ]
    revision = decide(units, levels=[20.0, 20.0, 3.0])
    assert revision.piece_group.tolist() == [0, -1, -1]
    assert sorted(actions(revision)) == [("drop", 11, None), ("drop", 12, None)]
    reasons = {line["unit"]: line["reason"] for line in revision.audit}
    assert "5 spikes" in reasons[11] and "3.0 noise sd" in reasons[12]


def test_a_chain_is_joined_only_where_no_pair_objects():
    """a = b and b = c, but a valley between a and c: not all three are one."""
    whole = train(600, 3_000_000, 1)
    units = [(whole[k::3], cloud([6 + 1.6 * k, 0, 0], 200, k)) for k in range(3)]
    groups = decide(units).piece_group
    assert len(np.unique(groups)) == 2
    assert groups[0] != groups[2]


def test_no_units_no_decisions():
    revision = decide([(np.zeros(0, np.int64), cloud([0], 0, 0))])
    assert revision.piece_group.tolist() == [-1]
    assert actions(revision) == [("drop", 10, None)]


# --- duplicates ---------------------------------------------------------------------------------------------

N_CHANNELS = 6
SHAPES = planted.shapes(3, N_CHANNELS)
EYE = Noise(np.ones((N_CHANNELS, 1), np.float32), np.arange(N_CHANNELS, dtype=np.int32)[:, None])


def templates_of(waveforms: np.ndarray, n_spikes: list[int]) -> Templates:
    n = len(waveforms)
    main = np.abs(waveforms).max(axis=1).argmax(axis=1) if n else np.zeros(0, int)
    order = np.argsort(np.abs(np.arange(N_CHANNELS)[None] - main[:, None]), axis=1, kind="stable").astype(np.int32)
    local = np.take_along_axis(waveforms, order[:, None, :], axis=2).astype(np.float32)
    return Templates(local, order, np.array(n_spikes), 100 + np.arange(n), planted.PEAK, N_CHANNELS)


def moved(shape: planted.Shape, samples: float) -> np.ndarray:
    return shape.at(np.arange(planted.N_SAMPLES) - planted.PEAK - samples)


def joined(waveforms: list[np.ndarray], n_spikes: list[int]) -> tuple[list[int], list[dict[str, Any]]]:
    """Ids that are left, and the audit."""
    templates = templates_of(np.stack(waveforms), n_spikes)
    kept, audit = without_duplicates(templates, EYE, TemplatesParams(), 20)
    return kept.ids.tolist(), audit


def test_templates_of_different_units_are_kept():
    assert joined([moved(shape, 0) for shape in SHAPES], [100, 100, 100]) == ([100, 101, 102], [])


@pytest.mark.parametrize("samples", [0, 3, -7, 0.5])
def test_a_template_twice_is_one_unit_at_any_lag(samples):
    """The one of more spikes stands for both."""
    kept, audit = joined([moved(SHAPES[0], 0), moved(SHAPES[0], samples), moved(SHAPES[2], 0)], [100, 300, 50])
    assert kept == [101, 102]
    assert [(line["unit"], line["action"], line["into"]) for line in audit] == [(100, "merge", 101)]


def test_a_known_unit_stands_for_both_and_two_known_ones_stay():
    """Ids below `first_new` are known: 100 in the one case, 100 and 101 in the other."""
    alike = [moved(SHAPES[0], 0), moved(SHAPES[0], 3), moved(SHAPES[2], 0)]
    templates = templates_of(np.stack(alike), [100, 300, 50])
    for first_new, expected in ((101, [100, 102]), (102, [100, 101, 102])):
        kept, audit = without_duplicates(templates, EYE, TemplatesParams(), 20, first_new)
        assert kept.ids.tolist() == expected
        assert [(line["unit"], line["into"]) for line in audit] == ([(101, 100)] if first_new == 101 else [])


def test_of_a_known_unit_the_cluster_most_like_its_template_keeps_the_id():
    """Unit 7 is known, unit 9 is new; in both the second cluster is smaller, and is what the template looks like."""
    own = np.array([[[4.0, 0.0]], [[4.0, 0.0]]], np.float32)
    frames = Frames(*np.array([[0, 1], [0, 1], [0, 0]], np.int32), np.zeros(2, np.float32), np.zeros((2, 1), int), own)
    facts = UnitFacts(np.array([7, 9]), np.full(2, 9.0), 10, 45, 30_000, first_new=8)
    units, clusters = np.repeat([0, 1], 30), np.tile(np.repeat([0, 1], [20, 10]), 2)
    features = np.where(clusters == 1, 4.0, -4.0)[:, None, None] * np.array([1.0, 0.0])
    mains = most_alike({"unit_index": units, "features": features}, clusters, frames, facts)
    assert mains == {0: 1}
    pieces = split(units, clusters, facts, [], mains)
    assert [int(np.unique(pieces.ids[pieces.of_spike[(units == u) & (clusters == 1)]])[0]) for u in (0, 1)] == [7, 11]


def test_averages_of_few_spikes_that_differ_by_noise_are_one_unit():
    noisy = [moved(SHAPES[0], 0) + rng(s).normal(size=(planted.N_SAMPLES, N_CHANNELS)) / np.sqrt(40) for s in (1, 2)]
    assert joined(noisy, [40, 40])[0] == [100]


def test_low_templates_are_dropped():
    kept, audit = joined([moved(SHAPES[0], 0), 0.1 * moved(SHAPES[2], 0)], [100, 100])
    assert kept == [100]
    assert [(line["unit"], line["action"], line["into"]) for line in audit] == [(101, "drop", None)]


def test_no_templates():
    none = templates_of(np.zeros((0, planted.N_SAMPLES, N_CHANNELS)), [])
    kept, audit = without_duplicates(none, EYE, TemplatesParams(), 20)
    assert len(kept) == 0 and audit == []


# --- results ------------------------------------------------------------------------------------------------


def silent_train(rate: float, n_samples: int, dead: int, seed: int) -> np.ndarray:
    gaps = dead + 1 + rng(seed).exponential(1 / rate - dead - 1, int(2 * rate * n_samples))
    times = np.cumsum(gaps).astype(np.int64)
    return times[times < n_samples]


def test_contamination_of_a_clean_unit_is_nothing():
    assert contamination_of(silent_train(1e-3, 3_000_000, 60, 1), 3_000_000, 60, 24) == (0.0, 0)


def test_contamination_of_chance_is_one():
    times = np.sort(rng(2).integers(0, 3_000_000, 30_000))
    share, violations = contamination_of(times, 3_000_000, 60, 0)
    # Only neighbours are counted, and a spike on the same sample as another is no violation of (0, 60].
    assert share > 0.4 and violations > 8000


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_contamination_is_estimated(share):
    found = []
    for seed in range(12):
        own = silent_train(1e-3, 6_000_000, 60, seed)
        strangers = rng(seed, 1).integers(0, 6_000_000, round(len(own) * share / (1 - share)))
        found.append(contamination_of(np.sort(np.concatenate([own, strangers])), 6_000_000, 60, 10)[0])
    assert np.mean(found) == pytest.approx(share, rel=0.2)


def test_violations_within_the_censored_time_do_not_count():
    times = np.array([0, 10, 1000, 1030, 2000, 2060, 3000, 3061])
    assert contamination_of(times, 100_000, 60, 24)[1] == 2
    assert contamination_of(times, 100_000, 60, 60) == (0.0, 0)


@pytest.mark.parametrize("times", [[], [5], [5, 100000]])
def test_contamination_of_hardly_any_spikes(times):
    assert contamination_of(np.array(times, np.int64), 200_000, 60, 24) == (0.0, 0)


def test_coincident_spikes():
    a, b = np.array([10, 100, 200, 300]), np.array([12, 95, 250, 303])
    assert coincident(a, b, 3) == 0.5
    assert coincident(a, b, 5) == 0.75
    assert coincident(a[:0], b, 5) == coincident(a, b[:0], 5) == 0


def final_units(levels: list[float]) -> tuple[Units, Clean]:
    """Units of one shape each, three of them on neighbouring channels."""
    waveforms = planted.waveforms(planted.shapes(len(levels), N_CHANNELS))
    ones = np.ones(N_CHANNELS, np.float32)
    recording = from_array(np.zeros((3_000_000, N_CHANNELS), np.int16), 30000.0, geometry.linear(N_CHANNELS))
    clean = Clean(recording, Scale(0 * ones, ones, np.zeros(N_CHANNELS, bool)))
    return Units(templates_of(waveforms, [100] * len(levels)), np.array(levels), 200, []), clean


def fields_of(trains: list[np.ndarray]) -> dict[str, np.ndarray]:
    samples = np.concatenate(trains)
    units = np.repeat(np.arange(len(trains)), [len(times) for times in trains])
    order = np.lexsort((units, samples))
    return {
        "sample_index": samples[order],
        "unit_index": units[order].astype(np.int32),
        "log_odds": np.full(len(samples), 200.0, np.float32),
    }


def drops(fields: dict[str, np.ndarray], units: Units, clean: Clean) -> dict[int, tuple[str, int | None, str]]:
    fits = fit_units(fields, units.levels, 6.0, clean.recording.n_samples)
    return last_drops(fields, units, fits, clean, MergeParams())


def test_last_drops_and_their_reasons():
    units, clean = final_units([20, 20, 4.0, 20])
    large = train(1000, 3_000_000, 1)
    double = np.sort(np.concatenate([large[:300] + 3, train(60, 3_000_000, 5)]))
    fields = fields_of([large, train(5, 3_000_000, 2), train(500, 3_000_000, 3), double])
    weak = fields["unit_index"] == 2
    fields["log_odds"][weak] = 6 + rng(0).exponential(1.0, weak.sum())
    dropped = drops(fields, units, clean)
    assert set(dropped) == {1, 2, 3}
    assert dropped[1] == ("drop", None, "5 spikes at the end, fewer than 12")
    assert dropped[2][:2] == ("drop", None) and "expected accuracy" in dropped[2][2]
    assert dropped[3][:2] == ("drop", 100) and "coincide" in dropped[3][2]


def test_noise_is_no_unit():
    """What pursuit finds in noise lies in an exponential tail above its threshold, wherever the template's level is."""
    units, clean = final_units([20, 6])
    fields = fields_of([train(1000, 3_000_000, 1), train(500, 3_000_000, 2)])
    weak = fields["unit_index"] == 1
    fields["log_odds"][weak] = 6 + rng(0).exponential(1.0, weak.sum())
    dropped = drops(fields, units, clean)
    assert set(dropped) == {1} and "expected accuracy" in dropped[1][2]
    fields["log_odds"][weak] = np.maximum(18 + 6 * rng(0).normal(size=weak.sum()), 6)
    assert drops(fields, units, clean) == {}


def test_spikes_far_below_what_the_template_promises_are_no_unit():
    units, clean = final_units([20, 20])
    fields = fields_of([train(1000, 3_000_000, 1), train(500, 3_000_000, 2)])
    fields["log_odds"][fields["unit_index"] == 1] = 80.0
    dropped = drops(fields, units, clean)
    assert set(dropped) == {1} and "as likely as its template" in dropped[1][2]


def test_a_small_unit_loses_what_a_large_one_leaves_over():
    """It fires with most spikes of the large unit, which stays, though it has fewer spikes than the small one."""
    units, clean = final_units([20, 9, 9])
    large, own, third = (train(n, 3_000_000, seed) for n, seed in ((300, 1), (400, 2), (200, 3)))
    small = np.sort(np.concatenate([own, large[:270] + 2]))
    fields = fields_of([large, small, third])
    kept = without_leftovers(fields, units, clean, MergeParams())
    left = kept["sample_index"][kept["unit_index"] == 1]
    assert coincident(large, left, 10) < 0.1
    assert len(own) - 10 < len(left) <= len(own)
    assert (kept["unit_index"] != 1).sum() == 500
    assert drops(kept, units, clean) == {}
    equal = Units(units.templates, np.array([20.0, 15.0, 9.0]), 200, [])  # of like sizes: one of them is a double
    assert len(without_leftovers(fields, equal, clean, MergeParams())["unit_index"]) == len(fields["unit_index"])


def test_a_unit_of_nothing_but_leftovers_is_dropped_as_such():
    """Cut first, what it has by chance besides would stand as a unit of its own."""
    units, clean = final_units([20, 9])
    large, chance = train(300, 3_000_000, 1), train(40, 3_000_000, 2)
    fields = fields_of([large, np.sort(np.concatenate([chance, large[:280] + 2]))])
    kept = without_leftovers(fields, units, clean, MergeParams())
    assert len(kept["unit_index"]) == len(fields["unit_index"])
    dropped = drops(kept, units, clean)
    assert set(dropped) == {1}
    assert "lie beside those of larger units" in dropped[1][2]


def test_of_two_equal_trains_one_stays():
    units, clean = final_units([20, 20])
    same = train(300, 3_000_000, 1)
    assert len(drops(fields_of([same, same + 1]), units, clean)) == 1


def test_independent_units_stay():
    units, clean = final_units([20, 20, 20])
    trains = [train(400, 3_000_000, seed) for seed in (1, 2, 3)]
    assert drops(fields_of(trains), units, clean) == {}


def test_audit_table_accounts_for_every_unit():
    audit = [
        {"unit": 0, "action": "found", "into": None, "reason": "a cluster on channel 1"},
        {"unit": 1, "action": "found", "into": None, "reason": "a cluster on channel 2"},
        {"unit": 2, "action": "found", "into": None, "reason": "a cluster on channel 3"},
        {"unit": 1, "action": "merge", "into": 0, "reason": "no valley"},
        {"unit": 3, "action": "split", "into": None, "reason": "7 spikes of unit 0"},
        {"unit": 2, "action": "drop", "into": 0, "reason": "a double of unit 0"},
        {"unit": 4, "action": "found", "into": None, "reason": "lost on the way"},
    ]
    table = audit_table([{"unit_id": 0, "label": "good"}, {"unit_id": 3, "label": "mua"}], audit)
    assert [row["unit_id"] for row in table] == [0, 1, 2, 3, 4]
    assert [row["state"] for row in table] == ["kept", "merged", "dropped", "kept", "dropped"]
    assert [row["merged_into"] for row in table] == [None, 0, None, None, None]
    assert [row["label"] for row in table] == ["good", "", "", "mua", ""]
    assert "units 1 were merged into it" in table[0]["why"]
    assert [row["why"] for row in table[1:3]] == ["no valley", "a double of unit 0"]
    assert all(row["origin"] and row["why"] for row in table)
    assert audit_table([], []) == []
