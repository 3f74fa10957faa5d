"""The same answer: sorts with random chunks, workers, schedulers, orders of tasks and kills, compared byte by byte."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.trust.faults import at_moment, fresh
from benchmarks.trust.lab import RESULTS, Cluster, Lab

KINDS = ("threads", "threads, killed", "local", "local, killed", "tcp", "tcp, a worker killed")
LONGEST_CHUNK = 8
MOST_WORKERS = 4


@dataclass(frozen=True)
class Run:
    """One sort of the matrix, and whether its bytes are those of the undisturbed one."""

    kind: str
    chunk_blocks: int
    workers: int
    order: int
    stage: str
    """In which something was killed; empty where nothing was"""
    differing: tuple[str, ...]
    """Files that differ"""


def bytes_of(out: Path) -> dict[str, str]:
    """Hash of every chunk of every stage, and of the result; not of the marks, which tell how chunks were cut."""
    chunks = [path for path in (out / "yass.zarr").rglob("[0-9]*") if path.is_file()]
    files = [*chunks, *(out / name for name in RESULTS)]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def matrix(lab: Lab, runs: int, seed: int) -> Iterator[Run]:
    """Random sorts, every kind as often as the others."""
    pick, expected = random.Random(seed), bytes_of(lab.folder / "whole")
    cluster = Cluster(lab.folder / "cluster-same")
    with cluster.running():
        for k in range(runs):
            yield one(lab, cluster, KINDS[k % len(KINDS)], pick, expected)


def one(lab: Lab, cluster: Cluster, kind: str, pick: random.Random, expected: dict[str, str]) -> Run:
    """One sort of a kind."""
    chunk, workers, order = pick.randint(1, LONGEST_CHUNK), pick.randint(1, MOST_WORKERS), pick.randrange(10**6)
    scheduler, _, killed = kind.partition(", ")
    out = lab.folder / fresh(lab, "same")
    command = [
        sys.executable, "-m", "benchmarks.trust.shuffled", lab.config, out, "--chunk", chunk, "--workers", workers,
        "--order", order, "--scheduler", cluster.address if scheduler == "tcp" else scheduler,
    ]  # fmt: skip
    running, stage = lab.start(out, command=command), ""
    if killed:
        stage = at_moment(running, lab, pick)
        if "worker" in killed:
            os.kill(pick.choice(cluster.workers()), signal.SIGKILL)
        else:
            running.kill()
            running.ends()
            running = lab.start(out, command=command)
    ended = running.ends()
    assert ended.code == 0, ended.said
    there = bytes_of(out)
    differing = sorted(name for name in expected.keys() | there.keys() if expected.get(name) != there.get(name))
    return Run(kind, chunk, workers, order, stage, tuple(differing))
