"""The scheduling simulation: exact on small cases, cut as the sort cuts; what it wrote down comes from its lines."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.accuracy.lines import read
from benchmarks.scheduling.__main__ import RESULTS
from benchmarks.scheduling.growth import FIRST, LAST, Size, client_seconds, pieces_of, power, stage_names, stages_of
from benchmarks.scheduling.report import BANDWIDTHS, report, silent
from benchmarks.scheduling.schedule import Costs, Stage, makespan, stage_seconds
from yass_dask import SortParams, Store

FREE = Costs(task_s=0.0, stage_s=0.0, bandwidth=1e12)


@pytest.mark.parametrize(("n_tasks", "n_workers", "rounds"), [(1, 1, 1), (1, 8, 1), (7, 1, 7), (7, 3, 3), (12, 4, 3)])
def test_equal_tasks(n_tasks, n_workers, rounds):
    assert makespan([2.0] * n_tasks, n_workers) == 2.0 * rounds


def test_tasks_go_in_order_to_whoever_is_free_first():
    assert makespan([5, 1, 1, 1, 1, 1], 2) == 5
    assert makespan([1, 1, 1, 1, 1, 5], 2) == 7  # the long one comes last
    assert makespan([3, 3, 2, 2, 2], 2) == 7
    assert makespan([], 4) == 0


def test_no_two_tasks_are_handed_out_at_once():
    assert makespan([0.0] * 10, 256, task_s=0.5) == 5
    assert makespan([1.0] * 4, 4, task_s=0.25) == 2  # the last one begins at 1
    assert makespan([10.0] * 4, 1, task_s=0.25) == 40.25


@pytest.mark.parametrize("n_workers", [1, 2, 5, 64])
def test_no_schedule_beats_the_work_or_the_longest_task(n_workers):
    tasks = np.random.default_rng(0).exponential(size=100).tolist()
    seconds = makespan(tasks, n_workers)
    least = max(sum(tasks) / n_workers, max(tasks))
    assert least <= seconds + 1e-9
    assert seconds <= sum(tasks) / n_workers + max(tasks) + 1e-9


@pytest.mark.parametrize(
    ("stage", "costs", "seconds", "why"),
    [
        (Stage("templates", [3.0]), FREE, 3, "a single task"),
        (Stage("cluster", [1.0] * 3), FREE, 1, "3 tasks"),
        (Stage("deconvolve", [1.0] * 8), FREE, 2, "its tasks"),
        (Stage("preprocess", [1.0] * 8, n_bytes=50), replace(FREE, bandwidth=10), 5, "the disks"),
        (Stage("detect", [0.01] * 8), replace(FREE, task_s=1.0), 8.01, "the scheduler"),
        (Stage("end", [], client_s=4.0), replace(FREE, stage_s=0.5), 4.5, "the client"),
        (Stage("detect", [1.0] * 8, client_s=1.0), replace(FREE, stage_s=0.5), 3.5, "its tasks"),
    ],
)
def test_what_limits_a_stage(stage, costs, seconds, why):
    assert stage_seconds(stage, 4, costs) == (pytest.approx(seconds), why)


def test_powers():
    assert power(2.0, 8.0, 4.0) == pytest.approx(1)
    assert power(2.0, 8.0, 2.0) == pytest.approx(2)
    assert power(1.0, 100.0, 2.0) == 2, "at most"
    assert power(2.0, 1.0, 2.0) == 0, "at least"
    assert power(0.0, 1.0, 2.0) == power(1.0, 1.0, 1.0) == 0, "nothing to be told"


def test_the_client_plans_once_and_handles_every_event():
    """Something that grows with the square root of the channels, and so much a channel and second."""

    def spent(size: Size) -> float:
        return 3 * size.channels**0.5 + 1e-3 * size.channels * size.seconds

    sizes = [Size(16, 60), Size(64, 60), Size(16, 240)]
    for size in (*sizes, Size(384, 24 * 3600)):
        assert client_seconds([spent(one) for one in sizes], sizes, size) == pytest.approx(spent(size))
    assert client_seconds([5, 5, 4], sizes, Size(384, 3600)) == 5, "nothing seen to grow"


def test_stages_and_their_pieces_are_those_of_a_sort(small_sorted):
    """A short recording: each round looks at blocks that meet, so every kind of stage is there."""
    recording, params = small_sorted.recording, small_sorted.params
    kept = Store(small_sorted.folder).timings()
    assert list(kept) == stage_names(recording, params)
    assert {name: len(pieces_of(name, recording, params).shares) for name in kept} == {
        name: timing["parts"] for name, timing in kept.items()
    }


def test_a_long_recording_is_looked_at_in_part():
    recording, params = silent(8, 24).with_chunks(10, 60), SortParams()
    names = stage_names(recording, params)
    assert names[: len(FIRST)] == list(FIRST)
    assert names[-3:] == list(LAST)
    assert not {"even_0", "even_1"} & set(names)
    for name in names:
        pieces = pieces_of(name, recording, params)
        assert sum(pieces.shares) == pytest.approx(1)
        assert pieces.seconds <= (24 * 3600 if name in ("preprocess", "even", "deconvolve") else params.max_refining_s)
    assert len(pieces_of("preprocess", recording, params).shares) == 24 * 360
    assert len(pieces_of("deconvolve", recording, params).shares) == 24 * 60


@pytest.fixture
def runs():
    """Three sorts, in which a task takes a tenth of a millisecond for a channel and second, the client a thousandth."""
    made = []
    for channels, seconds in ((10, 60.0), (30, 60.0), (10, 240.0)):
        recording = silent(channels, seconds / 3600).with_chunks(10)
        stages = {}
        for name in stage_names(recording, SortParams()):
            pieces = pieces_of(name, recording, SortParams())
            work = 1e-4 * channels * pieces.seconds * (0.5 if name.startswith("even") else 1)
            if name.startswith("deconvolve") and f"even{name.removeprefix('deconvolve')}" in stages:
                work /= 2
            stages[name] = {"tasks_s": [work * share for share in pieces.shares], "client_s": work / 1000}
        made.append(({"stages": stages, "end_s": 1e-5 * channels * seconds}, recording))
    return made


def test_what_was_measured_comes_out_again(runs):
    line, recording = runs[1]
    stages = {stage.name: stage for stage in stages_of(recording, SortParams(), runs)}
    assert stages.pop("end").client_s == pytest.approx(line["end_s"])
    assert set(stages) == set(line["stages"])
    for name, stage in stages.items():
        assert stage.work_s == pytest.approx(sum(line["stages"][name]["tasks_s"])), name
        assert stage.client_s == pytest.approx(line["stages"][name]["client_s"]), name


def test_work_grows_with_channels_and_with_what_is_looked_at(runs):
    hours, channels = 10, 300
    recording = silent(channels, hours).with_chunks(10)
    for stage in stages_of(recording, SortParams(), runs):
        if stage.name == "end":
            assert stage.client_s == pytest.approx(1e-5 * channels * hours * 3600)
            continue
        seconds = pieces_of(stage.name, recording, SortParams()).seconds
        half = 0.5 if stage.name in ("even", "deconvolve") else 1
        assert stage.work_s == pytest.approx(half * 1e-4 * channels * seconds, rel=0.05), stage.name
        whole = stage.name in ("preprocess", "even", "deconvolve")
        assert (seconds == pytest.approx(hours * 3600)) == whole


def test_tables_come_from_the_lines():
    told = RESULTS.with_suffix(".md").read_text(encoding="utf-8")
    assert told == report(read(RESULTS), BANDWIDTHS), "run: python -m benchmarks.scheduling --again"
    assert len(list(itertools.takewhile(lambda line: not line.startswith("## "), told.splitlines()))) < 40
