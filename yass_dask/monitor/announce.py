"""Telling a cluster's scheduler how a sort goes, for the page that it shows (`pages`)."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.monitor.progress import Progress, Read

if TYPE_CHECKING:
    import distributed

    from yass_dask.recording import Recording

_log = logging.getLogger("yass_dask")
TOPIC = "yass"
PEAKS_A_CHUNK = 150
"""Drawn as a raster: enough to see drift."""


@dataclass(frozen=True)
class Announcer:
    """Tells the scheduler of one sort."""

    client: distributed.Client
    job: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def tell(self, what: str, **facts: Any) -> None:
        """Tell something; a sort does not end because nobody hears it."""
        with contextlib.suppress(Exception):
            self.client.log_event(TOPIC, {"what": what, "job": self.job, **facts})


@contextlib.contextmanager
def announced(client: distributed.Client, recording: Recording, out: str) -> Iterator[Announcer]:
    """Show a sort on its scheduler's page as long as the context lasts, its log lines and its end too."""
    announcer = Announcer(client)
    try:
        from yass_dask.monitor.pages import SortPages

        client.register_plugin(SortPages())
    except Exception as error:  # the scheduler may have no yass_dask, or forbid plugins
        _log.warning("no page for this sort on the scheduler: %s", error)
    else:
        with contextlib.suppress(KeyError, AttributeError):  # a scheduler without a dashboard
            _log.info("watch the sort at %s", client.dashboard_link.removesuffix("/status") + "/yass")
    size = {"n_samples": recording.n_samples, "n_channels": recording.n_channels}
    announcer.tell("begin", out=out, recorded_s=recording.duration_s, **size)
    handler = _Lines(announcer)
    _log.addHandler(handler)
    try:
        yield announcer
    except BaseException as error:
        announcer.tell("end", state="failed", message=f"{type(error).__name__}: {error}")
        raise
    else:
        announcer.tell("end", state="done", message="")
    finally:
        _log.removeHandler(handler)


class _Lines(logging.Handler):
    def __init__(self, announcer: Announcer) -> None:
        super().__init__(logging.INFO)
        self.announcer = announcer
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        self.announcer.tell("line", line=self.format(record))


@dataclass
class AnnouncedProgress:
    """Tells the scheduler of the stages, and another progress too."""

    announcer: Announcer
    recording: Recording
    shown: Progress

    def stage(self, name: str, n_parts: int, n_found: int, recorded_s: float) -> None:
        self.announcer.tell("stage", name=name, n_parts=n_parts, n_found=n_found)
        self.shown.stage(name, n_parts, n_found, recorded_s)

    def advance(self, name: str, read: Read | None = None) -> None:
        self.shown.advance(name, read)
        if name == "detect" and read is not None:
            with contextlib.suppress(Exception):  # it is only shown
                self.announcer.tell("peaks", points=self._some_peaks(read))

    def _some_peaks(self, read: Read) -> list[list[float]]:
        """[seconds, depth in um, height in sd] of a few of a chunk's peaks."""
        peaks = read(("sample_index", "channel_index", "amplitude"))
        step = max(1, len(peaks["sample_index"]) // PEAKS_A_CHUNK)
        seconds = peaks["sample_index"][::step] / self.recording.sampling_rate
        depth = self.recording.probe.positions[peaks["channel_index"][::step], 1]
        points = np.stack([seconds, depth, np.abs(peaks["amplitude"][::step])], axis=1)
        return np.round(points, 2).tolist()

    def finish(self, name: str) -> None:
        self.announcer.tell("complete")
        self.shown.finish(name)

    def found(self, **facts: int) -> None:
        self.announcer.tell("found", **facts)
        self.shown.found(**facts)

    def close(self) -> None:
        self.shown.close()
