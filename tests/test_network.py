"""Who can reach a sort from outside: nobody who was not asked for; TLS; and what must not be written down."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import psutil
import pytest
from distributed.security import Security
from labs import COMMAND, Ran, recorded, simulated

from yass_dask import Recording, config, sort
from yass_dask.errors import InputError
from yass_dask.pipeline import SortParams
from yass_dask.runtime import Executor
from yass_dask.runtime.batch import Batch, batch_client, job_script, sort_script
from yass_dask.runtime.clients import local_client

LOOPBACK = "127.0.0.1"
SECRET = "hunter2-9f3a"


def listening() -> set[tuple[str, int]]:
    """Addresses at which this process and its descendants take calls."""
    me = psutil.Process()
    return {
        (found.laddr.ip, found.laddr.port)
        for process in (me, *me.children(recursive=True))
        for found in process.net_connections("inet")
        if found.status == psutil.CONN_LISTEN
    }


# Who listens


def test_threads_listen_nowhere(tmp_path: Path, small_recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(socket.socket, "listen", lambda self, *args: calls.append(args))
    sort(small_recording[:30_000], tmp_path / "out", SortParams(n_refinements=0), client=Executor("threads", 2))
    assert calls == []


def test_local_processes_listen_on_the_loopback_only() -> None:
    before = listening()
    with local_client(2, None) as client:
        client.wait_for_workers(2)
        ours = listening() - before
        page = client.dashboard_link
    assert len(ours) >= 4, "scheduler, its dashboard, two workers"
    assert {address for address, _ in ours} == {LOOPBACK}
    assert page.startswith(f"http://{LOOPBACK}:")


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SLURM whose jobs never start."""
    for name, words in {"sbatch": "echo Submitted batch job 1", "scancel": ":"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{words}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def test_slurms_scheduler_is_reachable_its_dashboard_is_not(sbatch: None) -> None:
    before = listening()
    with batch_client(Batch(jobs=1, workers=1, memory=10**9)) as client:
        ours = listening() - before
        port = client.scheduler_info()["services"]["dashboard"]
        page = client.dashboard_link
    assert (LOOPBACK, port) in ours
    assert page == f"http://{LOOPBACK}:{port}/status", "told where it is"
    assert {address for address, number in ours if number != port} - {LOOPBACK}, "batch jobs must reach it"


def test_slurms_script_keeps_the_dashboard_to_the_node() -> None:
    script = sort_script(Batch(jobs=1, workers=1, memory=10**9), ["config.yaml"])
    (scheduler,) = [line for line in script.splitlines() if "dask scheduler" in line]
    assert f"--dashboard-address {LOOPBACK}:0" in scheduler
    assert "--no-dashboard" in script, "workers have none"


# TLS, by dask's own settings


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Self-made certificates in files, as a site's administrator gives them out."""
    made, folder = Security.temporary(), tmp_path_factory.mktemp("keys")
    paths = {}
    for name in ("tls_ca_file", "tls_client_cert", "tls_client_key", "tls_scheduler_cert", "tls_scheduler_key",
                 "tls_worker_cert", "tls_worker_key"):  # fmt: skip
        paths[name] = str(folder / f"{name}.pem")
        Path(paths[name]).write_text(getattr(made, name))
    return paths


@pytest.fixture(scope="module")
def tls_cluster(keys: dict[str, str]) -> Iterator[str]:
    """Address of a scheduler with a worker that speak TLS only."""
    security = Security(require_encryption=True, **keys)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, host=LOOPBACK, protocol="tls://", security=security,
        dashboard_address=None,
    ) as cluster:  # fmt: skip
        yield cluster.scheduler_address


def yass_with(environment: dict[str, str], *words: Any) -> Ran:
    import subprocess

    done = subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def test_tls(tls_cluster: str, keys: dict[str, str], tmp_path: Path) -> None:
    """The certificates that dask is configured with are taken; the sort is the same as without."""
    path = simulated(tmp_path / "recording", n_channels=4, seconds=2, n_units=2)
    assert tls_cluster.startswith("tls://")
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    environment = {
        f"{tls}CA_FILE": keys["tls_ca_file"], f"{tls}CLIENT__CERT": keys["tls_client_cert"],
        f"{tls}CLIENT__KEY": keys["tls_client_key"],
    }  # fmt: skip
    quick = ("sort", path, "--set", "n_refinements=0", "--no-progress")
    ran = yass_with(environment, *quick, "--scheduler", tls_cluster, "--output-dir", "tls")
    assert ran.code == 0, ran.err
    assert yass_with({}, *quick, "--scheduler", "sync", "--output-dir", "plain").code == 0
    trains = [np.load(path.parent / folder / "spike_train.npy") for folder in ("tls", "plain")]
    np.testing.assert_array_equal(*trains)
    told = "".join(file.read_text(errors="replace") for file in (path.parent / "tls").glob("*.*") if file.is_file())
    assert Path(keys["tls_client_key"]).read_text().splitlines()[1] not in told


def test_tls_without_certificates(tls_cluster: str, tmp_path: Path) -> None:
    path = recorded(tmp_path, np.zeros((4000, 2), np.int16))
    settings = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "2s"}
    ran = yass_with(settings, "sort", path, "--scheduler", tls_cluster, "--no-progress")
    assert ran.code == 2, ran.err
    assert tls_cluster in ran.err
    assert "certificates" in ran.err
    assert "Traceback" not in ran.err


# Secrets


def test_nothing_of_the_environment_is_written(tmp_path: Path) -> None:
    """Neither in results nor in logs, reports, recipes, jobs, nor on the screen."""
    path = simulated(tmp_path / "recording", n_channels=4, seconds=2, n_units=2)
    environment = {"LAB_TOKEN": SECRET, "AWS_SECRET_ACCESS_KEY": SECRET, "YASS_JOBS": str(tmp_path / "jobs")}
    quick = ("--set", "n_refinements=0", "--scheduler", "sync", "--no-progress", "--logger-level", "DEBUG")
    out = path.parent / "tmp"
    for words in (("sort", path, *quick), ("report", out), ("export", out), ("sort", path, "--detach", *quick)):
        ran = yass_with(environment, *words)
        assert ran.code == 0, ran.err
        assert SECRET not in ran.out + ran.err
    from yass_dask import jobs

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YASS_JOBS", str(tmp_path / "jobs"))
        (job,) = jobs.all_jobs()
        job.wait(120)
        assert job.folder.stat().st_mode & 0o077 == 0, "others cannot read what a job is"
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 50
    assert [file for file in files if SECRET.encode() in file.read_bytes()] == []


def test_scripts_for_slurm_hold_no_secrets(sbatch: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_TOKEN", SECRET)
    batch = Batch(jobs=1, workers=1, memory=10**9)
    assert SECRET not in job_script(batch) + sort_script(batch, ["config.yaml"])


@pytest.mark.parametrize("address", [f"tcp://me:{SECRET}@host:8786", f"tls://{SECRET}@host:8786"])
def test_an_address_with_a_password_is_refused_without_repeating_it(tmp_path: Path, address: str) -> None:
    path = recorded(tmp_path, np.zeros((4000, 2), np.int16))
    with pytest.raises(InputError, match="no user or password") as caught:
        config.choose_cluster(config.load(path), scheduler=address)
    assert SECRET not in str(caught.value)
