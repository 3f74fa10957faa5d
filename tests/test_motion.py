"""Motion: estimated where there is some, none where there is none, and traces held still by it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from labs import MOVES, moving_tissue

from yass_dask import from_array, simulate, sort
from yass_dask.detect import DetectParams
from yass_dask.errors import InputError
from yass_dask.evaluate import Spikes, compare
from yass_dask.geometry import Probe
from yass_dask.kernels.localize_numpy import localize
from yass_dask.likely import Fits
from yass_dask.motion.displacement import Motion
from yass_dask.motion.estimate import estimate, estimate_motion
from yass_dask.motion.joining import join_divided, likeness, shared_rate, unevenness
from yass_dask.motion.params import MotionParams, is_followed
from yass_dask.motion.plot import plot_motion
from yass_dask.motion.raster import MOST_BLOCKS, N_SIZES, Raster, grid, measure_raster
from yass_dask.motion.register import solve
from yass_dask.motion.traces import LEAST_SHARE, Stiller, footprint_of, hold_still
from yass_dask.noise import Noise
from yass_dask.phy.output import stage_of_traces
from yass_dask.pipeline import SortParams
from yass_dask.preprocess import COUNTS_PER_SD, Clean, Scale
from yass_dask.recording import Recording
from yass_dask.results import surest, together
from yass_dask.runtime import Executor
from yass_dask.simulate.layout import contact_positions
from yass_dask.sources import ArraySource

PARAMS, SMALLER = MotionParams(), 1 / np.hypot(1, LEAST_SHARE)


# --- displacement from counts -------------------------------------------------------------------------------


def moved_by(kind: str, seconds: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Displacement in um of places `depth` um up a probe of 600 um."""
    zigzag = 25 * (4 * np.abs((seconds / 90 + 0.25) % 1 - 0.5) - 1)
    return {
        "still": 0 * seconds,
        "zigzag": zigzag,
        "ramp": 60 * seconds / 180,
        "bumps": 20.0 * ((seconds // 23) % 2),
        "nonrigid": zigzag * (1 - 0.7 * depth / 600),
    }[kind]


def raster_of(kind: str, *, n_units: int = 40, rate_hz: float = 4.0, seconds: int = 180, seed: int = 0) -> Raster:
    """Counts of peaks of units that fire at random, seen with errors of a few um, in blocks of 1 s."""
    rng = np.random.default_rng([seed, 5])
    depths = np.arange(-40.0, 640.0, PARAMS.depth_bin_um) + 1.5
    counts = np.zeros((seconds, 2, N_SIZES, len(depths)), np.uint16)
    for _ in range(n_units):
        place, size, spread = rng.uniform(0, 600), rng.integers(N_SIZES), rng.uniform(2, 6)
        times = rng.uniform(0, seconds, rng.poisson(rate_hz * seconds))
        seen = place + moved_by(kind, times, np.full(len(times), place)) + rng.normal(0, spread, len(times))
        rows = np.floor((seen - depths[0]) / PARAMS.depth_bin_um + 0.5).astype(int)
        inside = (rows >= 0) & (rows < len(depths))
        np.add.at(counts, (times[inside].astype(int), np.arange(inside.sum()) % 2, size, rows[inside]), 1)
    middles = (np.arange(seconds) * 30000 + 15000).astype(np.int64)
    return Raster({"counts": counts, "sample_index": middles}, depths, 30000.0)


def motion_of(raster: Raster, params: MotionParams = PARAMS) -> Motion:
    lazy = estimate_motion(raster, params, "numpy")
    return lazy.open(estimate(raster, params, "numpy"))


@pytest.mark.parametrize("kind", ["zigzag", "ramp", "bumps", "nonrigid"])
def test_displacement_is_found_to_two_micrometres(kind):
    motion = motion_of(raster_of(kind))
    assert not motion.is_none
    assert motion.displacement.shape == motion.uncertainty.shape == (180, 3)
    errors = []
    for window, depth in enumerate(motion.depths_um):
        true = moved_by(kind, motion.times_s, np.full(len(motion.times_s), depth))
        error = motion.displacement[:, window] - true
        errors.append(np.abs(error - np.median(error)))
    assert np.median(errors) <= 2.0
    assert np.percentile(errors, 90) <= 6.0
    assert np.median(motion.uncertainty) < PARAMS.most_uncertain_um


def test_windows_move_each_for_itself():
    motion = motion_of(raster_of("nonrigid"))
    ranges = np.ptp(motion.displacement, axis=0)
    assert ranges[0] > 1.5 * ranges[-1]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_still_tissue_gives_exactly_none(seed):
    motion = motion_of(raster_of("still", seed=seed))
    assert motion.is_none and "moves by" in motion.why_none
    assert (motion.displacement == 0).all()


def test_few_or_far_too_noisy_peaks_give_none():
    few = motion_of(raster_of("zigzag", n_units=3, rate_hz=1.0))
    assert few.is_none and "peaks, fewer than" in few.why_none and (few.displacement == 0).all()
    short = motion_of(raster_of("zigzag", seconds=5))
    assert short.is_none and "time bins" in short.why_none
    rng = np.random.default_rng(0)
    raster = raster_of("still")
    noise = rng.poisson(0.3, raster.table["counts"].shape).astype(np.uint16)
    assert motion_of(replace(raster, table=raster.table | {"counts": noise})).is_none


def test_one_time_bin_with_an_artifact_moves_nothing_else():
    raster = raster_of("zigzag")
    disturbed = raster.table["counts"].copy()
    disturbed[60] = np.random.default_rng(1).poisson(3, disturbed[60].shape)
    found = motion_of(replace(raster, table=raster.table | {"counts": disturbed})).displacement
    expected = motion_of(raster).displacement
    others = np.delete(np.arange(180), 60)
    assert np.abs(found[others] - expected[others]).max() < 1.5


def test_pairs_that_lie_do_not_count():
    rng = np.random.default_rng(3)
    true = np.cumsum(rng.normal(0, 1, 200))
    first = np.concatenate([np.arange(200 - lag) for lag in (1, 2, 5, 20)])
    second = first + np.repeat([1, 2, 5, 20], [199, 198, 195, 180])
    shifts = true[second] - true[first] + rng.normal(0, 0.3, len(first))
    lying = rng.random(len(first)) < 0.15
    shifts[lying] = rng.uniform(-80, 80, lying.sum())
    found = solve(200, first, second, shifts[None], np.ones((1, len(first))))[:, 0]
    error = found - true
    assert np.abs(error - np.median(error)).max() < 1.5


# --- which probes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "n_channels", "followed"),
    [("neuropixels", 64, True), ("neuropixels2", 96, True), ("linear", 16, True), ("grid", 64, False),
     ("tetrode", 4, False), ("tetrode", 64, False), ("neuropixels", 8, False)],
)  # fmt: skip
def test_long_probes_alone_are_followed(layout, n_channels, followed):
    assert is_followed(Probe(contact_positions(layout, n_channels))) == followed


def test_every_shank_is_long_or_none_is_followed():
    column = contact_positions("linear", 16)
    shanks = np.repeat([0, 1], 16)
    assert is_followed(Probe(np.concatenate([column, column + np.array([250, 0])]), shanks))
    square = contact_positions("grid", 16)
    assert not is_followed(Probe(np.concatenate([column, square + np.array([250, 0])]), shanks))
    assert not is_followed(Probe(3 * column))


# --- places of peaks ----------------------------------------------------------------------------------------


def spikes_from(places: np.ndarray, positions: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Traces with a spike from each place (x, y, distance from the probe), their rows and largest channels."""
    rng = np.random.default_rng(7)
    rows = 40 + 60 * np.arange(len(places))
    traces = noise * rng.standard_normal((rows[-1] + 60, len(positions)))
    wave = -np.exp(-(((np.arange(-20, 21)) / 4.0) ** 2))
    distance = np.sqrt(((positions - places[:, None, :2]) ** 2).sum(axis=2) + places[:, 2:] ** 2)
    sizes = 600 / distance
    for row, size in zip(rows, sizes, strict=True):
        traces[row - 20 : row + 21] += wave[:, None] * size
    return traces.astype(np.float32), rows, sizes.argmax(axis=1)


def test_places_are_those_of_the_sources_at_the_ends_of_the_probe_too():
    positions = contact_positions("neuropixels", 48)
    rng = np.random.default_rng(2)
    places = np.stack([rng.uniform(10, 60, 60), rng.uniform(-15, 475, 60), rng.uniform(10, 40, 60)], axis=1)
    traces, rows, channels = spikes_from(places, positions, noise=1.0)
    near = np.argsort(np.linalg.norm(positions[:, None] - positions, axis=2), axis=1, kind="stable")[:, :16]
    found = localize(
        traces, rows=rows, channels=channels, reach=9, sites=near.astype(np.int32), positions=positions, grid=grid()
    )
    error = found[:, 1] - places[:, 1]
    assert np.median(np.abs(error)) < 2.0
    outside = (places[:, 1] < 5) | (places[:, 1] > 455)
    assert outside.sum() >= 3
    sizes = 1 / np.sqrt(((positions - places[:, None, :2]) ** 2).sum(axis=2) + places[:, 2:] ** 2)
    mass = np.take_along_axis(sizes, near[channels], axis=1)
    centre = (mass * positions[near[channels], 1]).sum(axis=1) / mass.sum(axis=1)
    assert np.abs(error[outside]).mean() < 0.3 * np.abs(centre - places[:, 1])[outside].mean()


# --- the stages on traces -----------------------------------------------------------------------------------


@cache
def recorded() -> Recording:
    """Tissue that stands still, 24 channels, 14 s."""
    made = simulate(n_channels=24, seconds=14, n_units=10, seed=1, snr=(8, 25))
    return from_array(made.traces, made.sampling_rate, made.positions, made.gain_to_uv)


def clean_of(traces: np.ndarray, positions: np.ndarray, sd: np.ndarray | None = None) -> Clean:
    n_channels = traces.shape[1]
    recording = Recording(ArraySource(traces), 30000.0, Probe(positions))
    sd = np.ones(n_channels, np.float32) if sd is None else sd
    return Clean(recording, Scale(np.zeros(n_channels, np.float32), sd, np.zeros(n_channels, bool)), "numpy")


def steady(displacement: np.ndarray, depth: float = 100.0) -> Motion:
    """One window's displacement, a value a second."""
    n = len(displacement)
    raster = np.ones((n, 4), np.uint32), np.array([80.0, 90.0, 100.0, 110.0])
    return Motion(displacement[:, None], np.zeros((n, 1)), np.arange(n) + 0.5, np.array([depth]), *raster)


def as_it_is(n_channels: int) -> Noise:
    return Noise(np.ones((n_channels, 1), np.float32), np.arange(n_channels, dtype=np.int32)[:, None])


def counted(clean: Clean) -> dict[str, np.ndarray]:
    lazy = measure_raster(clean, as_it_is(clean.recording.n_channels), DetectParams(), PARAMS, "numpy")
    parts = [part.compute(scheduler="sync") for part in lazy.parts.values()]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_chunks_do_not_change_the_counts():
    rng = np.random.default_rng(0)
    positions = contact_positions("neuropixels", 16)
    traces, _, _ = spikes_from(np.stack([rng.uniform(10, 60, 1500), rng.uniform(0, 140, 1500),
                                         np.full(1500, 20.0)], axis=1), positions, noise=1.0)  # fmt: skip
    clean = clean_of(np.rint(COUNTS_PER_SD * traces).astype(np.int16), positions)
    whole, single = (
        counted(replace(clean, recording=clean.recording.with_chunks(n))) for n in (clean.recording.n_blocks, 1)
    )
    assert whole["counts"].shape[:3] == (clean.recording.n_blocks, 2, N_SIZES)
    assert 1300 < whole["counts"].sum() <= 1500
    for name, values in whole.items():
        np.testing.assert_array_equal(single[name], values)


class _Endless:
    """Hours of zeros that may not be read."""

    def __init__(self, hours: float, n_channels: int) -> None:
        self.shape, self.dtype = (round(hours * 3600 * 30000), n_channels), np.dtype(np.int16)

    def read(self, start: int, stop: int) -> np.ndarray:
        raise AssertionError("a stage reads while it builds its graph")

    def __dask_tokenize__(self) -> str:
        return f"endless {self.shape}"


@pytest.mark.parametrize("hours", [1, 10, 100])
def test_hours_are_looked_at_in_no_more_blocks(hours):
    clean = clean_of(np.zeros((10, 64), np.int16), contact_positions("neuropixels", 64))
    clean = replace(clean, recording=replace(clean.recording, source=_Endless(hours, 64)))
    lazy = measure_raster(clean, as_it_is(64), DetectParams(), PARAMS, "numpy")
    step = -(-clean.recording.n_blocks // MOST_BLOCKS)
    looked_at = len(range(0, clean.recording.n_blocks, step))
    assert MOST_BLOCKS // 2 <= looked_at <= MOST_BLOCKS and len(lazy.parts) <= looked_at
    hold_still(clean, as_it_is(64), steady(np.zeros(2)), clean.recording.with_chunks(3600), PARAMS)


def test_the_estimate_of_hours_is_bounded_and_right():
    """The largest raster there is: as many time bins as blocks, on a ramp of 60 um."""
    short = raster_of("ramp", seconds=180)
    many = np.repeat(short.table["counts"], -(-MOST_BLOCKS // 180), axis=0)[:MOST_BLOCKS]
    step = 30000 * 20
    samples = np.arange(MOST_BLOCKS, dtype=np.int64) * step
    motion = motion_of(replace(short, table={"counts": many, "sample_index": samples}))
    true = 60 * np.arange(MOST_BLOCKS) / MOST_BLOCKS
    error = motion.displacement[:, 1] - true
    assert np.median(np.abs(error - np.median(error))) < 2.0


def test_traces_of_still_tissue_stay_as_they_are():
    rng = np.random.default_rng(4)
    traces = rng.integers(-2000, 2000, (45000, 24)).astype(np.int16)
    clean = clean_of(traces, contact_positions("neuropixels", 24), rng.uniform(0.5, 2, 24).astype(np.float32))
    motion = steady(np.zeros(2))
    lazy = hold_still(clean, as_it_is(clean.recording.n_channels), motion, clean.recording, PARAMS)
    still = lazy.traces.compute(scheduler="sync")
    np.testing.assert_allclose(still, SMALLER * traces, atol=0.6)
    reopened = lazy.open(ArraySource(still))
    np.testing.assert_allclose(reopened.unit_per_sd * SMALLER, clean.unit_per_sd, rtol=1e-6)


def test_a_step_of_a_contact_is_undone_whatever_the_chunks():
    """All is smaller by one factor, but for the ends, where what is beyond the last contact cannot be told."""
    rng = np.random.default_rng(5)
    traces = rng.integers(-2000, 2000, (65000, 24)).astype(np.int16)
    clean = clean_of(traces, contact_positions("linear", 24))
    motion = steady(np.full(3, 25.0))
    found = []
    for chunk_blocks in (1, 3):
        recording = clean.recording.with_chunks(chunk_blocks)
        lazy = hold_still(clean, as_it_is(24), motion, recording, PARAMS)
        found.append(lazy.traces.compute(scheduler="sync"))
    np.testing.assert_array_equal(*found)
    np.testing.assert_allclose(found[0][:, :14], SMALLER * traces[:, 1:15], atol=2)


def stiller(clean: Clean, noise: Noise, footprint: float = 30.0) -> Stiller:
    return Stiller(clean, steady(np.zeros(1)), noise, footprint)


def dense(filters: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """(n_channels, n_channels) of weights as the kernel takes them."""
    full = np.zeros((len(filters), len(filters) + 1))
    np.put_along_axis(full, channels.astype(np.int64), filters, axis=1)
    return full[:, :-1]


@pytest.mark.parametrize("pitch", [5.0, 15.0, 25.0, 40.0])
def test_weights_do_not_raise_the_noise(pitch):
    positions = np.stack([pitch * (np.arange(40) % 2), pitch * (np.arange(40) // 2)], axis=1)
    clean = clean_of(np.zeros((100, 40), np.int16), positions)
    one = stiller(clean, as_it_is(40), footprint_of(clean.recording.probe, PARAMS.footprint_um))
    for share in (0.1, 0.3, 0.5, 0.8):
        moved = np.full(40, share * pitch)
        noise = (one.weights(moved, one.evened())[0] ** 2).sum(axis=1) / SMALLER**2
        assert noise.max() < 1.1  # 1 where the tissue does not move
        # Kriging alone leaves less of it, the more so half-way between the contacts.
        kriging = (one.kriging(moved)[0] ** 2).sum(axis=1)
        assert noise[10:30].min() > max(kriging[10:30].min() - 0.01, 0.78)


def test_noise_that_channels_share_is_as_loud_as_before_and_as_alike():
    """Whitened by the filters of the noise as it was recorded, noise is white at every displacement."""
    n, pitch = 40, 25.0
    positions = np.stack([pitch * (np.arange(n) % 2), pitch * (np.arange(n) // 2)], axis=1)
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1)
    covariance = 0.6 * np.eye(n) + 0.4 * np.exp(-distance / 60)
    values, vectors = np.linalg.eigh(covariance)
    white = (vectors / np.sqrt(values)) @ vectors.T
    noise = Noise(white.astype(np.float32), np.tile(np.arange(n, dtype=np.int32), (n, 1)))
    one = stiller(clean_of(np.zeros((100, n), np.int16), positions), noise)
    for moved in (0.0, 5.0, 12.5):
        weights = dense(*one.weights(np.full(n, moved), one.evened()))
        after = np.linalg.eigvalsh(white @ weights @ covariance @ weights.T @ white)
        assert after.max() < 1.05 and np.median(after) > 0.7


def test_many_channels_are_evened_some_at_a_time():
    """Where a group of channels ends, weights are as they are elsewhere; and so on every shank."""
    positions = np.stack([25.0 * (np.arange(300) % 2), 25.0 * (np.arange(300) // 2)], axis=1)
    one = stiller(clean_of(np.zeros((100, 300), np.int16), positions), as_it_is(300))
    groups = one.evened()
    assert len(groups) == 4 and sorted(np.concatenate([g.members[g.core] for g in groups])) == list(range(300))
    weights = dense(*one.weights(np.full(300, 9.0), groups))
    for channel in range(60, 240):
        here, there = slice(channel - 8, channel + 10), slice(22 + channel % 2, 40 + channel % 2)
        np.testing.assert_allclose(weights[channel, here], weights[30 + channel % 2, there], atol=0.02)


def test_weights_leave_out_bad_channels_and_other_shanks():
    column = contact_positions("linear", 16)
    clean = clean_of(np.zeros((100, 32), np.int16), np.concatenate([column, column + np.array([20, 0])]))
    probe = Probe(clean.recording.probe.positions, np.repeat([0, 1], 16))
    scale = replace(clean.scale, bad=np.arange(32) == 5)
    clean = replace(clean, recording=replace(clean.recording, probe=probe), scale=scale)
    one = stiller(clean, as_it_is(32))
    filters, channels = one.weights(np.full(32, 8.0), one.evened())
    used = [set(channels[c][np.abs(filters[c]) > 1e-6].tolist()) for c in range(32)]
    assert all(5 not in some for some in used) and not used[5] - {32}
    assert all(max(some - {32}) < 16 for some in used[:5]) and all(min(some) >= 16 for some in used[16:])


# --- in the sort --------------------------------------------------------------------------------------------


def test_without_motion_the_sort_is_the_same_byte_for_byte(tmp_path):
    digests = set()
    for follow in (True, False):
        params = SortParams(n_refinements=1, motion=MotionParams(follow=follow))
        folder = tmp_path / str(follow)
        sorting = sort(recorded(), folder, params, client=Executor("sync"))
        assert sorting.n_spikes > 100
        assert (folder / "yass.zarr" / "raster").exists() == follow
        assert not (folder / "yass.zarr" / "still").exists()
        assert (folder / "motion").exists() == follow and (not follow or Motion.load(folder / "motion").is_none)
        digests.add(hashlib.sha256((folder / "spike_train.npy").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_a_sort_follows_the_tissue(tmp_path):
    """A column of contacts, its tissue up and down by a contact (25 um): every unit is found, and whole."""
    made, recording = moving_tissue()
    inside = (made.unit_positions[:, 1] > 50) & (made.unit_positions[:, 1] < 425)
    assert inside.sum() >= 4
    sorting = sort(recording, tmp_path, client=Executor("sync"))
    motion = Motion.load(tmp_path / "motion")
    assert not motion.is_none
    path = motion.displacement.mean(axis=1)
    expected = 25.0 * MOVES[(motion.times_s / 2).astype(int)]
    error = path - expected
    assert np.median(np.abs(error - np.median(error))) < 2.0
    truth, found = Spikes(made.spike_times, made.spike_labels), Spikes(sorting.sample_index, sorting.unit_index)
    accuracy = {unit.unit_id: unit.accuracy for unit in compare(truth, found, made.sampling_rate).units}
    assert min(accuracy[unit] for unit in np.flatnonzero(inside)) > 0.8
    assert stage_of_traces(tmp_path) == "still"
    panels = plot_motion(motion)
    assert [axes.get_title() for axes in panels[:2]] == ["peaks as they came", "held still"]
    before, after = (np.asarray(axes.collections[0].get_array()) for axes in panels[:2])
    assert _sharpness(after) > 1.2 * _sharpness(before)


def _sharpness(image: np.ndarray) -> float:
    """How much of the peaks' mean over time is variation over depth."""
    profile = image.reshape(len(image), -1).mean(axis=1)
    return float(profile.std() / profile.mean())


# --- the result ---------------------------------------------------------------------------------------------


def test_displacement_between_and_beyond_the_bins():
    moved = np.array([[0.0, 10.0], [20.0, 30.0]])
    motion = replace(
        steady(np.zeros(2)), displacement=moved, times_s=np.array([1.0, 3.0]), depths_um=np.array([100.0, 300.0])
    )
    found = motion.at(np.array([0.0, 1.0, 2.0, 9.0]), np.array([0.0, 100.0, 200.0, 400.0]))
    np.testing.assert_allclose(found, [[0, 0, 5, 10], [0, 0, 5, 10], [10, 10, 15, 20], [20, 20, 25, 30]])


def test_spikeinterface_reads_what_is_saved(tmp_path):
    si_motion = pytest.importorskip("spikeinterface.core.motion")
    motion = motion_of(raster_of("nonrigid"))
    loaded = si_motion.Motion.load(motion.save(tmp_path / "motion"))
    assert loaded.direction == "y" and loaded.num_segments == 1
    seconds, depths = np.array([3.3, 40.0, 100.7]), np.array([90.0, 300.0, 480.0])
    theirs = loaded.get_displacement_at_time_and_depth(seconds, depths, segment_index=0, grid=False)
    np.testing.assert_allclose(theirs, np.diag(motion.at(seconds, depths)), atol=1e-6)


def test_what_is_saved_is_loaded(tmp_path):
    for motion in (motion_of(raster_of("ramp")), motion_of(raster_of("still"))):
        loaded = Motion.load(motion.save(tmp_path / "motion"))
        for name, value in vars(motion).items():
            np.testing.assert_array_equal(getattr(loaded, name), value)
    with pytest.raises(InputError, match="finished sort"):
        Motion.load(tmp_path)


# --- units that divide the displacements --------------------------------------------------------------------


def template(size: float, width: float, place: float) -> np.ndarray:
    """(30, 20) waveform around a place on 20 channels 20 um apart."""
    time = np.exp(-(((np.arange(30) - 12) / 3.0) ** 2))
    return -size * np.outer(time, np.exp(-(((20.0 * np.arange(20) - place) / width) ** 2)))


def test_units_that_divide_the_displacements_are_one():
    """A neuron in three pieces, another one beside it that fires always, and a piece of a third one far away."""
    rng = np.random.default_rng(0)
    motion = steady(np.abs((np.arange(180) / 15) % 2 - 1) * 40)
    times = np.sort(rng.uniform(0, 180, 1500))
    moved = motion.at(times, np.array([100.0]))[:, 0]
    parts = [moved < 12, (moved >= 12) & (moved < 30), moved >= 30]
    always = np.sort(rng.uniform(0, 180, 700))
    trains = [*(times[part] for part in parts), always, times[parts[0]] + 0.01]
    samples = [np.rint(30000 * train).astype(np.int64) for train in trains]
    waves = [template(20, 30, 100), template(19, 31, 103), template(22, 29, 98), template(20, 30, 104),
             template(20, 30, 300)]  # fmt: skip
    near = np.ones((5, 5), bool)
    depths = np.array([100.0, 100, 100, 100, 300])
    joined = join_divided(samples, np.stack(waves), depths, near, motion, 180 * 30000, 30000.0)
    largest = int(np.argmax([len(train) for train in trains[:3]]))
    assert {unit: into for unit, (into, _) in joined.items()} == {u: largest for u in range(3) if u != largest}
    assert all("other displacements" in why for _, why in joined.values())
    smallest = int(np.argmin([len(train) for train in trains[:3]]))
    for known, into in (([smallest], {smallest}), ([0, 1, 2], set())):  # of another sort
        held = np.isin(np.arange(5), known)
        kept = join_divided(samples, np.stack(waves), depths, near, motion, 180 * 30000, 30000.0, held)
        assert {home for home, _ in kept.values()} == into and not set(kept) & set(known)
    assert not join_divided(samples, np.stack(waves), depths, np.eye(5, dtype=bool), motion, 180 * 30000, 30000.0)


@pytest.mark.parametrize(("overlap_um", "joined"), [(1, True), (16, False)])
def test_less_alike_pieces_are_one_only_where_they_divide_sharply(overlap_um, joined):
    """A neuron beside a contact, sharp from near and broad from a little farther."""
    rng = np.random.default_rng(2)
    motion = steady(np.abs((np.arange(180) / 15) % 2 - 1) * 40)
    times = np.sort(rng.uniform(0, 180, 1200))
    moved = motion.at(times, np.array([100.0]))[:, 0]
    trains = [times[moved < 20 + overlap_um / 2], times[moved > 20 - overlap_um / 2] + 0.01]
    samples = [np.rint(30000 * train).astype(np.int64) for train in trains]
    waves = np.stack([template(60, 12, 100), template(20, 45, 100)])
    cosine, ratio = likeness(*waves)
    assert 0.6 < cosine < 0.85
    assert ratio < 4
    found = join_divided(samples, waves, np.full(2, 100.0), np.ones((2, 2), bool), motion, 180 * 30000, 30000.0)
    assert bool(found) == joined
    doubtful = np.array([True, False])
    assert not join_divided(
        samples, waves, np.full(2, 100.0), np.ones((2, 2), bool), motion, 180 * 30000, 30000.0, standing=doubtful
    )


def test_independent_units_share_their_rates():
    rng = np.random.default_rng(1)
    always = rng.uniform(-25, 25, 4000)
    assert shared_rate(rng.uniform(-25, 25, 300), rng.uniform(-25, 25, 2000), always) > 0.75
    assert shared_rate(rng.uniform(-25, 0, 300), rng.uniform(0, 25, 2000), always) < 0.1


def test_pieces_together_fire_more_evenly_than_each():
    rng = np.random.default_rng(3)
    always, places = rng.uniform(-25, 25, 4000), rng.uniform(-25, 25, 1000)
    first = rng.random(1000) < np.clip(0.5 + places / 40, 0, 1)  # which of them a spike goes to changes gradually
    pieces = places[first], places[~first]
    assert 0.3 < shared_rate(*pieces, always) < 0.62
    assert unevenness(*pieces, always) < 0.5
    whole = rng.uniform(-25, 25, 1000)
    for width in (5, 30):  # a piece of another neuron
        assert unevenness(rng.uniform(-25, width - 25, 20 * width), whole, always) > 1


@pytest.mark.parametrize("cosine_from", [0.6, 0.85])
def test_a_piece_does_not_go_to_a_neuron_that_fires_always(cosine_from):
    """However little the two share: that is only the share of the displacements at which the piece is seen."""
    rng = np.random.default_rng(4)
    motion = steady(np.linspace(-30, 30, 180))  # each displacement once
    times = np.sort(rng.uniform(0, 180, 1500))
    trains = [times, np.sort(rng.uniform(40, 65, 200))]
    samples = [np.rint(30000 * train).astype(np.int64) for train in trains]
    waves = np.stack([template(20, 30, 100), template(20, 30, 104 if cosine_from > 0.6 else 124)])
    assert likeness(*waves)[0] > cosine_from
    assert not join_divided(samples, waves, np.full(2, 100.0), np.ones((2, 2), bool), motion, 180 * 30000, 30000.0)


def test_a_joined_unit_is_as_sure_as_its_surest_member():
    fits = Fits(np.zeros(3), np.array([0.9, 0.2, 0.8]), np.array([0.6, 0.5, 1.0]))
    found = surest(fits, {2: (0, "why")})
    np.testing.assert_array_equal(found.accuracy, [0.9, 0.2, 0.8])
    np.testing.assert_array_equal(found.centre, [1.0, 0.5, 1.0])


def test_spikes_of_joined_units_keep_their_size():
    fields = {"sample_index": np.arange(4), "unit_index": np.array([0, 1, 2, 1], np.int32),
              "amplitude": np.array([1.0, 1.0, 1.0, 0.5], np.float32)}  # fmt: skip
    found = together(fields, {1: (2, "why")}, np.array([10.0, 30.0, 60.0]))
    np.testing.assert_array_equal(found["unit_index"], [0, 2, 2, 2])
    np.testing.assert_allclose(found["amplitude"] * np.array([10.0, 60, 60, 60]), [10, 30, 60, 15])
