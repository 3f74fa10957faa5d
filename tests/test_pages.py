"""The page of a scheduler's sorts: what it shows is what happened."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest

import yass_dask
from yass_dask.chunked import Stride
from yass_dask.errors import InputError
from yass_dask.monitor import pages
from yass_dask.monitor.announce import JOB, announced, submitted
from yass_dask.monitor.progress import Part, SilentProgress
from yass_dask.monitor.summaries import MOST_BINS, MOST_PEAKS, Bins, peaks_of_all, share_of_peaks
from yass_dask.monitor.views import MOST_CELLS, Curve, JobView, StageView
from yass_dask.store import Store

PAGE = (Path(__file__).parents[1] / "docs" / "guide" / "clusters.md").read_text(encoding="utf-8")


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
        assert stage["complete"] and stage["map"] == [["done", parts]]
    facts = json.loads(get(client, "yass.json"))
    assert {worker["address"] for worker in facts["workers"]} == set(client.nthreads())
    assert all(worker["gpu"] is None for worker in facts["workers"])
    assert facts["watching"]["cpu_s"] > job["announcing_s"] > 0 and facts["watching"]["of_s"] > 0
    dask_counts_chunks_by_stage(get(client, "metrics"))


def dask_counts_chunks_by_stage(metrics: str) -> None:
    """Dask's own metrics have the names that the documentation gives."""
    names = re.findall(r"`(dask_scheduler_\w+)`", PAGE)
    assert names and all(f"\n{name}{{" in metrics for name in names)
    (done,) = re.findall(r'prefix_state_totals_total{state="memory",task_prefix_name="detect"} ([\d.]+)', metrics)
    assert float(done) > 0 and float(done) % 4 == 0  # four chunks a sort of this file


