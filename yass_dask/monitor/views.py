"""What is known of a sort and of its stages, and how it is told; see `pages`."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

MOST_CELLS = 240
"""A longer chunk map is drawn in so many cells, each in the state of its worst chunk."""
MOST_LINES, MOST_ERRORS = 40, 20
STATES = {"processing": "handed", "memory": "done", "erred": "failed"}
"""What a chunk's state is called; all other ones are waiting, or over after they were done. A chunk that was handed to
a worker runs as soon as the worker comes to it."""
WORST = ("done", "found", "waiting", "running", "redone", "failed")
NO_CHUNKS: Collection[str] = frozenset()


@dataclass
class StageView:
    """A stage as far as it is known."""

    name: str
    n_parts: int
    n_found: int
    began: float
    chunks: dict[str, str] = field(default_factory=dict)
    redone: set[str] = field(default_factory=set)
    kept: dict[str, Any] | None = None
    """What is told of a stage that is over: a scheduler lives longer than its sorts, and keeps no chunk of theirs"""

    def end(self, recorded_s: float, now: float, complete: bool) -> None:
        """The stage is over; complete where its sort has all of it.

        Then a chunk counts as done whose worker died after the sort had taken its result: dask had it computed anew.
        """
        if self.kept is None:
            if complete:
                self.chunks = dict.fromkeys(self.chunks, "done")
            self.kept = self.facts(recorded_s, now) | {"left_s": None, "complete": complete}
            self.chunks = {}

    def change(self, chunk: str, finish: str) -> None:
        """A chunk's task goes over into another state of dask's."""
        before, now = self.chunks.get(chunk), STATES.get(finish)
        if now is not None:
            self.chunks[chunk] = now
        elif before == "handed":  # to a worker that died, whether it had come to it or not
            self.chunks[chunk] = "waiting"
            self.redone.add(chunk)
        elif before is None:
            self.chunks[chunk] = "waiting"

    def facts(self, recorded_s: float, now: float, at_work: Collection[str] = NO_CHUNKS) -> dict[str, Any]:
        """As JSON; `at_work` are the chunks that workers have come to."""
        if self.kept is not None:
            return self.kept
        counts = Counter(self.chunks.values())
        seconds, done = now - self.began, self.n_found + counts["done"]
        pace = recorded_s * counts["done"] / max(self.n_parts, 1) / seconds if counts["done"] and seconds > 0 else None
        left = seconds * (self.n_parts - done) / counts["done"] if pace else None
        return {
            "stage": self.name, "parts": self.n_parts, "found": self.n_found, "done": done,
            "running": len(at_work), "failed": counts["failed"], "redone": len(self.redone),
            "seconds": round(seconds, 1), "x_real_time": pace and round(pace, 2),
            "left_s": None if left is None else round(left, 1), "complete": False, "map": self.cells(at_work),
        }  # fmt: skip

    def cells(self, at_work: Collection[str] = NO_CHUNKS) -> list[tuple[str, int]]:
        """Runs of (state, number of cells) in the order of the chunks; those found finished come first."""
        seen = [self._shown(chunk, chunk in at_work) for chunk in sorted(self.chunks)]
        states = ["found"] * self.n_found + seen + ["waiting"] * (self.n_parts - self.n_found - len(seen))
        step = -(-len(states) // MOST_CELLS) or 1
        cells = [max(states[i : i + step], key=WORST.index) for i in range(0, len(states), step)]
        return [(state, len(list(run))) for state, run in groupby(cells)]

    def _shown(self, chunk: str, at_work: bool) -> str:
        state = self.chunks[chunk]
        if state != "handed":
            return state
        return ("redone" if chunk in self.redone else "running") if at_work else "waiting"


@dataclass
class Curve:
    """Spikes over the recording's time, as far as a stage found them."""

    stage: str
    bin_s: float
    spikes: list[int]
    seconds: list[float]
    """Of each bin, those that were looked at"""

    def add(self, first: int, spikes: list[int], seconds: list[float]) -> None:
        for i, (n, s) in enumerate(zip(spikes, seconds, strict=True), first):
            self.spikes[i] += n
            self.seconds[i] += s

    def facts(self) -> dict[str, Any]:
        """As JSON; the rate is None where nothing was looked at yet."""
        pairs = zip(self.spikes, self.seconds, strict=True)
        rates = [round(n / s, 1) if s > 0 else None for n, s in pairs]
        return {"stage": self.stage, "bin_s": self.bin_s, "spikes": sum(self.spikes), "spikes_per_s": rates}


