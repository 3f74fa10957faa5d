"""SLURM: workers as batch jobs, through dask-jobqueue or in one plain script."""

from __future__ import annotations

import contextlib
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask

from yass_dask.errors import InputError
from yass_dask.runtime.plan import PROCESS_BYTES
from yass_dask.runtime.threads import KEEP_MEMORY, ONE_THREAD, WORKER_SETTINGS

if TYPE_CHECKING:
    import distributed

SPARE = 1.25
"""Memory asked for, over what the plan says: SLURM ends a job at its limit."""
LOOPBACK, DASHBOARD = "127.0.0.1", "127.0.0.1:0"
"""Whoever reaches a scheduler or a worker runs code there, and a dashboard shows what is sorted (docs/security.md)."""
LINK, OWN_LINK = "distributed.dashboard.link", "{scheme}://127.0.0.1:{port}/status"
"""Where dask says that a dashboard is; by its own template, it would be told at an address where it does not listen."""
GIVE_UP_S = 300
"""A worker without a scheduler ends after this time."""


@dataclass(frozen=True)
class Batch:
    """What is asked of SLURM.

    Attributes
    ----------
    jobs : int
        Batch jobs, each of `workers` processes of one core.
    memory : int
        Bytes of a whole job.
    queue, account : str, optional
        Partition and account.
    walltime : str
        As SLURM writes it: minutes, hours:minutes:seconds or days-hours:minutes:seconds.
    gpus : int
        GPUs of a job, one for each of its workers, which offer the resource "GPU"; 0 for none.
    directives : tuple of str
        More lines after #SBATCH.
    prologue : tuple of str
        Lines of shell before the workers start, such as `module load cuda`.
    """

    jobs: int
    workers: int
    memory: int
    queue: str | None = None
    account: str | None = None
    walltime: str = "1-00:00:00"
    gpus: int = 0
    directives: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.gpus not in (0, self.workers):
            raise InputError(f"a job has {self.workers} workers and {self.gpus} GPUs; each worker takes one GPU")

    @property
    def environment(self) -> tuple[str, ...]:
        """Lines that keep every worker to one thread and to its memory."""
        settings = {_variable(name): value for name, value in WORKER_SETTINGS.items()}
        exports = {**ONE_THREAD, **KEEP_MEMORY, "NUMBA_NUM_THREADS": "1", **settings}
        return tuple(f"export {name}={value}" for name, value in exports.items())

    @property
    def worker_options(self) -> tuple[str, ...]:
        """What `dask worker` is told beside its threads."""
        return ("--resources", "GPU=1") if self.gpus else ()


def _variable(setting: str) -> str:
    """The environment variable that dask reads a setting from."""
    return "DASK_" + setting.upper().replace(".", "__").replace("-", "_")


def memory_of(bytes_per_task: int, workers: int) -> int:
    """Bytes to ask for a job of so many workers."""
    return math.ceil(SPARE * workers * (PROCESS_BYTES + bytes_per_task))


@contextlib.contextmanager
def batch_client(batch: Batch) -> Iterator[distributed.Client]:
    """Client of a scheduler in this process, whose workers are batch jobs; they end with the context."""
    import distributed

    with dask.config.set({LINK: OWN_LINK}), _jobqueue(batch) as cluster:
        cluster.scale(jobs=batch.jobs)
        with distributed.Client(cluster, set_as_default=False) as client:
            yield client


def job_script(batch: Batch) -> str:
    """What dask-jobqueue hands to sbatch for each of the jobs."""
    with _jobqueue(batch) as cluster:
        return str(cluster.job_script())


def _jobqueue(batch: Batch) -> Any:
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise InputError(
            "scheduler slurm needs dask-jobqueue: pip install 'yass-dask[hpc]'; or use `yass slurm-script`"
        ) from error
    return SLURMCluster(
        queue=batch.queue,
        account=batch.account,
        cores=batch.workers,
        processes=batch.workers,
        memory=f"{batch.memory}B",
        walltime=batch.walltime,
        job_name="yass",
        python=shlex.quote(sys.executable),
        job_extra_directives=[*_gres(batch), *batch.directives],
        job_script_prologue=[*batch.environment, *batch.prologue],
        worker_extra_args=list(batch.worker_options),
        scheduler_options={"dashboard_address": DASHBOARD},
    )


def sort_script(batch: Batch, sort: Sequence[str]) -> str:
    """A script for sbatch that brings its own scheduler: for sites where none may run on the login node.

    Parameters
    ----------
    sort : arguments of `yass sort`, but for --scheduler
    """
    n_workers = batch.jobs * batch.workers
    head = [
        "--job-name=yass",
        f"--ntasks={n_workers}",
        "--cpus-per-task=1",
        f"--mem-per-cpu={math.ceil(batch.memory / batch.workers / 2**20)}M",
        f"--time={batch.walltime}",
        *([f"--partition={batch.queue}"] if batch.queue else []),
        *([f"--account={batch.account}"] if batch.account else []),
        *_gres(batch),
        *batch.directives,
    ]
    python = shlex.quote(sys.executable)
    options = " ".join(["--nthreads 1", "--no-dashboard", f"--death-timeout {GIVE_UP_S}", *batch.worker_options])
    lines = [
        "#!/usr/bin/env bash",
        *(f"#SBATCH {line}" for line in head),
        "set -euo pipefail",
        *batch.environment,
        f"export DASK_DISTRIBUTED__DASHBOARD__LINK={shlex.quote(OWN_LINK)}",
        *batch.prologue,
        'scheduler="$PWD/yass-scheduler-${SLURM_JOB_ID:-$$}.json"',
        "trap 'kill $(jobs -p) 2> /dev/null; rm -f \"$scheduler\"' EXIT",
        f'{python} -m dask scheduler --scheduler-file "$scheduler" --port 0 --dashboard-address {DASHBOARD} &',
        f'srun {python} -m dask worker --scheduler-file "$scheduler" {options} &',
        'while [ ! -s "$scheduler" ]; do sleep 1; done',
        f'{python} -m yass_dask sort {shlex.join(sort)} --scheduler "$scheduler"',
    ]
    return "\n".join(lines) + "\n"


def _gres(batch: Batch) -> list[str]:
    return [f"--gres=gpu:{batch.gpus}"] if batch.gpus else []


def is_scheduler_file(name: str) -> bool:
    """Whether the name of a scheduler is that of a file as `dask scheduler --scheduler-file` writes it."""
    return Path(name).suffix == ".json"