def drawn_as_it_is(client: distributed.Client, lazy: yass_dask.Recording, sorting: yass_dask.Sorting) -> None:
    """What the page draws is what the store holds."""
    job = json.loads(get(client, f"yass/{latest(client, 'done')['id']}.json"))
    peaks, store = job["peaks"], Store(sorting.path)
    samples = np.asarray(store.open("detect")["sample_index"][:])
    assert set(peaks["seconds"]) <= set(np.round(samples / lazy.sampling_rate, 2)) and len(peaks["seconds"]) > 10
    assert set(peaks["depth_um"]) <= set(np.round(lazy.probe.positions[:, 1], 2))
    assert len({len(column) for column in peaks.values()}) == 1
    assert job["channels"] == lazy.probe.positions.tolist()
    assert {unit["unit"]: unit["spikes"] for unit in job["units"]} == {
        unit: len(sorting.times_of(unit)) for unit in sorting.unit_ids.tolist()
    }
    main = np.abs(sorting.templates).max(axis=1).argmax(axis=1)
    assert [[unit["x_um"], unit["y_um"]] for unit in job["units"]] == lazy.probe.positions[main].tolist()
    before, result = job["curves"]
    assert (before["stage"], result["stage"]) == ("deconvolve", "sorting")
    assert before["spikes"] == len(store.open("deconvolve")["sample_index"]) and result["spikes"] == sorting.n_spikes
    bins = np.minimum(sorting.sample_index // lazy.block_samples, lazy.n_blocks - 1)
    assert result["spikes_per_s"] == np.bincount(bins, minlength=lazy.n_blocks).tolist()  # bins of a second here


def test_what_was_found_finished_is_shown_as_that(client: distributed.Client, tmp_path: Path):
    lazy = recording()
    drawn_as_it_is(client, lazy, yass_dask.sort(lazy, tmp_path / "out", client=client))
    again = yass_dask.sort(lazy, tmp_path / "out", client=client)
    drawn_as_it_is(client, lazy, again)
    for stage in latest(client, "done")["stages"]:
        assert stage["found"] == stage["parts"] and stage["map"] == [["found", stage["parts"]]]


def test_a_part_found_finished_is_drawn_when_its_stage_is_complete(client: distributed.Client, tmp_path: Path):
    lazy, store = recording(), Store(tmp_path / "out")

    class Stops(SilentProgress):
        def advance(self, name: str, part: Part | None = None) -> None:
            if name == "deconvolve":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        yass_dask.sort(lazy, store, client=client, progress=Stops())
    assert "goes on" in latest(client, "cancelled")["message"]
    sorting = yass_dask.sort(lazy, store, client=client)
    stage = latest(client, "done")["stages"][-1]
    assert 0 < stage["found"] <= stage["parts"] and stage["complete"]
    drawn_as_it_is(client, lazy, sorting)


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


def test_a_sort_without_workers_is_queued_until_one_begins(tmp_path: Path):
    with (
        distributed.LocalCluster(n_workers=0, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        sort = threading.Thread(target=yass_dask.sort, args=(recording(), tmp_path / "out"), kwargs={"client": client})
        sort.start()
        for _ in range(200):  # the page comes with the sort
            time.sleep(0.05)
            if client.run_on_scheduler(lambda dask_scheduler: pages.TOPIC in dask_scheduler.plugins):
                break
        job = latest(client, "queued")
        assert job["message"] == "waits for workers" and job["stages"] == []
        cluster.scale(1)
        sort.join()
        assert latest(client, "done")["message"] == ""


def test_a_sort_that_waits_for_another_ones_chunks_is_queued():
    job, stage = JobView("a", "out", 1.0, 4, began=0.0), StageView("scale", 2, 0, began=0.0)
    job.stages.append(stage)
    stage.change("x", "processing")  # handed to a worker, which is busy
    assert job.state == "queued" and stage.cells() == [("waiting", 2)]
    job.begin_work()
    assert job.state == "running"


def test_a_sort_whose_process_died_is_shown_as_killed(client: distributed.Client):
    other = distributed.Client(client.scheduler.address, set_as_default=False)
    with announced(other, recording(), "out") as announcer:
        latest(client, "queued")
        other.close()
        assert "goes on from what is finished" in latest(client, "killed")["message"]
        announcer.client = client  # the connection was only lost for a while
        announcer.tell("line", line="here again")
        assert latest(client, "running")["log"][-1] == "here again"


def test_lines_are_told_that_nobody_else_wants(client: distributed.Client, caplog: pytest.LogCaptureFixture):
    log = logging.getLogger("yass_dask")
    before = log.level, log.propagate
    with caplog.at_level("WARNING"), announced(client, recording(), "out"):
        log.info("a detail")
        log.warning("a warning")
        latest(client, "queued")
    assert [line.split(" ", 1)[1] for line in latest(client, "done")["log"]] == ["INFO a detail", "WARNING a warning"]
    assert [record.getMessage() for record in caplog.records if record.name == "yass_dask"] == ["a warning"]
    assert (log.level, log.propagate) == before


def test_a_submitted_sort_is_shown_before_its_process_comes(client: distributed.Client, monkeypatch):
    submitted(client, "abcd", recording(), "out")
    assert latest(client, "submitted")["id"] == "abcd"
    token = JOB.set("abcd")
    with announced(client, recording(), "out"):
        JOB.reset(token)
        assert latest(client, "queued")["id"] == "abcd"
        submitted(client, "abcd", recording(), "out")  # told too late
        assert latest(client, "queued")["id"] == "abcd"
    assert [job["id"] for job in json.loads(get(client, "yass.json"))["jobs"]].count("abcd") == 1
    submitted(client, "never", recording(), "out")
    latest(client, "submitted")
    monkeypatch.setattr(pages, "SUBMITTED_S", 0.0)
    assert "yass status never" in latest(client, "killed")["message"]


def test_a_sort_that_does_not_wait_has_the_same_name_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("YASS_JOBS", str(tmp_path / "jobs"))
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        job = yass_dask.sort(recording(), tmp_path / "out", client=client, wait=False)
        before = json.loads(get(client, "yass.json"))["jobs"]
        sorting = job.wait(120)
        after = latest(client, "done")
    assert [shown["id"] for shown in before] == [job.id] == [after["id"]]
    assert before[0]["state"] == "submitted" and before[0]["out"] == str(tmp_path / "out")
    assert after["spikes"] == sorting.n_spikes


def test_one_job_in_full_and_the_others_in_short(client: distributed.Client):
    for name in ("first", "second"):
        with announced(client, recording(), name):
            pass
    second, first = json.loads(get(client, "yass.json"))["jobs"][:2]
    asked = json.loads(get(client, f"yass.json?job={first['id']}"))["jobs"]
    assert "stages" in asked[1] and "stages" not in asked[0]
    assert asked[0] == {name: second[name] for name in asked[0]}
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(client, "yass/nobody.json")


def test_gpu_use_is_what_dask_measures():
    metrics = {"gpu": lambda worker: {"utilization": 40, "memory-used": 2e9}}
    about = {"gpu": lambda worker: {"memory-total": 8e10, "name": "card"}}
    with (
        distributed.LocalCluster(
            n_workers=1, processes=False, dashboard_address=":0", metrics=metrics, startup_information=about
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        announced(client, recording(), "out"),
    ):
        worker = json.loads(get(client, "yass.json"))["workers"][0]
    assert worker["gpu"] == {"name": "card", "percent": 40, "memory_mb": 2000, "limit_mb": 80000}


def test_the_page_and_its_files_are_there(client: distributed.Client):
    with announced(client, recording(), "out"):
        text = get(client, "yass")
        assert "<title>yass</title>" in text and "http" not in text  # nothing from elsewhere: it works offline
        for name in re.findall(r'(?:href|src)="(yass/[^"]+)"', text):
            assert "http" not in get(client, name).replace("http://www.w3.org/2000/svg", "")


def cells(stage: StageView, *at_work: str) -> list[str]:
    return [state for state, count in stage.cells(at_work) for _ in range(count)]


def test_a_chunk_whose_worker_died_is_shown_as_running_again():
    stage = StageView("detect", 5, 1, began=0.0)
    for chunk, state in [("a", "waiting"), ("b", "waiting"), ("a", "processing"), ("b", "processing"), ("b", "memory")]:
        stage.change(chunk, state)
    assert cells(stage, "a") == ["found", "running", "done", "waiting", "waiting"]
    for state in ("released", "waiting", "processing"):
        stage.change("a", state)
    stage.change("b", "released")  # its result is not needed any more
    assert cells(stage, "a") == ["found", "redone", "done", "waiting", "waiting"]
    assert cells(stage) == ["found", "waiting", "done", "waiting", "waiting"]
    stage.change("a", "erred")
    facts = stage.facts(recorded_s=50.0, now=10.0)
    assert (facts["done"], facts["failed"], facts["redone"], facts["running"]) == (2, 1, 1, 0)
    assert facts["x_real_time"] == 1.0  # one of five chunks of 50 s in 10 s
    assert cells(stage)[1] == "failed"


def test_a_stage_that_is_over_is_shown_as_it_ended_and_keeps_no_chunk():
    stage = StageView("detect", 3, 1, began=0.0)
    for chunk, state in [("a", "processing"), ("a", "memory"), ("b", "processing"), ("b", "memory")]:
        stage.change(chunk, state)
    before = stage.facts(recorded_s=30.0, now=10.0)
    stage.end(30.0, 10.0, complete=True)
    after = stage.facts(recorded_s=30.0, now=99.0)
    assert not stage.chunks and after["complete"] and not before["complete"]
    names = ("done", "map", "seconds", "x_real_time")
    assert [after[name] for name in names] == [before[name] for name in names]


def test_a_chunk_whose_worker_died_after_its_result_was_taken_is_done():
    ends = {}
    for complete in (True, False):
        stage = StageView("detect", 1, 0, began=0.0)
        for state in ("processing", "memory", "released", "waiting", "processing", "forgotten"):
            stage.change("a", state)
        stage.end(30.0, 10.0, complete)
        ends[complete] = stage.facts(30.0, 10.0)
    assert (ends[True]["done"], ends[True]["complete"]) == (1, True)
    assert (ends[False]["done"], ends[False]["complete"]) == (0, False)


def test_many_chunks_share_cells_and_show_the_worst():
    stage = StageView("detect", 1000, 990, began=0.0)
    stage.change("x", "processing")
    shown = cells(stage, "x")
    assert len(shown) <= MOST_CELLS and shown.count("running") == 1 and shown[0] == "found"


def test_a_job_keeps_its_last_lines():
    job = JobView("a", "out", 1.0, 4, 0.0)
    job.lines.extend(map(str, range(100)))
    assert job.facts(1.0)["log"][-1] == "99" and len(job.facts(1.0)["log"]) < 50


@pytest.mark.parametrize("n_blocks", [1, 7, MOST_BINS, 5 * MOST_BINS + 3])
@pytest.mark.parametrize("stride", [Stride(), Stride(4, 1)])
def test_bins_hold_every_spike_and_every_second_looked_at(n_blocks: int, stride: Stride):
    block, n_samples = 100, 100 * n_blocks - 30
    bins = Bins(n_blocks, block, n_samples, 10.0)
    assert 1 <= bins.count <= MOST_BINS
    samples = np.sort(np.random.default_rng(0).integers(0, n_samples, 500))
    counts = bins.count_spikes(samples)
    assert counts.tolist() == np.bincount(samples // block // bins.blocks_each, minlength=bins.count).tolist()
    assert bins.count_all(samples).tolist() == counts.tolist()
    seconds = bins.seconds(stride)
    assert seconds.sum() == pytest.approx(stride.n_samples(n_samples, block) / 10.0)
    edges = [*range(0, n_blocks, 3), n_blocks]
    parts = [f"{a:08d}-{b:08d}" for a, b in pairwise(edges)]
    assert sum(bins.seconds_of(part, stride) for part in parts) == pytest.approx(seconds)


def test_rates_are_told_of_what_was_looked_at_only():
    curve = Curve("deconvolve", 2.0, [0] * 4, [0.0] * 4)
    curve.add(1, [3, 0], [2.0, 1.0])
    curve.add(2, [5], [1.0])
    assert curve.facts() == {"stage": "deconvolve", "bin_s": 2.0, "spikes": 8, "spikes_per_s": [None, 1.5, 2.5, None]}


@pytest.mark.parametrize("n_rows", [0, 5, MOST_PEAKS, 10 * MOST_PEAKS])
def test_peaks_of_a_table_come_from_all_of_it(n_rows: int):
    probe = recording().probe
    rows = np.arange(n_rows)
    table = {"sample_index": rows * 300, "channel_index": rows % 4, "amplitude": np.full(n_rows, -7.5)}
    columns = {name: np.frombuffer(column, "i4") for name, column in peaks_of_all(table, 30_000.0, probe).items()}
    seconds = columns["seconds"]
    assert len(set(seconds.tolist())) == len(seconds) == min(n_rows, MOST_PEAKS)
    assert not n_rows or (seconds[0] == 0 and seconds[-1] == n_rows - 1)
    assert set(columns["height_sd"].tolist()) <= {750}
    assert set(columns["depth_um"].tolist()) <= set((100 * probe.positions[:, 1]).tolist())


@pytest.mark.parametrize("n_parts", [1, 7, 3 * MOST_PEAKS])
def test_peaks_are_shared_out_evenly(n_parts: int):
    shares = [share_of_peaks(part, n_parts) for part in range(n_parts)]
    assert sum(shares) == MOST_PEAKS and max(shares) - min(shares) <= 1
