"""Workers of a cluster that are killed while a sort runs: the same bytes, and nothing finished is done again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import distributed
import pytest
from distributed import Status

import yass_dask
from yass_dask.runtime import Executor

N_KILLS, EVERY = 10, 15
"""A worker dies after so many more chunks are done."""
POLL_S = 0.05


@pytest.mark.kill
def test_killed_workers_change_nothing(tmp_path: Path):
    made = yass_dask.simulate(n_channels=16, seconds=20, n_units=6, seed=2)
    recording = yass_dask.from_array(made.traces, made.sampling_rate, geometry=made.positions).with_chunks(2)
    yass_dask.sort(recording, tmp_path / "here", client=Executor("sync"))
    ended: list[Any] = []
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):

        def sort() -> None:
            try:
                ended.append(yass_dask.sort(recording, tmp_path / "there", client=client))
            except BaseException as error:
                ended.append(error)

        page = client.dashboard_link.removesuffix("/status") + "/yass.json"
        thread = threading.Thread(target=sort)
        thread.start()
        kills = _kill_some(cluster, page, thread)
        thread.join(300)
        stages = _stages_in_the_end(page)
    assert kills == N_KILLS, "the sort ended before its workers could be killed"
    assert isinstance(ended[0], yass_dask.Sorting), ended
    for name in ("spike_train.npy", "templates.npy", "units.csv"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    # A worker has a task in its hands and at most a few handed to it.
    assert sum(stage["redone"] for stage in stages) <= 4 * kills
    assert not [stage for stage in stages if stage["done"] < stage["parts"]]


def _stages(page: str) -> list[dict[str, Any]]:
    """Stages of the only sort, as far as the scheduler knows of it."""
    try:
        with urllib.request.urlopen(page) as answer:
            jobs = json.loads(answer.read())["jobs"]
    except urllib.error.HTTPError:  # the sort has not brought its page yet
        return []
    return jobs[0]["stages"] if jobs else []


def _stages_in_the_end(page: str) -> list[dict[str, Any]]:
    """The same once the scheduler has heard of all: what a client tells arrives a moment later."""
    for _ in range(200):
        stages = _stages(page)
        if all(stage["complete"] for stage in stages):
            break
        time.sleep(POLL_S)
    return stages


def _kill_some(cluster: distributed.LocalCluster, page: str, thread: threading.Thread) -> int:
    """Kill a random worker whenever some more chunks are done, as long as the sort runs."""
    kills, pick = 0, random.Random(0)
    while kills < N_KILLS and thread.is_alive():
        thread.join(POLL_S)
        if sum(stage["done"] for stage in _stages(page)) < (kills + 1) * EVERY:
            continue
        # dask gives a worker up for good that dies while it starts.
        started = [nanny.process for nanny in cluster.workers.values() if nanny.process.status is Status.running]
        if started and thread.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pick.choice(started).pid, signal.SIGKILL)
                kills += 1
    return kills
