"""Draws the pipeline, the map of pipeline.py: `python docs/draw_pipeline.py` writes docs/pictures/pipeline.svg.

No library draws it, so that it is a few kB; the colours are read on light and on dark pages.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent / "pictures"
WIDTH, BOX, HIGH, GAP, ROW = 940, 190, 58, 40, 112
LEFT = 30
TRACES, EVENTS, UNITS, PLAIN = "#dbeafb", "#d9efe6", "#fbe3d6", "#e7e9ec"
INK, EDGE = "#22272e", "#7f8790"

ROWS = [
    [("Recording", "lazy traces, rate, probe", PLAIN), ("preprocess", "band-pass, standardize", TRACES),
     ("noise", "whitening in space, time", TRACES), ("motion", "long probes: held still", TRACES)],
    [("detect", "peaks; which stand clear", EVENTS), ("features", "whitened components", EVENTS),
     ("cluster", "mixture over a coreset", UNITS), ("templates", "averages, aligned", UNITS)],
    [("deconvolve", "every spike by pursuit", EVENTS), ("cleaned spikes", "each less all others", EVENTS),
     ("split, join, drop", "each with its reason", UNITS), ("templates", "and the residual's units", UNITS)],
    [("deconvolve", "the whole recording", EVENTS), ("results", "which spikes each keeps", UNITS),
     ("Sorting", "spikes, templates, audit", PLAIN)],
]  # fmt: skip


def place(row: int, column: int) -> tuple[int, int]:
    return LEFT + column * (BOX + GAP), 20 + row * ROW


def box(row: int, column: int, title: str, below: str, colour: str) -> str:
    x, y = place(row, column)
    middle = x + BOX // 2
    return (
        f'<rect x="{x}" y="{y}" width="{BOX}" height="{HIGH}" rx="8" fill="{colour}" stroke="{EDGE}"/>'
        f'<text x="{middle}" y="{y + 25}" class="title">{escape(title)}</text>'
        f'<text x="{middle}" y="{y + 44}">{escape(below)}</text>'
    )


def arrow(points: list[tuple[int, int]]) -> str:
    path = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{EDGE}" stroke-width="1.6" marker-end="url(#head)"/>'


def beside(row: int, column: int) -> str:
    x, y = place(row, column)
    return arrow([(x + BOX, y + HIGH // 2), (x + BOX + GAP - 3, y + HIGH // 2)])


def down(row: int) -> str:
    """From the last box of a row around to the first of the next."""
    x, y = place(row, len(ROWS[row]) - 1)
    first, below = place(row + 1, 0)
    turn = y + HIGH + 24
    middle, under = x + BOX // 2, first + BOX // 2
    return arrow([(middle, y + HIGH), (middle, turn), (under, turn), (under, below - 3)])


def again() -> str:
    """Around the row of refinement."""
    x, y = place(2, 3)
    first, _ = place(2, 0)
    edge, above = x + BOX + 22, y - 14
    middle, under = y + HIGH // 2, first + BOX - 50
    line = arrow([(x + BOX, middle), (edge, middle), (edge, above), (under, above), (under, y - 3)])
    return line + f'<text x="{edge - 6}" y="{above - 6}" class="note">two rounds</text>'


def drawn() -> str:
    """The SVG."""
    parts = [box(r, c, *cell) for r, row in enumerate(ROWS) for c, cell in enumerate(row)]
    parts += [beside(r, c) for r, row in enumerate(ROWS) for c in range(len(row) - 1)]
    parts += [down(row) for row in range(len(ROWS) - 1)] + [again()]
    height = 20 + len(ROWS) * ROW - (ROW - HIGH) + 20
    style = f"text{{font:12px sans-serif;text-anchor:middle;fill:{INK}}}.title{{font-weight:bold;font-size:14px}}"
    style += f".note{{text-anchor:end;fill:{EDGE}}}"
    head = '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    head += f'<path d="M0,0 L8,4 L0,8 z" fill="{EDGE}"/></marker>'
    label = "<title>The stages of a sort, in their order</title>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 20} {height}" role="img">{label}'
        f"<style>{style}</style><defs>{head}</defs>{''.join(parts)}</svg>\n"
    )


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    (HERE / "pipeline.svg").write_text(drawn(), encoding="utf-8")
