"""Hosts of a cluster that is started by hand, as in a lab; shared by the tests of what happens on several of them.

Two network namespaces joined by a cable are two hosts with names, addresses and mounts of their own, and one file
system. Where the system does not permit them, and where nothing but processes matter, addresses of this machine do.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from labs import COMMAND, Ran

HERE_1, HERE_2 = "127.0.0.2", "127.0.0.3"
WEST, EAST = "10.213.7.1", "10.213.7.2"
OWN = ("--net", "--uts", "--mount")
PATIENCE_S = 60


@dataclass(frozen=True)
class Host:
    """Where processes can be started."""

    address: str
    enter: tuple[str, ...] = ()
    """What comes before a command that is to run there"""

    def start(self, *words: object, log: Path) -> subprocess.Popen[bytes]:
        """Start a command; what it says goes to `log`."""
        with open(log, "wb") as file:
            return subprocess.Popen([*self.enter, *map(str, words)], stdout=file, stderr=file)

    def run(self, *words: object) -> Ran:
        """Run a command to its end."""
        done = subprocess.run([*self.enter, *map(str, words)], capture_output=True, text=True, check=False)
        return Ran(done.returncode, done.stdout, done.stderr)

    def yass(self, *words: object) -> Ran:
        return self.run(*COMMAND, *words)

    def without(self, folder: Path) -> Host:
        """The same host, where commands see an empty folder in place of this one."""
        hide = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(folder))
        return Host(self.address, (*self.enter, *hide))


def two_addresses() -> tuple[Host, Host]:
    return Host(HERE_1), Host(HERE_2)


@contextlib.contextmanager
def two_namespaces() -> Iterator[tuple[Host, Host]]:
    """Hosts "west" and "east"; they are gone with the context.

    Raises
    ------
    PermissionError
        The system does not let this user make namespaces.
    """
    with contextlib.ExitStack() as stack:
        first = _namespace(stack, "west", ["unshare", "--user", "--map-root-user"])
        second = _namespace(stack, "east", [*_entered(first), "unshare"])
        west, east = Host(WEST, (*_entered(first), *OWN)), Host(EAST, (*_entered(second), *OWN))
        _must(west.run("ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", second))
        for host in (west, east):
            _must(host.run("ip", "address", "add", f"{host.address}/24", "dev", "cable"))
            _must(host.run("ip", "link", "set", "cable", "up"))
        yield west, east


def _entered(process: int) -> tuple[str, ...]:
    """What runs a command as the user that a namespace belongs to."""
    return ("nsenter", "--target", str(process), "--user", "--preserve-credentials")


def _namespace(stack: contextlib.ExitStack, name: str, unshare: Sequence[str]) -> int:
    """Process that keeps a new namespace as long as its input is open."""
    inside = f"hostname {name} && ip link set lo up && echo ready && exec cat"
    try:
        process = subprocess.Popen(
            [*unshare, *OWN, "sh", "-c", inside],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise PermissionError(str(error)) from error
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    stack.callback(process.wait)
    stack.callback(process.stdin.close)
    if process.stdout.readline() != "ready\n":
        raise PermissionError(process.stderr.read().strip())
    return process.pid


def _must(ran: Ran) -> None:
    if ran.code:
        raise PermissionError(ran.err.strip())


@dataclass(frozen=True)
class Cluster:
    """A scheduler and its workers, each a process."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: tuple[subprocess.Popen[bytes], ...]


@contextlib.contextmanager
def cluster(folder: Path, scheduler: Host, workers: Sequence[Host]) -> Iterator[Cluster]:
    """Start a scheduler on one host and a worker on each of others, every worker with a working folder of its own."""
    folder.mkdir(parents=True)
    told = folder / "scheduler.json"
    dask = (sys.executable, "-m", "dask")
    with contextlib.ExitStack() as stack:
        log, options = folder / "scheduler.log", ("--host", scheduler.address, "--port", 0, "--dashboard-address", ":0")
        process = scheduler.start(*dask, "scheduler", *options, "--scheduler-file", told, log=log)
        stack.callback(end, process)
        wait_for(lambda: told.exists() and told.read_text().endswith("}"), process)  # it is not written in one step
        address = json.loads(told.read_text())["address"]
        started = []
        for k, host in enumerate(workers):
            log, own = folder / f"worker{k}.log", folder / f"scratch{k}"
            options = ("--host", host.address, "--nthreads", 1, "--no-nanny", "--no-dashboard", "--name", k)
            started.append(host.start(*dask, "worker", address, *options, "--local-directory", own, log=log))
            stack.callback(end, started[-1])
        for k, worker in enumerate(started):
            wait_for(lambda k=k: "Registered to" in (folder / f"worker{k}.log").read_text(), worker)
        yield Cluster(address, process, tuple(started))


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until something is so, as long as a process lives."""
    began = time.monotonic()
    while not ready():
        assert process is None or process.poll() is None, f"{process} ended"
        assert time.monotonic() - began < PATIENCE_S
        time.sleep(0.0005)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process of ours, whatever it does."""
    process.kill()
    process.wait()
