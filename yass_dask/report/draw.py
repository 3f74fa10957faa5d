"""Small SVG drawings as text. Paths are whole tenths of a pixel, each point relative to the one before: short text."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

TENTHS = 10


def svg(width: float, height: float, parts: Iterable[str], label: str, css: str = "") -> str:
    """A drawing that fits the width it is given."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{html.escape(label)}" class="{css}" '
        f'style="max-width:{width:g}px">{"".join(parts)}</svg>'
    )


def line(x: np.ndarray, y: np.ndarray, css: str = "") -> str:
    """Line through points (pixels)."""
    return _path(_through(x, y), css)


def band(x: np.ndarray, low: np.ndarray, high: np.ndarray, css: str = "") -> str:
    """Area between two lines (pixels)."""
    return _path(_through(np.concatenate([x, x[::-1]]), np.concatenate([low, high[::-1]])) + "z", css)


def bars(edges: np.ndarray, tops: np.ndarray, base: float, css: str = "") -> str:
    """Bars that stand beside each other on a base line (pixels)."""
    x = np.repeat(edges, 2)
    y = np.concatenate([[base], np.repeat(tops, 2), [base]])
    return _path(_through(x, y) + "z", css)


def dots(x: np.ndarray, y: np.ndarray, css: str = "") -> str:
    """Round dots (pixels), as wide as the stroke."""
    points = _tenths(x, y)
    steps = np.diff(points, axis=0, prepend=0)
    return _path("".join(f"m{a} {b}h0" for a, b in steps.tolist()), f"dots {css}")


def segments(x: np.ndarray, low: np.ndarray, high: np.ndarray, css: str = "") -> str:
    """Upright segments (pixels)."""
    (x, low), high = _tenths(x, low).T, np.round(TENTHS * np.asarray(high)).astype(int)
    return _path("".join(f"M{a} {b}V{c}" for a, b, c in zip(x, low, high, strict=True)), css)


def text(x: float, y: float, words: str, anchor: str = "start", css: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{css}">{html.escape(words)}</text>'


def _through(x: np.ndarray, y: np.ndarray) -> str:
    points = _tenths(x, y)
    if not len(points):
        return ""
    steps = np.diff(points, axis=0).ravel().tolist()
    rest = "".join(f" {step}" if step >= 0 else str(step) for step in steps)
    return f"M{points[0, 0]} {points[0, 1]}l{rest.strip()}" if steps else f"M{points[0, 0]} {points[0, 1]}h0"


def _tenths(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.round(TENTHS * np.stack([np.asarray(x, float), np.asarray(y, float)], axis=1)).astype(int)


def _path(steps: str, css: str) -> str:
    return f'<path class="{css}" d="{steps}"/>' if steps else ""


@dataclass(frozen=True)
class Frame:
    """Place of a drawing's data: what their values are in pixels, and the axes beside them."""

    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]
    left: float = 38.0
    bottom: float = 30.0
    top: float = 8.0
    right: float = 8.0

    def px(self, values: np.ndarray | float) -> np.ndarray:
        low, high = self.x
        share = (np.asarray(values, float) - low) / ((high - low) or 1.0)
        return np.asarray(self.left + share * (self.width - self.left - self.right))

    def py(self, values: np.ndarray | float) -> np.ndarray:
        low, high = self.y
        share = (np.asarray(values, float) - low) / ((high - low) or 1.0)
        return np.asarray(self.height - self.bottom - share * (self.height - self.bottom - self.top))

    @property
    def base(self) -> float:
        return self.height - self.bottom

    def axes(self, x_name: str, y_name: str) -> str:
        """Lines, ticks and names."""
        right = self.width - self.right
        parts = [_path(f"M{self.left * TENTHS:.0f} {self.base * TENTHS:.0f}H{right * TENTHS:.0f}", "axis")]
        parts += [text(float(self.px(t)), self.base + 12, f"{t:g}", "middle") for t in ticks(*self.x)]
        for t in ticks(*self.y, 3):
            y = float(self.py(t))
            parts.append(_path(f"M{self.left * TENTHS:.0f} {y * TENTHS:.0f}H{right * TENTHS:.0f}", "grid"))
            parts.append(text(self.left - 4, y + 3.5, f"{t:g}", "end"))
        parts.append(text((self.left + right) / 2, self.height - 3, x_name, "middle", "name"))
        middle = (self.top + self.base) / 2
        turned = text(0, 0, y_name, "middle", "name")
        return "".join([*parts, f'<g transform="translate(9 {middle:.1f}) rotate(-90)">{turned}</g>'])

    def upright(self, at: float, css: str = "mark") -> str:
        """Line across the drawing at a value of x."""
        x = np.array([float(self.px(at))])
        return segments(x, np.array([self.top]), np.array([self.base]), css)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round values between two others, about so many."""
    if not np.isfinite(high - low) or high <= low:
        return [low] if np.isfinite(low) else []
    rough = (high - low) / count
    size = 10.0 ** np.floor(np.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    first = np.ceil(low / step - 1e-9)
    n_steps = int(np.floor(high / step + 1e-9) - first)
    return [round(float((first + k) * step), 10) + 0.0 for k in range(n_steps + 1)]
