"""Faults of what surrounds a sort: disks that fill, go read-only or away, clocks that jump, locks that are none."""

from __future__ import annotations

import contextlib
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.trust.faults import Case, at_moment, fresh, refused, seen
from benchmarks.trust.lab import Ended, Lab
from benchmarks.trust.seen import Seen

DAY_S = 86_400
CLOCK_SOURCE = Path(__file__).with_name("clock.c")
DISK = "8m"
"""Of the small disk: what a sort asks for, and some"""


class CannotError(RuntimeError):
    """This machine does not let us."""


@contextlib.contextmanager
def own_mounts(first: str) -> Iterator[tuple[str, ...]]:
    """Mounts of its own, where `first` was run; gives what comes before a command that is to run there."""
    enter = ("unshare", "--user", "--map-root-user", "--mount")
    process = subprocess.Popen(
        [*enter, "sh", "-c", f"{first} && echo ready && exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        if process.stdout.readline() != "ready\n":
            raise CannotError(f"mounts ({process.stderr.read().strip() or 'unshare failed'})")
        yield ("nsenter", "--target", str(process.pid), "--user", "--preserve-credentials", "--mount")
    finally:
        process.stdin.close()
        process.wait()


def within(lab: Lab, enter: tuple[str, ...]) -> Lab:
    """The lab whose sorts run in a namespace; this process looks at their folders through /proc."""
    return lab.entered(enter, Path(f"/proc/{enter[2]}/root"))


def do(enter: tuple[str, ...], command: str) -> None:
    subprocess.run([*enter, "sh", "-c", command], check=True, capture_output=True)


def disk_full(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    """Something else fills the disk while the sort runs, and is deleted afterwards."""
    for _ in range(max(1, n // 4)):
        disk = lab.folder / fresh(lab, "small")
        disk.mkdir()
        with own_mounts(f"mount -t tmpfs -o size={DISK} none {disk}") as enter:
            there = within(lab, enter)
            running = there.start(f"{disk.name}/out")
            at_moment(running, lab, pick)
            do(enter, f"cat /dev/zero > {disk}/ballast 2> /dev/null; true")
            ended = running.ends()
            do(enter, f"rm {disk}/ballast")
            if ended.code:  # else it was as good as over
                yield seen("the disk is full, then has room again", there, ended)


def store_read_only(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    """Before the sort begins, and while it runs."""
    for when in ("from the start", "during the sort"):
        disk = lab.folder / fresh(lab, "readonly")
        disk.mkdir()
        with own_mounts(f"mount -t tmpfs none {disk}") as enter:
            there = within(lab, enter)
            # Over the folder as it is: one that is being written to cannot be made read-only.
            read_only = f"mount --bind {disk} {disk} && mount -o remount,bind,ro {disk}"
            if when == "from the start":
                do(enter, read_only)
            running = there.start(f"{disk.name}/out")
            if when == "during the sort":
                running.reaches("preprocess")
                do(enter, read_only)
            ended = running.ends()
            do(enter, f"umount {disk}")
            yield seen(f"the output folder is read-only {when}, then is not", there, ended)


def input_unmounted(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    """The disk with the recording goes away while it is read, and comes back."""
    disk = lab.folder / fresh(lab, "mounted")
    disk.mkdir()
    mount = f"mount --bind {lab.config.parent} {disk}"
    with own_mounts(mount) as enter:
        there = within(lab, enter).of(disk / "config.yaml")
        running = there.start(fresh(lab, "unmounted"))
        running.reaches("preprocess")
        do(enter, f"umount -l {disk}")
        ended = running.ends()
        do(enter, mount)
        yield seen("the disk with the input is unmounted, then mounted again", there, ended)


def library(lab: Lab) -> Path:
    """Compile clock.c."""
    path = lab.folder / "clock.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CannotError("a C compiler")
    if not path.exists():
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", path, CLOCK_SOURCE, "-ldl"], check=True)
    return path


def clock_jumps(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    """A day ahead, then two days back: of a sort in one process, and of some with workers."""
    for scheduler in ("threads", *["local"] * max(1, n // 4)):
        clock = lab.folder / fresh(lab, "clock")
        clock.write_bytes(struct.pack("<q", 0))
        env = {"LD_PRELOAD": str(library(lab)), "CLOCK_FILE": str(clock)}
        running = lab.start(fresh(lab, "jumps"), "--scheduler", scheduler, env=env)
        for stage, offset in ((lab.stages[4], DAY_S), (lab.stages[-6], -2 * DAY_S)):
            running.reaches(stage)
            with open(clock, "r+b") as file:
                file.write(struct.pack("<q", offset))
        ended = running.ends()
        fault = f"the clock jumps a day ahead, then two back ({scheduler})"
        if ended.code:  # dask's messages lay between the jump back and its end
            yield seen(fault, lab, ended)
        else:
            same = lab.is_same(ended.named)
            told = "the sort goes on, ends with the same bytes" if same else "ends with other bytes"
            yield Seen(fault, 0, told, 0, "not needed" if same else "", same)


def no_locks(lab: Lab, pick: random.Random, n: int) -> Iterator[Seen]:
    """Two hosts, and a file system that has no locks: the second sort begins when the first one is dead."""
    env = {"LD_PRELOAD": str(library(lab)), "NO_LOCKS": "1"}
    config = Lab.write(lab.folder / fresh(lab, "long"), n_channels=32, seconds=60, max_memory="50MB")
    lab = Lab.sorted(config, lab.folder, fresh(lab, "undisturbed"))  # it must live until the second one has looked
    out = fresh(lab, "hosts")
    first = lab.start(out, env=env, before=_host("west"))
    first.reaches("scale")
    second: Ended = lab.start(out, env=env, before=_host("east"), log=lab.folder / "east.said").ends()
    lived = first.process.poll() is None
    first.kill()
    first.ends()
    yield refused(
        "two hosts sort into one folder without locks", second, "the first one goes on" if lived else "no test"
    )
    ended, lost = lab.again(out)
    same = ended.code == 0 and lab.is_same(out)
    told = "waits half a minute for a sign of life, goes on, ends with the same bytes" if same else ended.message
    waited = "waiting 30 s for a sign of life" in ended.said
    yield Seen("... and the first one is killed", -9, "", lost, told, same and waited and lived)


def _host(name: str) -> tuple[str, ...]:
    """What runs a command on a host of that name."""
    enter = ("unshare", "--user", "--map-root-user", "--uts")
    if subprocess.run([*enter, "hostname", name], capture_output=True).returncode:
        raise CannotError("host names of its own (unshare --uts)")
    return (*enter, "sh", "-c", f'hostname {name} && exec "$@"', "sh")


CASES: dict[str, Case] = {
    case.__name__: case for case in (disk_full, store_read_only, input_unmounted, clock_jumps, no_locks)
}


def described(error: CannotError) -> str:
    """What is missing on this machine, in words."""
    return f"this machine does not let us have {error}"
