"""The faults, each injected for real into sorts of a small recording."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import yaml

from benchmarks.trust.lab import POLL_S, Cluster, Ended, Lab, Running, wait_for
from benchmarks.trust.seen import Seen

Case = Callable[[Lab, random.Random, int], Iterator[Seen]]
"""Takes the lab, what draws moments, and how many of them."""
LATEST_S = 0.15
"""After a stage has begun, something happens within so many seconds."""


def at_moment(running: Running, lab: Lab, pick: random.Random) -> str:
    """Wait until a random moment of a sort: somewhere in a random stage; gives that."""
    stage = pick.choice(lab.stages)
    running.reaches(stage)
    time.sleep(pick.uniform(0, LATEST_S))
    return stage


def seen(fault: str, lab: Lab, ended: Ended, *again: object) -> Seen:
    """Run the same sort again, and tell."""
    next_one, lost = lab.again(ended.named, *again)
    same = next_one.code == 0 and lab.is_same(ended.named)
    told = "goes on, ends with the same bytes" if same else f"exit code {next_one.code}: {next_one.message}"
    return Seen(fault, ended.code, ended.message if ended.code > 0 else "", lost, told, same and is_readable(ended))


def refused(fault: str, ended: Ended, again: str) -> Seen:
    """A sort that was refused: there is nothing to go on with."""
    return Seen(fault, ended.code, ended.message, 0, again, ended.code in (1, 2) and is_readable(ended))


def is_readable(ended: Ended) -> bool:
    """No traceback was shown."""
    return "Traceback" not in ended.said


def fresh(lab: Lab, name: str) -> str:
    """A new folder's name."""
    taken = sum(path.name.startswith(name) for path in lab.folder.iterdir())
    return f"{name}-{taken}"


