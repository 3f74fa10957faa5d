"""Telling a cluster's scheduler how a sort goes, for the page that it shows (`pages`)."""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.chunked import Stride
from yass_dask.monitor import summaries
from yass_dask.monitor.progress import Part, Progress
from yass_dask.motion.estimate import opened
from yass_dask.templates import StoredTemplates

if TYPE_CHECKING:
    import distributed

    from yass_dask.recording import Recording
    from yass_dask.sorting import Sorting
    from yass_dask.store import Store

_log = logging.getLogger("yass_dask")
TOPIC = "yass"
MOTION, PEAKS, PURSUITS, TEMPLATES = "motion", "detect", ("even", "deconvolve"), "templates"
"""Stages, or what their names begin with, whose results are shown"""
JOB: ContextVar[str] = ContextVar("job", default="")
"""Id of the job (see `jobs`) that this process is: the page calls it the same."""


@dataclass(eq=False)
class Announcer:
    """Tells the scheduler of one sort."""

    client: distributed.Client
    job: str = field(default_factory=lambda: JOB.get() or uuid.uuid4().hex[:8])
    cpu_s: float = 0.0
    """What telling takes"""
    _counting: bool = False

    def tell(self, what: str, **facts: Any) -> None:
        """Tell something; a sort does not end because nobody hears it."""
        with contextlib.suppress(Exception), self.counted():
            self.client.log_event(TOPIC, {"what": what, "job": self.job, **facts})

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count the CPU time of what it holds, and forgive its errors: all of it is only shown."""
        if self._counting:
            yield
            return
        began, self._counting = time.thread_time(), True
        with contextlib.suppress(Exception):
            yield
        self.cpu_s, self._counting = self.cpu_s + time.thread_time() - began, False

    def begin(self, recording: Recording, out: str, state: str, message: str) -> None:
        """Tell that there is a sort; one that was only submitted is not ended with its client."""
        client = self.client.id if state == "queued" else ""
        facts = {"recorded_s": recording.duration_s, "n_channels": recording.n_channels}
        self.tell("begin", out=out, state=state, message=message, client=client, **facts)
        self.tell("channels", channels=np.round(recording.probe.positions, 1).tolist())

    def end(self, state: str, message: str = "") -> None:
        """Tell that the sort is over."""
        self.tell("end", state=state, message=message, cpu_s=self.cpu_s)

    def page(self) -> str | None:
        """Where a browser finds the page; None of a scheduler without a dashboard."""
        with contextlib.suppress(Exception):
            return str(self.client.dashboard_link.removesuffix("/status")) + "/yass"
        return None


def submitted(client: distributed.Client, job: str, recording: Recording, out: str) -> None:
    """Show a sort whose process is only starting."""
    announcer = Announcer(client, job)
    if _add_page(client):
        announcer.begin(recording, out, "submitted", "its process is starting")


@contextlib.contextmanager
def announced(client: distributed.Client, recording: Recording, out: str) -> Iterator[Announcer]:
    """Show a sort on its scheduler's page as long as the context lasts, its log lines and its end too."""
    announcer = Announcer(client)
    if _add_page(client) and (page := announcer.page()):
        _log.info("watch the sort at %s", page)
    announcer.begin(recording, out, "queued", "waits for workers")
    try:
        with _lines_told(announcer):
            yield announcer
    except KeyboardInterrupt:
        announcer.end("cancelled", "interrupted; the same command goes on from what is finished")
        raise
    except BaseException as error:
        announcer.end("failed", f"{type(error).__name__}: {error}")
        raise
    else:
        announcer.end("done")


def _add_page(client: distributed.Client) -> bool:
    try:
        from yass_dask.monitor.pages import SortPages

        client.register_plugin(SortPages())
    except Exception as error:  # the scheduler may have no yass_dask, or forbid plugins
        _log.warning("no page for this sort on the scheduler: %s", error)
        return False
    return True


@contextlib.contextmanager
def _lines_told(announcer: Announcer) -> Iterator[None]:
    """Tell every line of the log, also where nobody else wants them: who does sees what he saw without us."""
    before, wanted = (_log.level, _log.propagate), _log.getEffectiveLevel()
    handler = _Lines(announcer, wanted)
    _log.addHandler(handler)
    if handler.passes_on:
        _log.setLevel(logging.INFO)
        _log.propagate = False
    try:
        yield
    finally:
        _log.removeHandler(handler)
        _log.setLevel(before[0])
        _log.propagate = before[1]


