"""Peak memory of a process and its children, sampled by a thread."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

INTERVAL_S = 0.2
MOST_OF_THE_TIME = 0.01
"""Looks at the tree take no larger share of the time: asking for shared pages is slow, and stops who allocates."""


def tree_bytes() -> int:
    """Memory of this process and all its descendants, in bytes.

    Pages shared between processes count once where the system tells them apart (proportional set size), else
    once per process.
    """
    me = psutil.Process()
    try:
        processes = [me, *me.children(recursive=True)]
    except psutil.Error:
        processes = [me]
    return sum(_proportional(process) for process in processes)


def _proportional(process: psutil.Process) -> int:
    try:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _resident(process)


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it ended meanwhile
        return 0


@dataclass
class _Tree:
    """The last look at the process tree: looking takes time, and comes not before it is worth it again."""

    when: float = -math.inf
    cost_s: float = 0.0
    bytes: int = 0
    """0 where there is but one process"""

    def sample(self) -> int:
        """Bytes of the tree, as they are or were a moment ago; of a single process, as they are."""
        now = time.perf_counter()
        if now - self.when >= self.cost_s / MOST_OF_THE_TIME:
            self.bytes = 0 if _is_alone() else tree_bytes()
            self.when, self.cost_s = now, time.perf_counter() - now
        return self.bytes or _resident(psutil.Process())


_tree = _Tree()


def _is_alone() -> bool:
    """One process needs no telling apart, and what is resident is quickly said."""
    try:
        return not psutil.Process().children()
    except psutil.Error:
        return True


class PeakMemory:
    """Context that measures how long its body took and how much memory the process tree held at most.

    Attributes
    ----------
    bytes : int
        Largest sample so far.
    seconds : float
        Wall time, final when the context has ended.
    cpu_seconds : float
        Processor time of this process and its threads, likewise.
    """

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self.bytes = 0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self._began, self._cpu_began = time.perf_counter(), time.process_time()
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()
        self.seconds = time.perf_counter() - self._began
        self.cpu_seconds = time.process_time() - self._cpu_began

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._sample()

    def _sample(self) -> None:
        self.bytes = max(self.bytes, _tree.sample())
