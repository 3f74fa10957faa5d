"""Progress in the cell of a notebook: a table that is written anew in its place."""

from __future__ import annotations

import time
from html import escape
from typing import TYPE_CHECKING, Any

from yass_dask.monitor.progress import Pace, Part

if TYPE_CHECKING:
    from yass_dask.sorting import Sorting

TABLE = "max-height:17em;overflow:auto;font-variant-numeric:tabular-nums"
BAR = "display:inline-block;width:14em;height:.7em;border-radius:.3em;background:rgba(128,128,128,.25)"
FILLED = "display:block;height:100%;border-radius:.3em;background:#3b8f5a"


class CellProgress:
    """Stages, the newest first, with bars, chunks and pace; what was found; a link to the page of a cluster."""

    EVERY_S = 0.3

    def __init__(self) -> None:
        self._paces: dict[str, Pace] = {}
        self._ended: dict[str, str] = {}
        """What is said of stages that are over"""
        self._found: dict[str, Any] = {}
        self._written = 0.0
        self._display: Any = None

    def stage(self, name: str, n_parts: int, n_found: int, recorded_s: float) -> None:
        self._paces[name] = Pace(n_parts, n_found, recorded_s)
        self._write()

    def advance(self, name: str, part: Part | None = None) -> None:
        self._paces[name].n_done += 1
        if time.monotonic() - self._written > self.EVERY_S:
            self._write()

    def finish(self, name: str) -> None:
        pace = self._paces[name]
        found = pace.n_parts > 0 and pace.n_found == pace.n_parts
        self._ended[name] = "found complete" if found else f"{pace.elapsed_s():.1f} s"
        self._write()

    def found(self, **facts: Any) -> None:
        self._found |= {name: fact for name, fact in facts.items() if fact is not None}
        self._write()

    def sorted(self, sorting: Sorting) -> None:
        self.found(units=sorting.n_units, spikes=sorting.n_spikes)

    def close(self) -> None:
        if self._display is not None:
            self._write()

    def _write(self) -> None:
        from IPython.display import display

        content = {"text/plain": self._text(), "text/html": self._html()}
        if self._display is None:
            self._display = display(content, raw=True, display_id=True)
        else:
            self._display.update(content, raw=True)
        self._written = time.monotonic()

    def _facts(self) -> list[str]:
        return [f"{self._found[name]:,} {name}" for name in ("units", "spikes") if name in self._found]

    def _rows(self) -> list[tuple[str, float, str, str]]:
        """(stage, share done, chunks, pace), the newest first."""
        rows = []
        for name, pace in reversed(self._paces.items()):
            done = pace.n_found + pace.n_done
            said = self._ended.get(name) or pace.describe_pace()
            share = 1.0 if name in self._ended else done / max(pace.n_parts, 1)
            rows.append((name, share, f"{done} of {pace.n_parts} chunks", said))
        return rows

    def _text(self) -> str:
        lines = [f"{name}: {chunks} {said}".rstrip() for name, _, chunks, said in self._rows()[:1]]
        return ", ".join([*lines, *self._facts()]) or "sort"

    def _html(self) -> str:
        rows = "".join(
            f'<tr><td style="text-align:left">{escape(name)}</td>'
            f'<td><span style="{BAR}"><span style="{FILLED};width:{100 * share:.0f}%"></span></span></td>'
            f"<td>{chunks}</td><td>{escape(said)}</td></tr>"
            for name, share, chunks, said in self._rows()
        )
        page = self._found.get("page")
        link = f'<a href="{escape(page)}" target="_blank">watch the sort at {escape(page)}</a>' if page else ""
        head = " &middot; ".join(filter(None, [*self._facts(), link]))
        return f'<div>{head}</div><div style="{TABLE}"><table>{rows}</table></div>'
