"""Progress of a sort: bars on a terminal, a line per stage elsewhere, or nothing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    import rich.progress

    from yass_dask.sorting import Sorting


@dataclass(frozen=True)
class Part:
    """A part of a stage that was just done."""

    name: str
    read: Callable[[Sequence[str]], Mapping[str, Any]]
    """Gives fields of it."""


class Progress(Protocol):
    """What the store tells while it works. Stages come one after the other."""

    def stage(self, name: str, n_parts: int, n_found: int, recorded_s: float) -> None:
        """A stage begins: its parts, how many of them were found finished, the recording's seconds."""

    def advance(self, name: str, part: Part | None = None) -> None:
        """One more part of the stage is done."""

    def finish(self, name: str) -> None:
        """The stage is complete."""

    def found(self, **facts: Any) -> None:
        """What there is so far: units; page, where a browser can watch."""

    def sorted(self, sorting: Sorting) -> None:
        """The result."""

    def close(self) -> None:
        """Nothing more will come, perhaps because of an error: give the terminal back."""


def choose(*, silent: bool = False, stream: TextIO | None = None) -> Progress:
    """Bars where `stream` (default: standard error) is a terminal, else a line per stage."""
    out = sys.stderr if stream is None else stream
    if silent:
        return SilentProgress()
    return RichProgress(out) if out.isatty() else LineProgress(out)


def unless_given(progress: Progress | None) -> Progress:
    """The given one; without one, a notebook shows it in the cell, and anything else shows nothing."""
    if progress is not None:
        return progress
    ipython = sys.modules.get("IPython")  # a notebook has imported it
    if ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None:
        from yass_dask.monitor.cell import CellProgress

        return CellProgress()
    return SilentProgress()


class SilentProgress:
    """Shows nothing."""

    def stage(self, name: str, n_parts: int, n_found: int, recorded_s: float) -> None: ...

    def advance(self, name: str, part: Part | None = None) -> None: ...

    def finish(self, name: str) -> None: ...

    def found(self, **facts: Any) -> None: ...

    def sorted(self, sorting: Sorting) -> None: ...

    def close(self) -> None: ...


class FileProgress:
    """Keeps a JSON file true that tells the stage, its chunks and the pace: for those who look from elsewhere."""

    EVERY_S = 0.5

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pace = Pace(0, 0, 0.0)
        self._written = 0.0
        self._found: dict[str, Any] = {}

    def stage(self, name: str, n_parts: int, n_found: int, recorded_s: float) -> None:
        self._pace = Pace(n_parts, n_found, recorded_s)
        self._write(name)

    def advance(self, name: str, part: Part | None = None) -> None:
        self._pace.n_done += 1
        if time.monotonic() - self._written > self.EVERY_S:
            self._write(name)

    def finish(self, name: str) -> None:
        self._write(name)

    def found(self, **facts: Any) -> None:
        self._found |= facts

    def sorted(self, sorting: Sorting) -> None:
        self._found |= {"units": sorting.n_units, "spikes": sorting.n_spikes}

    def close(self) -> None: ...

    def _write(self, name: str) -> None:
        from yass_dask.store.disk import write_json

        pace = self._pace
        done = pace.n_found + pace.n_done
        facts = {"stage": name, "done": done, "parts": pace.n_parts, "pace": pace.describe_pace(), **self._found}
        with contextlib.suppress(OSError):  # a sort does not end because nobody can watch it
            write_json(self._path, facts)
        self._written = time.monotonic()


@dataclass
class Pace:
    """Counts the parts of one stage."""

    n_parts: int
    n_found: int
    recorded_s: float
    n_done: int = 0
    began: float = field(default_factory=lambda: time.monotonic())

    def elapsed_s(self) -> float:
        return time.monotonic() - self.began

    def times_real_time(self) -> float | None:
        """Recorded seconds computed per second, found parts not counted; None before the first part."""
        elapsed = self.elapsed_s()
        if not self.n_done or elapsed <= 0:
            return None
        return self.recorded_s * self.n_done / self.n_parts / elapsed

    def describe_pace(self) -> str:
        speed = self.times_real_time()
        return "" if speed is None else f"{speed:.3g} x real time"


class LineProgress:
    """Writes one line per stage when it is complete; for log files and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._paces: dict[str, Pace] = {}

    def stage(self, name: str, n_parts: int, n_found: int, recorded_s: float) -> None:
        self._paces[name] = Pace(n_parts, n_found, recorded_s)

    def advance(self, name: str, part: Part | None = None) -> None:
        self._paces[name].n_done += 1

    def finish(self, name: str) -> None:
        pace = self._paces.pop(name)
        if pace.n_found == pace.n_parts:
            how = "found complete"
        else:
            found = f"{pace.n_found} found" if pace.n_found else ""
            how = ", ".join(filter(None, [found, f"{pace.elapsed_s():.1f} s", pace.describe_pace()]))
        self._stream.write(f"{name}: {pace.n_found + pace.n_done} of {pace.n_parts} chunks, {how}\n")
        self._stream.flush()

    def found(self, **facts: Any) -> None: ...

    def sorted(self, sorting: Sorting) -> None: ...

    def close(self) -> None: ...


class RichProgress:
    """Bars on a terminal: stage, chunks done, times real time, time left."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bars: rich.progress.Progress | None = None
        self._rows: dict[str, tuple[Any, Pace]] = {}

    def stage(self, name: str, n_parts: int, n_found: int, recorded_s: float) -> None:
        bars = self._live()
        # A stage without parts is shown as one done.
        row = bars.add_task(name, total=max(n_parts, 1), completed=n_found, pace="", chunks=f"{n_found}/{n_parts}")
        self._rows[name] = (row, Pace(n_parts, n_found, recorded_s))

    def advance(self, name: str, part: Part | None = None) -> None:
        row, pace = self._rows[name]
        pace.n_done += 1
        done = pace.n_found + pace.n_done
        self._live().update(row, completed=done, pace=pace.describe_pace(), chunks=f"{done}/{pace.n_parts}")

    def finish(self, name: str) -> None:
        row, pace = self._rows.pop(name)
        self._live().update(row, completed=max(pace.n_parts, 1))

    def found(self, **facts: Any) -> None: ...

    def sorted(self, sorting: Sorting) -> None: ...

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _live(self) -> rich.progress.Progress:
        """The running display, made when it is first needed."""
        if self._bars is None:
            self._bars = _bars(self._stream)
            self._bars.start()
        return self._bars


def _bars(stream: TextIO) -> rich.progress.Progress:
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description:<12}"),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[chunks]} chunks"),
        progress.TextColumn("{task.fields[pace]}"),
        progress.TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(file=stream),
    )
