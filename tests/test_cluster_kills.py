"""Workers of a cluster that are killed while a sort runs: the same bytes, and nothing finished is done again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import urllib.request
from pathlib import Path
from typing import Any

import distributed
import pytest

import yass_dask
from yass_dask.runtime import Executor

N_KILLS, PAUSE_S = 4, 1.5


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

        thread = threading.Thread(target=sort)
        thread.start()
        kills = _kill_some(cluster, thread)
        thread.join(300)
        link = client.dashboard_link.removesuffix("/status")
        with urllib.request.urlopen(f"{link}/yass.json") as answer:
            stages = json.loads(answer.read())["jobs"][0]["stages"]
    assert kills, "the sort ended before a worker could be killed"
    assert isinstance(ended[0], yass_dask.Sorting), ended
    for name in ("spike_train.npy", "templates.npy", "units.csv"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    # A worker has a task in its hands and at most a few handed to it.
    assert sum(stage["redone"] for stage in stages) <= 4 * kills
    assert all(stage["done"] == stage["parts"] for stage in stages)


def _kill_some(cluster: distributed.LocalCluster, thread: threading.Thread) -> int:
    """Kill a random worker every now and then, as long as the sort runs."""
    kills, pick = 0, random.Random(0)
    while kills < N_KILLS and thread.is_alive():
        thread.join(PAUSE_S)
        pids = [nanny.process.pid for nanny in cluster.workers.values() if nanny.process and nanny.process.pid]
        if pids and thread.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pick.choice(pids), signal.SIGKILL)
                kills += 1
    return kills