class _Lines(logging.Handler):
    def __init__(self, announcer: Announcer, wanted: int) -> None:
        super().__init__(logging.INFO)
        self.announcer, self.wanted = announcer, wanted
        self.passes_on = wanted > logging.INFO
        """Lines of the wanted level, to those who would have had them"""
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "file_only", False):  # the page shows the stages themselves
            self.announcer.tell("line", line=self.format(record))
        if self.passes_on and _log.parent is not None and record.levelno >= self.wanted:
            _log.parent.handle(record)


class AnnouncedProgress:
    """Tells the scheduler of the stages and what they found, and another progress too."""

    def __init__(self, announcer: Announcer, recording: Recording, store: Store, shown: Progress) -> None:
        self.announcer, self.recording, self.store, self.shown = announcer, recording, store, shown
        self._bins = summaries.Bins.of(recording)
        self._stride = Stride()
        self._n_parts, self._n_found, self._n_ended = 0, 0, 0

    def stage(self, name: str, n_parts: int, n_found: int, recorded_s: float) -> None:
        self.announcer.tell("stage", name=name, n_parts=n_parts, n_found=n_found)
        self._n_parts, self._n_found, self._n_ended = n_parts, n_found, n_found
        with self.announcer.counted():
            self._stride = Stride(*self.store.params_of(name).get("stride", Stride()))
        self.shown.stage(name, n_parts, n_found, recorded_s)

    def advance(self, name: str, part: Part | None = None) -> None:
        with self.announcer.counted():
            if part is not None and name == PEAKS:
                self._tell_peaks(part)
            elif part is not None and name.startswith(PURSUITS):
                self._tell_spikes(name, part)
        self._n_ended += 1
        self.shown.advance(name, part)

    def finish(self, name: str) -> None:
        with self.announcer.counted():
            if name.startswith(TEMPLATES):
                templates = StoredTemplates(self.store.open(name)).load()
                self._tell_units(summaries.units_of_templates(templates, self.recording.probe))
            elif name == MOTION:
                self.announcer.tell("motion", motion=summaries.motion_shown(opened(self.store.open(name))))
            elif self._n_found:
                self._tell_found(name)
        self.announcer.tell("complete", cpu_s=self.announcer.cpu_s)
        self.shown.finish(name)

    def found(self, **facts: Any) -> None:
        self.announcer.tell("found", **facts)
        self.shown.found(**facts)

    def sorted(self, sorting: Sorting) -> None:
        self.announcer.tell("found", units=sorting.n_units, spikes=sorting.n_spikes)
        with self.announcer.counted():
            self._tell_units(summaries.units_of_sorting(sorting))
            counts = self._bins.count_spikes(sorting.sample_index)
            self._tell_curve("sorting", counts, self._bins.seconds(), anew=True)
        self.shown.sorted(sorting)

    def close(self) -> None:
        self.shown.close()

    def _tell_peaks(self, part: Part) -> None:
        limit = summaries.share_of_peaks(self._n_ended, self._n_parts)
        if limit:
            peaks = part.read(("sample_index", "channel_index", "amplitude"))
            rate, probe = self.recording.sampling_rate, self.recording.probe
            self.announcer.tell("peaks", columns=summaries.some_peaks(peaks, limit, rate, probe))

    def _tell_spikes(self, stage: str, part: Part) -> None:
        counts = self._bins.count_spikes(part.read(("sample_index",))["sample_index"])
        self._tell_curve(stage, counts, self._bins.seconds_of(part.name, self._stride))

    def _tell_found(self, name: str) -> None:
        """A stage of which something was found finished is complete: what was found is shown too."""
        table, rate = self.store.open(name), self.recording.sampling_rate
        if name == PEAKS:
            columns = summaries.peaks_of_all(table, rate, self.recording.probe)
            self.announcer.tell("peaks", columns=columns, anew=True)
        elif name.startswith(PURSUITS):
            counts = self._bins.count_all(table["sample_index"])
            self._tell_curve(name, counts, self._bins.seconds(self._stride), anew=True)

    def _tell_curve(self, stage: str, counts: np.ndarray, seconds: np.ndarray, anew: bool = False) -> None:
        there = np.flatnonzero(seconds)
        rows = slice(there[0], there[-1] + 1) if len(there) else slice(0, 0)
        self.announcer.tell(
            "spikes", stage=stage, n_bins=self._bins.count, bin_s=self._bins.seconds_each, first=int(rows.start),
            spikes=counts[rows].tolist(), seconds=np.round(seconds[rows], 3).tolist(), anew=anew,
        )  # fmt: skip

    def _tell_units(self, units: list[dict[str, float]]) -> None:
        self.announcer.tell("units", units=units)
