"""A small recording, sorts of it in processes of their own, and a cluster started by hand."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from yass_dask.simulate import plan, write

COMMAND = (sys.executable, "-m", "yass_dask")
OPTIONS = ("--set", "n_refinements=1", "--backend", "numba", "--no-progress")
RESULTS = ("spike_train.npy", "templates.npy", "units.csv")
PATIENCE_S = 600.0
POLL_S = 0.002


@dataclass(frozen=True)
class Ended:
    """A sort that is over."""

    code: int
    out: Path
    said: str
    """On the console"""
    named: Path
    """The folder as it was given"""

    @property
    def message(self) -> str:
        """What a person reads at the end, in one line."""
        head, _, message = self.said.rpartition("yass: ")
        lines = [line.strip() for line in message.splitlines() if not line.startswith("the log is")]
        return " ".join(lines if head or self.code else lines[-1:])

    @property
    def found(self) -> dict[str, tuple[int, int]]:
        """Stage -> (chunks that it found finished, chunks in all), as its log tells of the last run."""
        lines = re.findall(r"(\w+): (\d+) of (\d+) chunks found", (self.out / "yass.log").read_text())
        return {stage: (int(found), int(count)) for stage, found, count in lines}


@dataclass
class Running:
    """A sort that runs."""

    process: subprocess.Popen[bytes]
    out: Path
    """As this process sees it"""
    log: Path
    named: Path
    """As the sort sees it"""

    def reaches(self, stage: str) -> bool:
        """Wait until it has begun a stage; False if it ended before."""
        return wait_for(lambda: (self.out / "yass.zarr" / stage).is_dir(), self.process)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def ends(self, within_s: float = PATIENCE_S) -> Ended:
        """Wait for its end."""
        try:
            code = self.process.wait(within_s)
        finally:
            self.kill()
        return Ended(code, self.out, self.log.read_text(errors="replace"), self.named)


@dataclass(frozen=True)
class Lab:
    """A recording and its undisturbed sort.

    Attributes
    ----------
    config : Path
    folder : Path
        Where sorts go.
    """

    config: Path
    folder: Path
    whole: dict[str, bytes] = field(default_factory=dict)
    """Results of the undisturbed sort"""
    stages: list[str] = field(default_factory=list)
    enter: tuple[str, ...] = ()
    """What comes before every command"""
    root: Path = Path("/")
    """Where this process sees the files of such commands"""

    @classmethod
    def make(cls, folder: Path) -> Lab:
        """Simulate the recording, cut in chunks of one block, and sort it."""
        return cls.sorted(cls.write(folder / "recording", n_channels=4, seconds=8.0, max_memory="4MB"), folder, "whole")

    @classmethod
    def sorted(cls, config: Path, folder: Path, out: str) -> Lab:
        """Sort a recording undisturbed."""
        lab = cls(config, folder)
        ended = lab.start(out).ends()
        assert ended.code == 0, ended.said
        lab.whole.update(results(ended.out))
        lab.stages.extend(ended.found)
        return lab

    @staticmethod
    def write(folder: Path, *, n_channels: int, seconds: float, max_memory: str) -> Path:
        """Simulate a recording; gives its configuration."""
        scene = plan(n_channels=n_channels, seconds=seconds, n_units=3, seed=2, snr=(8, 20), geometry="linear")
        config = write(folder, scene)
        content = yaml.safe_load(config.read_text())
        content["resources"] |= {"max_memory": max_memory, "processes": 2}
        config.write_text(yaml.safe_dump(content))
        return config

    def of(self, config: Path) -> Lab:
        """The same lab with the recording elsewhere."""
        return replace(self, config=config)

    def entered(self, enter: tuple[str, ...], root: Path) -> Lab:
        """The same lab, whose sorts run elsewhere."""
        return replace(self, enter=enter, root=root)

    def seen(self, out: str | Path) -> Path:
        """An output folder as this process sees it."""
        return self.root / (self.folder / out).relative_to("/")

    def start(
        self, out: str | Path, *words: object, config: Path | None = None, env: Mapping[str, str] | None = None,
        before: tuple[str, ...] = (), log: Path | None = None, command: Sequence[object] | None = None,
    ) -> Running:  # fmt: skip
        """Start a sort into a folder of the lab, by `yass sort` or another command; `before` comes before it."""
        folder = self.folder / out
        said = log or self.folder / f"{str(out).replace('/', '-')}.said"
        sort = command or (*COMMAND, "sort", config or self.config, *OPTIONS, "--output-dir", folder, *words)
        with open(said, "wb") as file:
            process = subprocess.Popen(
                [str(word) for word in (*self.enter, *before, *sort)],
                stdout=file,
                stderr=file,
                env={**os.environ, **(env or {})},
            )
        return Running(process, self.seen(out), said, folder)

    def again(self, out: str | Path, *words: object) -> tuple[Ended, int]:
        """Run the same sort to its end; gives it, and how many finished chunks it computed again."""
        folder = self.seen(out)
        finished = finished_chunks(folder)
        (folder / "yass.log").unlink(missing_ok=True)
        ended = self.start(out, *words).ends()
        found = {stage: n for stage, (n, _) in ended.found.items()} if ended.code == 0 else {}
        return ended, sum(max(0, n - found.get(stage, 0)) for stage, n in finished.items())

    def is_same(self, out: str | Path) -> bool:
        """Whether a sort gave the bytes of the undisturbed one."""
        return results(self.seen(out)) == self.whole


def results(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in RESULTS if (out / name).exists()}


def finished_chunks(out: Path) -> dict[str, int]:
    """Stage -> parts, or marks of chunks of traces, that lie on the disk; all of them where it is complete."""
    timings = json.loads((out / "yass.json").read_text()).get("stages", {}) if (out / "yass.json").exists() else {}
    finished = {}
    for group in (out / "yass.zarr").glob("[!.]*"):
        try:
            complete = "complete" in json.loads((group / ".zattrs").read_text())
        except (OSError, ValueError):
            continue
        scratch = group / ".unfinished"
        begun = [*scratch.glob("[!.]*.npz"), *scratch.glob("[0-9]*.json")]
        finished[group.name] = timings.get(group.name, {}).get("parts", 0) if complete else len(begun)
    return finished


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> bool:
    """Wait until something is so; False if a process ended before."""
    began = time.monotonic()
    while not ready():
        if process is not None and process.poll() is not None:
            return ready()
        if time.monotonic() - began > PATIENCE_S:
            raise TimeoutError
        time.sleep(POLL_S)
    return True


@dataclass
class Cluster:
    """A scheduler and two workers, each with a nanny that starts it again."""

    folder: Path
    options: tuple[str, ...] = ("--memory-limit", "0")
    env: Mapping[str, str] = field(default_factory=dict)
    scheduler: subprocess.Popen[bytes] | None = None
    nannies: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return str(json.loads((self.folder / "scheduler.json").read_text())["address"])

    def start(self, n_workers: int = 2) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        told = self.folder / "scheduler.json"
        told.unlink(missing_ok=True)
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0",
                                     "--scheduler-file", str(told))  # fmt: skip
        wait_for(lambda: told.exists() and told.read_text().rstrip().endswith("}"), self.scheduler)
        for number in range(n_workers):
            self.nannies.append(
                self._start("worker", self.address, "--nthreads", "1", "--no-dashboard", "--name", str(number),
                            "--local-directory", str(self.folder / f"scratch{number}"), *self.options)
            )  # fmt: skip
        wait_for(lambda: len(self.workers()) == n_workers)

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        log = open(self.folder / f"{words[0]}.log", "ab")  # noqa: SIM115
        env = {**os.environ, "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False", **self.env}
        with log:
            # In its own folder: `python -m` finds first what lies in the current one.
            command = [sys.executable, "-m", "dask", *words]
            return subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=self.folder)

    def workers(self) -> list[int]:
        """Process ids of the workers that run now."""
        import psutil

        found = []
        for nanny in self.nannies:
            with contextlib.suppress(psutil.Error):
                found += [p.pid for p in psutil.Process(nanny.pid).children() if "spawn_main" in " ".join(p.cmdline())]
        return found

    def kill(self) -> None:
        """Kill all of it at once."""
        for pid in [*self.workers(), *(process.pid for process in [*self.nannies, self.scheduler] if process)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in [*self.nannies, self.scheduler]:
            if process:
                process.wait()
        self.scheduler, self.nannies = None, []

    @contextlib.contextmanager
    def running(self) -> Iterator[Cluster]:
        self.start()
        try:
            yield self
        finally:
            self.kill()
