"""Run one command as a process tree: wall time, CPU time, peak memory, and a limit on the time."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_S = 0.25
TAIL_CHARS = 400
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Measured:
    """How a command ran."""

    status: str
    """"ok", "crashed" or "timed out"."""
    wall_s: float
    cpu_s: float
    """User and system time of the whole tree."""
    peak_mb: float
    """Largest sum over the tree of proportional set sizes: shared pages count once."""
    error: str
    """What the log of a crash says last, else empty."""


def measure(
    command: Sequence[str], log: Path, timeout_s: float, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Measured:
    """Run a command to its end or to the time limit; its output goes to the file `log`."""
    before, start, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), 0.0
    late = False
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env, cwd=cwd)
        tree = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, tree_pss(tree))
            if time.monotonic() - start > timeout_s:
                late = True
                end_tree(tree)
                process.wait()
            time.sleep(SAMPLE_S)
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    status = "timed out" if late else "crashed" if process.returncode else "ok"
    return Measured(status, wall, cpu, peak / 1e6, last_error(log) if status == "crashed" else "")


def tree_pss(root: psutil.Process) -> float:
    """Bytes of a process and all its descendants; those that end meanwhile count 0."""
    total = 0.0
    try:
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return total
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied, ProcessLookupError):
            continue
    return total


def end_tree(root: psutil.Process) -> None:
    """Kill a process and all its descendants."""
    for process in [*root.children(recursive=True), root]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def last_error(log: Path) -> str:
    """The last exception that a log tells of, else its last line; folders of this machine are left out."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    # Exceptions stand at the start of a line; some programs end a failure with a hint instead.
    exceptions = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    text = (exceptions or lines or [""])[-1]
    return re.sub(r"/[\w.+-]+(/[\w.+-]+)+", lambda path: path[0].rpartition("/")[2], text)[-TAIL_CHARS:]


def limited(jobs: int) -> dict[str, str]:
    """The environment with as many threads as jobs."""
    return {**os.environ, **dict.fromkeys(THREADS, str(jobs))}
