"""Sorts that run on by themselves: started, watched, stopped, gone on with."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

import yass_dask
from yass_dask import jobs
from yass_dask.cli import app
from yass_dask.errors import InputError
from yass_dask.monitor.progress import Progress


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Jobs of this test only; those that run still at its end are killed."""
    monkeypatch.setenv("YASS_JOBS", str(tmp_path / "jobs"))
    yield tmp_path / "jobs"
    for job in jobs.all_jobs():
        if job.status()["state"] == "running":
            os.killpg(job.status()["pid"], signal.SIGKILL)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jobs") / "recording"
    yass("simulate", str(folder), "--channels", "4", "--units", "2", "--seconds", "20", "--geometry", "tetrode")
    return folder / "config.yaml"


def yass(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    return result.output


def until(job: jobs.Job, states: set[str], seconds: float = 60) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while (facts := job.status())["state"] not in states and time.monotonic() < end:
        time.sleep(0.1)
    assert facts["state"] in states, (facts, (job.folder / jobs.OUTPUT).read_text())
    return facts


def sleep(progress: Progress) -> str:
    time.sleep(300)
    return "slept"


def fail(progress: Progress) -> str:
    raise InputError("the file is bad")


cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the job cannot import this file


def test_a_detached_sort_is_the_sort(recording: Path):
    yass("sort", str(recording), "-o", "here", "--no-progress")
    told = yass("sort", str(recording), "-o", "detached", "--detach")
    job_id = re.search(r"yass status (\w+)", told)[1]
    sorting = jobs.find(job_id[:5]).wait(300)
    expected = np.load(recording.parent / "here" / "spike_train.npy")
    assert np.array_equal(np.load(recording.parent / "detached" / "spike_train.npy"), expected)
    assert sorting.n_spikes == len(expected)
    assert f"{job_id}  " in yass("jobs") and "done" in yass("jobs")
    facts = json.loads(yass("status", job_id, "--json"))
    assert facts["state"] == "done" and facts["done"] == facts["parts"] and str(len(expected)) in facts["message"]
    assert "detached" in yass("status", job_id) and "INFO" in yass("status", job_id)


def test_bad_input_is_said_at_once(recording: Path):
    assert "detect.threshold" in yass("sort", str(recording), "--set", "detect.threshold=5", "--detach", code=2)
    assert jobs.all_jobs() == []


def test_sort_that_does_not_wait(recording: Path, tmp_path: Path):
    lazy = yass_dask.from_config(recording).slice_time(0, 5)
    here = yass_dask.sort(lazy, tmp_path / "here")
    job = yass_dask.sort(lazy, tmp_path / "there", wait=False)
    there = job.wait(300)
    assert np.array_equal(there.sample_index, here.sample_index)
    assert np.array_equal(there.unit_index, here.unit_index)
    assert job.last_lines()


def test_a_cancelled_sort_goes_on_from_what_is_finished(recording: Path):
    told = yass("sort", str(recording), "-o", "stopped", "--workers", "1", "--detach")
    job = jobs.find(re.search(r"yass status (\w+)", told)[1])
    end = time.monotonic() + 60
    while "stage" not in job.status() and time.monotonic() < end:
        time.sleep(0.02)
    assert "told to stop" in yass("cancel", job.id)
    assert until(job, {"cancelled"})["message"]
    assert "does not run" in yass("cancel", job.id, code=2)
    with pytest.raises(RuntimeError, match="cancelled"):
        job.wait()
    yass("sort", str(recording), "-o", "stopped", "--no-progress")
    yass("sort", str(recording), "-o", "whole", "--no-progress")
    found, expected = (np.load(recording.parent / out / "spike_train.npy") for out in ("stopped", "whole"))
    assert np.array_equal(found, expected)


def test_a_job_tells_how_it_ended(tmp_path: Path):
    failed = jobs.start(fail, tmp_path)
    assert until(failed, {"failed"})["message"] == "InputError: the file is bad"
    sleeping = jobs.start(sleep, tmp_path)
    assert until(sleeping, {"running"})["pid"]
    with pytest.raises(TimeoutError, match="still runs"):
        sleeping.wait(0.1)
    os.killpg(sleeping.status()["pid"], signal.SIGKILL)
    psutil.wait_procs([psutil.Process(sleeping.status()["pid"])], timeout=30)
    assert until(sleeping, {"killed"})
    assert [job.id for job in jobs.all_jobs()] == [failed.id, sleeping.id]


def test_a_job_of_another_host_is_not_called_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    job = jobs.start(sleep, tmp_path)
    monkeypatch.setattr(jobs.socket, "gethostname", lambda: "elsewhere")
    assert job.status()["state"] == "unknown"
    with pytest.raises(InputError, match="cancel it there"):
        job.cancel()
    monkeypatch.undo()


def test_jobs_that_are_not_there():
    assert "no jobs" in yass("jobs")
    assert "no jobs have an id like 'abc'" in yass("status", "abc", code=2)
