"""The page of a scheduler's sorts: what it shows is what happened."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest

import yass_dask
from yass_dask.errors import InputError
from yass_dask.monitor.announce import announced
from yass_dask.monitor.pages import MOST_CELLS, JobView, StageView
from yass_dask.store import Store


@pytest.fixture(scope="module")
def client() -> Iterator[distributed.Client]:
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def get(client: distributed.Client, page: str) -> str:
    link = client.dashboard_link.removesuffix("/status")
    with urllib.request.urlopen(f"{link}/{page}") as answer:
        return answer.read().decode()


def latest(client: distributed.Client, state: str) -> dict[str, Any]:
    """The newest job, once it is in the state: what a client tells arrives a moment later."""
    for _ in range(100):
        job = json.loads(get(client, "yass.json"))["jobs"][0]
        if job["state"] == state:
            return job
        time.sleep(0.05)
    raise AssertionError(job)


def recording() -> yass_dask.Recording:
    made = yass_dask.simulate(n_channels=4, seconds=8, n_units=2, seed=1)
    return yass_dask.from_array(made.traces, made.sampling_rate, geometry=made.positions).with_chunks(2)


def test_a_sort_is_shown_as_it_was(client: distributed.Client, tmp_path: Path):
    lazy = recording()
    sorting = yass_dask.sort(lazy, tmp_path / "out", client=client)
    job = latest(client, "done")
    assert (job["out"], job["recorded_s"], job["n_channels"]) == (str(tmp_path / "out"), lazy.duration_s, 4)
    assert (job["units"], job["spikes"]) == (sorting.n_units, sorting.n_spikes)
    timings = Store(tmp_path / "out").timings()
    assert [stage["stage"] for stage in job["stages"]] == list(timings)
    for stage in job["stages"]:
        parts = timings[stage["stage"]]["parts"]
        assert (stage["done"], stage["parts"], stage["found"]) == (parts, parts, 0)
        assert stage["complete"] and stage["map"] == ["done"] * parts
    peaks = np.array(json.loads(get(client, f"yass/peaks/{job['id']}.json")))
    samples = np.asarray(Store(tmp_path / "out").open("detect")["sample_index"][:])
    assert set(peaks[:, 0]) <= set(np.round(samples / lazy.sampling_rate, 2))
    assert set(peaks[:, 1]) <= set(np.round(lazy.probe.positions[:, 1], 2)) and len(peaks) > 10
    assert {worker["address"] for worker in json.loads(get(client, "yass.json"))["workers"]} == set(client.nthreads())


def test_what_was_found_finished_is_shown_as_that(client: distributed.Client, tmp_path: Path):
    lazy = recording()
    yass_dask.sort(lazy, tmp_path / "out", client=client)
    latest(client, "done")
    yass_dask.sort(lazy, tmp_path / "out", client=client)
    job = latest(client, "done")
    assert all(stage["found"] == stage["parts"] and set(stage["map"]) <= {"found"} for stage in job["stages"])


def test_a_sort_that_fails_says_why(client: distributed.Client, tmp_path: Path):
    made = yass_dask.simulate(n_channels=4, seconds=4, n_units=2, seed=1)
    traces = made.traces.astype(np.float32)
    traces[1000, 2] = np.nan
    bad = yass_dask.from_array(traces, made.sampling_rate, geometry=made.positions)
    with pytest.raises(InputError, match="NaN"):
        yass_dask.sort(bad, tmp_path / "out", client=client)
    job = latest(client, "failed")
    assert "channel 2 holds NaN" in job["message"]
    assert job["errors"][0]["stage"] in ("scale", "preprocess") and "NaN" in job["errors"][0]["error"]


def test_the_page_asks_for_what_there_is(client: distributed.Client, tmp_path: Path):
    with announced(client, recording(), "out"):
        text = get(client, "yass")
    assert "yass.json" in text and "<title>yass</title>" in text


def test_a_chunk_whose_worker_died_is_shown_as_running_again():
    stage = StageView("detect", 5, 1, began=0.0)
    for chunk, state in [("a", "waiting"), ("b", "waiting"), ("a", "processing"), ("b", "processing"), ("b", "memory")]:
        stage.change(chunk, state)
    assert stage.cells() == ["found", "running", "done", "waiting", "waiting"]
    for state in ("released", "waiting", "processing"):
        stage.change("a", state)
    stage.change("b", "released")  # its result is not needed any more
    assert stage.cells() == ["found", "redone", "done", "waiting", "waiting"]
    stage.change("a", "erred")
    facts = stage.facts(recorded_s=50.0, now=10.0)
    assert (facts["done"], facts["failed"], facts["redone"], facts["running"]) == (2, 1, 1, 0)
    assert facts["x_real_time"] == 1.0  # one of five chunks of 50 s in 10 s
    assert stage.cells()[1] == "failed"


def test_a_stage_that_is_over_is_shown_as_it_ended_and_keeps_no_chunk():
    stage = StageView("detect", 3, 1, began=0.0)
    for chunk, state in [("a", "processing"), ("a", "memory"), ("b", "processing"), ("b", "memory")]:
        stage.change(chunk, state)
    before = stage.facts(recorded_s=30.0, now=10.0)
    stage.end(10.0)
    after = stage.facts(recorded_s=30.0, now=99.0)
    assert not stage.chunks and after["complete"] and not before["complete"]
    names = ("done", "map", "seconds", "x_real_time")
    assert [after[name] for name in names] == [before[name] for name in names]


def test_many_chunks_share_cells_and_show_the_worst():
    stage = StageView("detect", 1000, 990, began=0.0)
    stage.change("x", "processing")
    cells = stage.cells()
    assert len(cells) <= MOST_CELLS and cells.count("running") == 1 and cells[0] == "found"


def test_a_job_keeps_its_last_lines():
    job = JobView("a", "out", 1.0, 30_000, 4, 0.0)
    job.lines.extend(map(str, range(100)))
    assert job.facts(1.0)["log"][-1] == "99" and len(job.facts(1.0)["log"]) < 20
