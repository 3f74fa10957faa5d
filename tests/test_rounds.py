"""What a round makes of its pieces: verdicts of few spikes, channels around the main one, neighbours where it moves."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from test_poses import moving

import yass_dask
from yass_dask.geometry import Probe
from yass_dask.merge import MergeParams, Revision, _join
from yass_dask.motion.dividing import NEAREST, Moving
from yass_dask.renewal import refined
from yass_dask.templates import Averages, Templates, TemplatesParams, local_channels
from yass_dask.unitfeatures import Frames
from yass_dask.verdicts import Pieces, Trains, UnitFacts, compare

N_LOCAL, N_COMPONENTS, RATE = 2, 3, 20000.0
ROWS = np.stack([np.zeros(40), 20.0 * np.arange(40)], axis=1)
"""One column of contacts"""


def seen_in_frames(
    places: np.ndarray, counts: list[int], pairs: list[tuple[int, int, float]]
) -> tuple[dict[str, np.ndarray], Frames]:
    """Spikes of units at `places` (n_units, n_local, n_components), in their own frames and in those of pairs."""
    n_units, rng = len(counts), np.random.default_rng(0)
    seen = sorted([(u, u, 0.0) for u in range(n_units)] + pairs)
    unit, other, distance = (np.array(values) for values in zip(*seen, strict=True))
    frames = Frames(unit, other, np.zeros(len(seen), int), distance, np.zeros((n_units, N_LOCAL), int), places[unit])
    u_of = np.repeat(unit, np.array(counts)[unit])
    first = np.cumsum([0, *counts])
    rows = {
        "unit_index": u_of,
        "other_index": np.repeat(other, np.array(counts)[unit]),
        "sample_index": np.concatenate([1000 * np.arange(first[u], first[u + 1]) + 7 for u in unit]),
        "features": (places[u_of] + rng.normal(size=(len(u_of), N_LOCAL, N_COMPONENTS))).astype(np.float32),
    }
    return rows, frames


@pytest.mark.parametrize(("apart", "joined"), [(3.0, True), (8.0, False)])
def test_few_spikes_between_two_neurons_do_not_make_them_one(apart: float, joined: bool):
    """The first two units are never compared, as they are far apart; one of 3 spikes lies between them."""
    places = np.zeros((3, N_LOCAL, N_COMPONENTS))
    places[1, 0, 0], places[2, 0, 0] = 2 * apart, apart
    counts = [60, 60, 3]
    pairs = [(u, v, apart) for u, v in [(0, 2), (2, 0), (1, 2), (2, 1)]]
    rows, frames = seen_in_frames(places, counts, pairs)
    mine = {name: values[rows["unit_index"] == rows["other_index"]] for name, values in rows.items()}
    order = np.argsort(mine["unit_index"], kind="stable")
    mine = {name: values[order] for name, values in mine.items()}
    units, ids = np.arange(3), np.arange(3, dtype=np.int64)
    facts = UnitFacts(ids, np.full(3, 20.0), 3, 30, 10**7)
    trains = Trains(mine, facts)
    pieces = Pieces(mine["unit_index"], units, ids, np.array(counts))
    verdicts = compare(rows, mine, pieces, frames, trains, "numpy")
    group = _join(verdicts, np.ones(3, bool), np.zeros(3, bool), pieces, trains, MergeParams(), [])
    assert len(set(group)) == (1 if joined else 3)


def off_centre() -> tuple[Templates, SimpleNamespace, TemplatesParams]:
    """A neuron at contact 10, of which the template lists the contacts around 4; and one that is where it was found."""
    recording = yass_dask.from_array(np.zeros((100, 40), np.float32), RATE, geometry=ROWS)
    params = TemplatesParams(max_channels=15)
    local = local_channels(recording, params.max_channels)
    n_before, n_after = (recording.samples(ms) for ms in (params.before_ms, params.after_ms))
    time = -np.exp(-(((np.arange(n_before + n_after + 1) - n_before) / 4.0) ** 2))
    channels = local[[4, 20]]
    size = 30 * np.exp(-((np.abs(channels - np.array([[10], [20]])) / 2.0) ** 2))
    waveforms = (time[None, :, None] * size[:, None]).astype(np.float32)
    templates = Templates(waveforms, channels, np.full(2, 50), np.arange(2, dtype=np.int64), n_before, 40)
    return templates, SimpleNamespace(recording=recording, unit_per_sd=np.ones(40)), params


def test_templates_list_the_channels_around_their_main_one():
    templates, clean, params = off_centre()
    margin = clean.recording.samples(params.align_ms)
    left = Averages(
        np.zeros((2, templates.n_samples + 2 * margin, 15), np.float32),
        templates.channels[:, 0],
        np.full(2, 50),
        margin,
    )
    every = np.arange(2)
    revision = Revision({}, every, every.astype(np.int64), np.full(2, 50), every, [])
    found, _ = refined(left, revision, templates, None, {}, 0, clean, params)
    assert found.channels[:, 0].tolist() == [10, 20]
    before, after = templates.dense(), found.dense()
    np.testing.assert_allclose(after, before, atol=1e-3)  # no channel on which it is large is lost


def test_neighbours_where_the_tissue_moves_are_those_of_the_main_channel():
    templates, _, _ = off_centre()
    main, near = Moving(moving(), Probe(ROWS), 10**6).nearest(templates)
    assert main.tolist() == [10, 20] and near.shape == (2, NEAREST)
    for channel, row in zip(main, near, strict=True):
        assert row[0] == channel and np.abs(row - channel).max() == NEAREST // 2
