"""Where the time of a stage goes: what the threads of this process are seen at, a hundred times a second."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

INTERVAL_S = 0.01
LINES = 40

PLACES = {
    "kernels": ("yass_dask/kernels/",),
    "input and output": ("yass_dask/store/", "yass_dask/sources/", "/zarr/", "/numcodecs/", "zipfile", "zlib"),
    "dask": ("/dask/", "/distributed/", "yass_dask/runtime/"),
    "stages": ("yass_dask/",),
}
"""A sample counts for the first of these that is met from the innermost frame outwards, else for "other"."""
WAITING = ("threading.py", "queue.py", "selectors.py", "concurrent/futures/", "yass_dask/monitor/")
"""Files whose frames are innermost in a thread that waits."""


class StageProfile:
    """Context that samples all threads of this process, and writes `<label>.txt` and `<label>.json` when it ends."""

    def __init__(self, folder: Path, label: str, facts: Mapping[str, Any]) -> None:
        self._folder, self._label, self._facts = folder, label, dict(facts)
        self._places: Counter[str] = Counter()
        self._inner: Counter[str] = Counter()
        self._within: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="profile", daemon=True)

    def __enter__(self) -> StageProfile:
        self._began, self._cpu_began = time.perf_counter(), time.process_time()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._facts["seconds"] = round(time.perf_counter() - self._began, 3)
        self._facts["cpu_seconds"] = round(time.process_time() - self._cpu_began, 3)
        if kind is None:
            self._write()

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            for thread, frame in sys._current_frames().items():
                if thread != threading.get_ident():
                    self._count(list(_outwards(frame)))

    def _count(self, frames: list[tuple[str, str]]) -> None:
        if any(part in frames[0][0] for part in WAITING):
            return
        place = next(
            (p for file, _ in frames for p, parts in PLACES.items() if any(part in file for part in parts)), ""
        )
        self._places[place or "other"] += 1
        names = [f"{_short(file)} {function}" for file, function in frames]
        self._inner[names[0]] += 1
        self._within.update(set(names))

    def _write(self) -> None:
        total = max(sum(self._places.values()), 1)
        shares = {place: round(count / total, 4) for place, count in self._places.most_common()}
        self._folder.mkdir(parents=True, exist_ok=True)
        facts = {"stage": self._label, **self._facts, "samples": total, "shares": shares}
        (self._folder / f"{self._label}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        (self._folder / f"{self._label}.txt").write_text(self._table(facts, total), encoding="utf-8")

    def _table(self, facts: Mapping[str, Any], total: int) -> str:
        lines = [f"{name}: {value}" for name, value in facts.items() if name != "shares"]
        lines += [f"{share:6.1%} {place}" for place, share in facts["shares"].items()]
        lines += ["", "  self  total  function"]
        for name, count in self._inner.most_common(LINES):
            lines.append(f"{count / total:6.1%} {self._within[name] / total:6.1%}  {name}")
        return "\n".join(lines) + "\n"


def _outwards(frame: FrameType | None) -> Iterator[tuple[str, str]]:
    """(file, function) from the innermost frame on."""
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_code.co_qualname
        frame = frame.f_back


def _place(file: str) -> str:
    return next((place for place, parts in PLACES.items() if any(part in file for part in parts)), "")


def _short(file: str) -> str:
    """A file within its package."""
    _, found, rest = file.rpartition("site-packages/")
    if found:
        return rest
    _, found, rest = file.rpartition("yass_dask/")
    return f"yass_dask/{rest}" if found else file.rpartition("/")[2]