@dataclass
class JobView:
    """A sort as far as it is known."""

    id: str
    out: str
    recorded_s: float
    n_channels: int
    began: float
    client: str = ""
    ended: float | None = None
    state: str = "queued"
    """queued, running, done, failed, cancelled or killed"""
    message: str = ""
    found: dict[str, Any] = field(default_factory=dict)
    """What the sort told of its results so far"""
    announcing_s: float = 0.0
    """CPU time that telling took the client"""
    peaks: dict[str, array[int]] = field(default_factory=dict)
    """Columns of the drift raster, in hundredths"""
    units: list[dict[str, float]] = field(default_factory=list)
    channels: list[list[float]] = field(default_factory=list)
    """Places on the probe, um"""
    motion: dict[str, Any] = field(default_factory=dict)
    """How the tissue moved: `summaries.motion_shown`"""
    curves: list[Curve] = field(default_factory=list)
    """The last one, and the one before it while that fills"""
    versions: dict[str, int] = field(default_factory=lambda: {"peaks": 0, "units": 0, "channels": 0, "motion": 0})
    """Grow with the things that are told only when asked for"""
    stages: list[StageView] = field(default_factory=list)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_LINES))
    errors: deque[dict[str, str]] = field(default_factory=lambda: deque(maxlen=MOST_ERRORS))

    def now(self, now: float) -> float:
        """The time, or when it ended."""
        return now if self.ended is None else self.ended

    def begin_work(self) -> None:
        """One of its chunks was begun, or found finished: it waits no longer."""
        if self.state == "queued":
            self.state, self.message = "running", ""

    def end(self, state: str, message: str, now: float) -> None:
        """It is over; its last stage is, too, and not complete unless that was told before."""
        self.state, self.message, self.ended = state, message, now
        if self.stages:
            self.stages[-1].end(self.recorded_s, now, complete=False)

    def line(self, now: float) -> dict[str, Any]:
        """In short, as JSON."""
        stage = self.stages[-1].facts(self.recorded_s, self.now(now)) if self.stages else {}
        return {
            "id": self.id, "out": self.out, "state": self.state, "message": self.message,
            "recorded_s": self.recorded_s, "n_channels": self.n_channels, "began": round(self.began, 3),
            "seconds": round(self.now(now) - self.began, 1), **self.found,
            "now": {name: stage[name] for name in ("stage", "done", "parts", "left_s") if name in stage},
        }  # fmt: skip

    def facts(self, now: float, at_work: Mapping[int, Collection[str]] | None = None) -> dict[str, Any]:
        """All but what is long, as JSON; `at_work` are chunks by the id() of their stage."""
        until, at_work = self.now(now), at_work or {}
        stages = [s.facts(self.recorded_s, until, at_work.get(id(s), NO_CHUNKS)) for s in self.stages]
        return self.line(now) | {
            "stages": stages, "curves": [curve.facts() for curve in self.curves], "log": list(self.lines),
            "errors": list(self.errors), "versions": self.versions, "announcing_s": self.announcing_s,
        }  # fmt: skip

    def drawn(self) -> dict[str, Any]:
        """What is long, as JSON: peaks of the drift raster, units, channels, motion."""
        peaks = {name: [value / 100 for value in column] for name, column in self.peaks.items()}
        return {"peaks": peaks, "units": self.units, "channels": self.channels, "motion": self.motion}