def client_killed(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    for _ in range(n):
        running = lab.start(fresh(lab, "client"))
        at_moment(running, lab, pick)
        running.kill()
        yield seen("SIGKILL of a sort in one process", lab, running.ends())


def client_of_cluster_killed(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    with Cluster(lab.folder / "cluster-client").running() as cluster:
        for _ in range(n):
            running = lab.start(fresh(lab, "remote"), "--scheduler", cluster.address)
            at_moment(running, lab, pick)
            running.kill()
            yield seen("SIGKILL of the client of a cluster", lab, running.ends(), "--scheduler", cluster.address)


def worker_killed(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    with Cluster(lab.folder / "cluster-worker").running() as cluster:
        for _ in range(n):
            running = lab.start(fresh(lab, "worker"), "--scheduler", cluster.address)
            at_moment(running, lab, pick)
            os.kill(pick.choice(cluster.workers()), signal.SIGKILL)
            yield _went_on("SIGKILL of a worker", lab, running.ends())
            wait_for(lambda: len(cluster.workers()) == len(cluster.nannies))


def _went_on(fault: str, lab: Lab, ended: Ended) -> Seen:
    same = ended.code == 0 and lab.is_same(ended.named)
    told = "not needed" if same else f"exit code {ended.code}"
    return Seen(
        fault, ended.code, "the sort goes on, ends with the same bytes" if same else ended.message, 0, told, same
    )


def scheduler_killed(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    for _ in range(n):
        cluster = Cluster(lab.folder / fresh(lab, "cluster-scheduler"))
        with cluster.running():
            env = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s"}  # so long it hopes that the scheduler is back
            running = lab.start(fresh(lab, "scheduler"), "--scheduler", cluster.address, env=env)
            at_moment(running, lab, pick)
            assert cluster.scheduler is not None
            cluster.scheduler.kill()
            ended = running.ends()
        yield seen("SIGKILL of the scheduler", lab, ended)


def everything_killed(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    for _ in range(n):
        cluster = Cluster(lab.folder / fresh(lab, "cluster-everything"))
        with cluster.running():
            running = lab.start(fresh(lab, "everything"), "--scheduler", cluster.address)
            at_moment(running, lab, pick)
            running.kill()
            cluster.kill()
        yield seen("SIGKILL of client, scheduler and workers at once", lab, running.ends())


def worker_stopped(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    with Cluster(lab.folder / "cluster-stopped").running() as cluster:
        for _ in range(max(1, n // 4)):
            running = lab.start(fresh(lab, "stopped"), "--scheduler", cluster.address)
            at_moment(running, lab, pick)
            worker = pick.choice(cluster.workers())
            os.kill(worker, signal.SIGSTOP)
            time.sleep(pick.uniform(1, 4))
            os.kill(worker, signal.SIGCONT)
            yield _went_on("SIGSTOP of a worker for seconds, then SIGCONT", lab, running.ends())


def two_at_once(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    out = fresh(lab, "two")
    first = lab.start(out)
    first.reaches(lab.stages[0])
    os.kill(first.process.pid, signal.SIGSTOP)  # or it might end before the second one is there
    second = lab.start(out, log=lab.folder / "second.said").ends()
    os.kill(first.process.pid, signal.SIGCONT)
    first.ends()
    again = "the first one ends with the same bytes" if lab.is_same(out) else "the first one came to harm"
    yield refused("two sorts into one folder", second, again)
    out = fresh(lab, "two")
    first = lab.start(out)
    first.reaches(lab.stages[len(lab.stages) // 2])
    first.kill()
    yield seen("two sorts into one folder, the first was killed", lab, first.ends())


def input_truncated(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    yield from _input_changed(lab, "the input is truncated", lambda path: os.truncate(path, path.stat().st_size // 2))


def input_replaced(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    def replace(path: Path) -> None:
        other = path.with_suffix(".new")
        other.write_bytes(bytes(path.stat().st_size))
        os.replace(other, path)

    yield from _input_changed(lab, "the input is replaced by a file of the same size", replace)


def _input_changed(lab: Lab, fault: str, change: Callable[[Path], None]) -> Iterator[Seen]:
    """While it is read; then it is brought back as it was."""
    copy = shutil.copytree(lab.config.parent, lab.folder / fresh(lab, "input"), copy_function=shutil.copy2)
    path = copy / "recording.bin"
    old = path.stat()
    running = lab.start(fresh(lab, "changed"), config=copy / "config.yaml")
    running.reaches("preprocess")
    change(path)
    ended = running.ends()
    shutil.copy2(lab.config.parent / "recording.bin", path)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    yield seen(f"{fault}, and brought back", lab.of(copy / "config.yaml"), ended)


def chunk_damaged(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    for how in ("flipped a bit in", "deleted"):
        for _ in range(max(1, n // 4)):
            out = lab.folder / fresh(lab, "damaged")
            shutil.copytree(lab.folder / "whole", out)
            files = sorted(path for path in (out / "yass.zarr").rglob("*") if path.name[0].isdigit() and path.is_file())
            path = pick.choice(files)
            if how == "deleted":
                path.unlink()
            else:
                data = bytearray(path.read_bytes())
                data[pick.randrange(len(data))] ^= 1 << pick.randrange(8)
                path.write_bytes(data)
            yield _verified(f"{how} a stored chunk; `yass verify`", lab, out)


def _verified(fault: str, lab: Lab, out: Path) -> Seen:
    done = subprocess.run([sys.executable, "-m", "yass_dask", "verify", str(out)], capture_output=True, text=True)
    (out / "yass.log").unlink()
    ended = lab.start(out.name).ends()
    computed = {stage for stage, (found, count) in ended.found.items() if found < count}
    same = ended.code == 0 and lab.is_same(out.name) and len(computed) == 1
    said = re.sub(r"^ *[a-z]\w*, (\w+), chunk \d+", "  STAGE, ARRAY, chunk N", done.stdout, flags=re.M).splitlines()
    told = "computes the damaged chunks again, ends with the same bytes" if same else f"computes {sorted(computed)}"
    return Seen(
        fault,
        done.returncode,
        said[1].strip() if len(said) > 1 else done.stderr,
        0,
        told,
        same and done.returncode == 1,
    )


def scheduler_not_there(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    env = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "2s"}
    ended = lab.start(fresh(lab, "nobody"), "--scheduler", "tcp://127.0.0.1:9", env=env).ends()
    yield seen("the scheduler's address is gone", lab, ended)


def other_version(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    """A worker with another yass_dask, and one whose numpy says that it is another."""
    import yass_dask

    copy = lab.folder / fresh(lab, "older")
    shutil.copytree(Path(yass_dask.__file__).parent, copy / "yass_dask", ignore=shutil.ignore_patterns("__pycache__"))
    with open(copy / "yass_dask" / "noise.py", "a", encoding="utf-8") as file:
        file.write("\n# another checkout\n")
    about = copy / "numpy-1.26.4.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.26.4\n")
    cluster = Cluster(
        copy / "cluster", env={"PYTHONPATH": os.pathsep.join([str(copy), os.environ.get("PYTHONPATH", "")])}
    )
    with cluster.running():
        ended = lab.start(fresh(lab, "version"), "--scheduler", cluster.address).ends()
    names_all = all(word in ended.said for word in ("yass_dask", "numpy 1.26.4 (here", "on host"))
    yield refused(
        "a worker of another version",
        ended,
        "after the same versions were installed: begins" if names_all else "names too little",
    )


def worker_out_of_memory(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    """Its limit lets it sort a few channels, and not many; then it gets more."""
    with Cluster(lab.folder / "cluster-measured").running() as cluster:
        lab.start(fresh(lab, "few"), "--scheduler", cluster.address).ends()
        enough = max(psutil.Process(pid).memory_info().rss for pid in cluster.workers())
    big, out = large(lab), fresh(lab, "memory")
    limit = str(int(1.15 * enough))
    with Cluster(lab.folder / "cluster-memory", options=("--memory-limit", limit)).running() as cluster:
        ended = big.start(out, "--scheduler", cluster.address).ends()
    with Cluster(lab.folder / "cluster-more").running() as cluster:
        again, _ = big.again(out, "--scheduler", cluster.address)
    yield refused(
        "a worker runs out of memory", ended, "with more memory: goes on" if again.code == 0 else again.message
    )


def process_out_of_memory(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    """The whole process may take a little more than for a few channels (`ulimit -v`); then it may again."""
    few, big, out = lab.start(fresh(lab, "few"), "--workers", 1), large(lab), fresh(lab, "limited")
    enough = 0
    while few.process.poll() is None:
        with contextlib.suppress(OSError, psutil.Error):
            enough = max(enough, psutil.Process(few.process.pid).memory_info().vms)
        time.sleep(POLL_S)
    limit = ("sh", "-c", f'ulimit -v {int(1.02 * enough / 1024)}; exec "$@"', "sh")
    ended = big.start(out, "--workers", 1, before=limit).ends()
    again, _ = big.again(out)
    yield refused(
        "a sort in one process runs out of memory",
        ended,
        "with more memory: goes on" if again.code == 0 else again.message,
    )


def large(lab: Lab) -> Lab:
    """A recording of noise with many channels, in long chunks."""
    folder = lab.folder / fresh(lab, "large")
    shutil.copytree(lab.config.parent, folder)
    n_channels = 256
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["resources"] |= {"max_memory": "2GB", "processes": 1}
    config["recordings"]["n_channels"] = n_channels
    noise = np.random.default_rng(0).normal(0, 60, (6 * 30_000, n_channels)).astype("<i2")
    noise.tofile(folder / "recording.bin")
    np.save(folder / "geometry.npy", np.stack([np.zeros(n_channels), 40.0 * np.arange(n_channels)], axis=1))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return lab.of(folder / "config.yaml")


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        client_killed, client_of_cluster_killed, worker_killed, scheduler_killed, everything_killed, worker_stopped,
        two_at_once, input_truncated, input_replaced, chunk_damaged, scheduler_not_there, other_version,
        worker_out_of_memory, process_out_of_memory,
    )
}  # fmt: skip
