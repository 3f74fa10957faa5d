"""SLURM, with sbatch, srun and scancel that run what they are given on this machine."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from yass_dask.errors import InputError
from yass_dask.runtime.batch import Batch, job_script, memory_of, sort_script
from yass_dask.runtime.plan import PROCESS_BYTES

BATCH = Batch(
    jobs=3, workers=2, memory=4 * 2**30, queue="short", account="lab", walltime="02:00:00",
    directives=("--constraint=avx512",), prologue=("module load tools",),
)  # fmt: skip

SBATCH = """#!/bin/bash
cp "$1" "$1.job"  # who submits it deletes it
setsid bash "$1.job" > "$1.log" 2>&1 &
echo $! >> {pids}
echo "Submitted batch job $!"
"""
SRUN = """#!/bin/bash
trap 'kill $(jobs -p) 2> /dev/null' TERM
"$@" &
"$@" &
wait
"""
SCANCEL = """#!/bin/bash
kill -- "-$1" 2> /dev/null
exit 0
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Programs of SLURM's names in PATH; what they leave is ended."""
    folder, pids = tmp_path / "bin", tmp_path / "pids"
    folder.mkdir()
    pids.touch()
    for name, text in {"sbatch": SBATCH.format(pids=pids), "srun": SRUN, "scancel": SCANCEL}.items():
        path = folder / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    yield pids
    for pid in pids.read_text().split():
        subprocess.run(["kill", "--", f"-{pid}"], capture_output=True, check=False)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batch") / "recording"
    yass(
        folder.parent,
        "simulate",
        str(folder),
        "--channels",
        "4",
        "--units",
        "2",
        "--seconds",
        "6",
        "--geometry",
        "tetrode",
    )
    return folder / "config.yaml"


def yass(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "yass_dask", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def spikes(config: Path, out: str) -> np.ndarray:
    return np.load(config.parent / out / "spike_train.npy")


def test_a_job_asks_for_what_was_said():
    script = job_script(BATCH)
    for line in ("-p short", "-A lab", "-t 02:00:00", "--cpus-per-task=2", "--mem=4G", "--constraint=avx512"):
        assert f"#SBATCH {line}" in script
    assert "--nthreads 1 " in script and "--nworkers 2" in script
    assert script.index("module load tools") < script.index("distributed.cli.dask_worker")
    assert "export OMP_NUM_THREADS=1" in script and "GPU" not in script


def test_each_worker_of_a_gpu_job_has_one():
    script = job_script(Batch(jobs=1, workers=2, memory=2**30, gpus=2))
    assert "#SBATCH --gres=gpu:2" in script and "--resources GPU=1" in script
    with pytest.raises(InputError, match="2 workers and 1 GPUs"):
        Batch(jobs=1, workers=2, memory=2**30, gpus=1)


def test_memory_is_for_all_workers_of_a_job():
    assert memory_of(2**20, 4) > 4 * (PROCESS_BYTES + 2**20)


def test_the_plain_script_asks_for_all_jobs_at_once():
    script = sort_script(BATCH, ["/data/my config.yaml", "--seed", "3"])
    assert "#SBATCH --ntasks=6" in script and "#SBATCH --mem-per-cpu=2048M" in script
    assert "sort '/data/my config.yaml' --seed 3 --scheduler \"$scheduler\"" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_a_dry_run_shows_the_script_and_sorts_nothing(recording: Path):
    out = yass(recording.parent, "sort", str(recording), "--scheduler", "slurm", "--jobs", "2", "--queue", "gpu",
               "--gpus-per-job", "1", "--dry-run")  # fmt: skip
    assert "2 jobs of this script" in out and "#SBATCH -p gpu" in out and "--resources GPU=1" in out
    assert not (recording.parent / "tmp").exists()


def test_sorts_by_batch_jobs_are_the_sort_here(recording: Path, slurm: Path, tmp_path: Path):
    yass(tmp_path, "sort", str(recording), "-o", "here", "--scheduler", "sync")
    yass(tmp_path, "sort", str(recording), "-o", "jobs", "--scheduler", "slurm", "--jobs", "2", "--workers", "1")
    assert len(slurm.read_text().split()) == 2
    assert np.array_equal(spikes(recording, "jobs"), spikes(recording, "here"))
    script = tmp_path / "sort.sh"
    script.write_text(yass(tmp_path, "slurm-script", str(recording), "--jobs", "2", "--workers", "1", "-o", "script"))
    done = subprocess.run(["bash", script], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(spikes(recording, "script"), spikes(recording, "here"))
    assert not list(tmp_path.glob("yass-scheduler-*"))
