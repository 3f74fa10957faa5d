"""The report's drawings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from yass_dask.evaluate import trains
from yass_dask.report import draw
from yass_dask.report.draw import Frame
from yass_dask.report.units import UnitNumbers

if TYPE_CHECKING:
    from yass_dask.report.sampled import Example, Sampled
    from yass_dask.sorting import Sorting

WINDOW_MS, BIN_MS = 30.0, 0.5
MOST_DOTS, N_RATE_BINS = 250, 60
MOST_POINTS = 60
"""Of a waveform on a channel"""
ALL_UNITS = 400
"""Of more units each is drawn with fewer dots and points and wider bins: the page stays below 10 MB."""
COARSEST = 4
EXAMPLE_CHANNELS = 14
HEIGHTS_SD = (6.0, 9.0, 14.0)
"""Peaks of the raster are drawn in shades that begin here."""


def probe_map(sorting: Sorting, units: list[UnitNumbers]) -> str:
    """Contacts, and each unit where it lies, as large as it is high."""
    positions, extent = sorting.probe.positions, np.ptp(sorting.probe.positions, axis=0)
    width, height = 300.0, float(np.clip(300 * (extent[1] + 60) / (extent[0] + 120), 200, 620))
    scale = min((width - 50) / (extent[0] + 30), (height - 40) / (extent[1] + 30))
    middle = positions.min(axis=0) + extent / 2

    def place(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = (np.atleast_2d(points) - middle).T * scale
        return width / 2 + x, height / 2 - y

    parts = [draw.dots(*place(positions), "contact")]
    for unit in units:
        a, b = (float(v[0]) for v in place(sorting.unit_locations[unit.row]))
        radius = float(np.clip(2.5 * np.sqrt(unit.snr or 4.0), 3, 16))
        title = f"unit {unit.unit}: {unit.n_spikes:,} spikes, {unit.label}"
        parts.append(
            f'<a href="#unit-{unit.unit}"><circle class="unit {unit.label}" cx="{a:.1f}" cy="{b:.1f}" r="{radius:.1f}">'
            f"<title>{title}</title></circle></a>"
        )
    bar = float(10 ** np.floor(np.log10(max(60 / scale, 1))))
    x = np.array([width - 12 - bar * scale, width - 12])
    parts += [draw.line(x, np.full(2, height - 8), "axis"), draw.text(width - 12, height - 13, f"{bar:g} um", "end")]
    return draw.svg(width, height, parts, "units on the probe", "probe")


def raster(sorting: Sorting, peaks: dict[str, np.ndarray]) -> str:
    """Depth of peaks (`Sampled.peaks`) over time: drift shows as bands that move."""
    y = sorting.probe.positions[:, 1]
    frame = Frame(960, 380, (0, sorting.duration_s), (float(y.min()) - 10, float(y.max()) + 10), left=48)
    shade = np.searchsorted(HEIGHTS_SD, peaks["height_sd"], side="right")
    parts = [frame.axes("time (s)", "depth (um)")]
    for k in range(len(HEIGHTS_SD) + 1):
        mine = shade == k
        parts.append(draw.dots(frame.px(peaks["seconds"][mine]), frame.py(peaks["depth_um"][mine]), f"peak h{k}"))
    return draw.svg(frame.width, frame.height, parts, "depth of peaks over time")


def left_over(sorting: Sorting, seen: Sampled) -> str:
    """Peaks per second on each channel, before and after spikes are subtracted."""
    n = sorting.n_channels
    before, after = seen.n_before / seen.seconds, seen.n_after / seen.seconds
    frame = Frame(960, 200, (0, n), (0, float(before.max(initial=0)) * 1.05 or 1.0), left=48)
    edges = frame.px(np.arange(n + 1))
    parts = [frame.axes("channel (in the order of the file)", "peaks per s")]
    parts += [draw.bars(edges, frame.py(v), frame.base, css) for v, css in ((before, "before"), (after, "after"))]
    return draw.svg(frame.width, frame.height, parts, "peaks before and after subtraction, by channel")


def example(sorting: Sorting, shown: Example) -> str:
    """Traces of a short stretch, and what the spikes leave of them."""
    taken = (shown.before**2).sum(axis=0) - (shown.after**2).sum(axis=0)
    channels = np.sort(np.argsort(-taken, kind="stable")[:EXAMPLE_CHANNELS])
    step = 9.0
    end = shown.start_s + len(shown.before) / sorting.sampling_rate
    height = 60.0 + 26 * len(channels)
    frame = Frame(1120, height, (shown.start_s, end), (-step, step * len(channels)), left=48, right=20)
    x = frame.px(shown.start_s + np.arange(len(shown.before)) / sorting.sampling_rate)
    parts = [draw.text((frame.left + frame.width) / 2, height - 3, "time (s)", "middle", "name")]
    parts += [draw.text(float(frame.px(t)), frame.base + 12, f"{t:g}", "middle") for t in draw.ticks(*frame.x, 6)]
    for place, channel in enumerate(channels):
        for traces, css in ((shown.before, "trace"), (shown.after, "left")):
            parts.append(draw.line(x, frame.py(place * step + traces[:, channel]), css))
        parts.append(
            draw.text(frame.left - 6, float(frame.py(place * step)) + 3, str(sorting.channel_ids[channel]), "end")
        )
    return draw.svg(frame.width, height, parts, "traces and residual of a short stretch")


def waveform(sorting: Sorting, unit: UnitNumbers, channels: np.ndarray, spread: np.ndarray | None, word: str) -> str:
    """The template on its channels where these lie, with a band of one standard deviation of its spikes."""
    template = np.asarray(sorting.templates[unit.row])[:, channels]
    step = -(-len(template) // thinned(MOST_POINTS, sorting.n_units))
    # The peak stays among the points that are drawn.
    rows = np.arange(sorting.template_peak % step, len(template), step)
    width, height = 230.0, 210.0
    x, y = _spread_out(sorting.probe.positions[channels], width, height)
    along = np.linspace(-24, 24, len(rows))
    scale = 42.0 / (float(np.ptp(template, axis=0).max()) or 1.0)
    parts = []
    for k in range(len(channels)):
        wave = template[rows, k]
        if spread is not None:
            wide = spread[rows, k]
            parts.append(draw.band(x[k] + along, y[k] - scale * (wave + wide), y[k] - scale * (wave - wide), "spread"))
        parts.append(draw.line(x[k] + along, y[k] - scale * wave, "wave"))
        parts.append(draw.text(x[k] - 24, y[k] - 14, str(sorting.channel_ids[channels[k]]), "end", "name"))
    millis = len(template) / sorting.sampling_rate * 1e3
    parts.append(draw.text(width - 4, height - 4, f"{millis:.1f} ms, {42 / scale:.0f} {word} high", "end", "name"))
    return draw.svg(width, height, parts, f"waveform of unit {unit.unit}")


def thinned(most: int, n_units: int) -> int:
    """How many points each of many units is drawn with."""
    return max(10, most * ALL_UNITS // max(n_units, ALL_UNITS))


def _spread_out(positions: np.ndarray, width: float, height: float) -> tuple[np.ndarray, np.ndarray]:
    """Places on paper in the order of the contacts, in columns and rows that do not overlap."""
    x, y = positions.T
    columns = np.searchsorted(np.unique(x), x)
    rows = np.searchsorted(np.unique(y), y)
    n_columns, n_rows = columns.max() + 1, rows.max() + 1
    if n_columns > 3:  # too many to stand side by side
        columns, n_columns = columns * 3 // n_columns, 3
    across = 36 + (width - 64) * (columns + 0.5) / n_columns
    return across, height - 24 - (height - 44) * (rows + 0.5) / n_rows


def autocorrelogram(sorting: Sorting, unit: UnitNumbers) -> str:
    edges, values = trains.autocorrelogram(unit.times, sorting.sampling_rate, WINDOW_MS, bin_ms(sorting))
    return _correlogram(edges, values, f"autocorrelogram of unit {unit.unit}", "own")


def crosscorrelogram(sorting: Sorting, unit: UnitNumbers, other: UnitNumbers) -> str:
    rate = sorting.sampling_rate
    edges, values = trains.crosscorrelogram(unit.times, other.times, rate, WINDOW_MS, bin_ms(sorting))
    return _correlogram(edges, values, f"spikes of unit {other.unit} around those of unit {unit.unit}", "other")


def bin_ms(sorting: Sorting) -> float:
    """Width of a correlogram's bins: wider ones where there are very many units."""
    return BIN_MS * min(-(-sorting.n_units // ALL_UNITS) or 1, COARSEST)


def _correlogram(edges: np.ndarray, values: np.ndarray, label: str, css: str) -> str:
    frame = Frame(250, 150, (-WINDOW_MS, WINDOW_MS), (0, float(values.max(initial=0)) * 1.05 or 1.0))
    parts = [frame.axes("lag (ms)", "per s"), draw.bars(frame.px(edges), frame.py(values), frame.base, css)]
    return draw.svg(frame.width, frame.height, [*parts, frame.upright(-2), frame.upright(2)], label)


def over_time(sorting: Sorting, unit: UnitNumbers) -> str:
    """Amplitudes of spikes over the recording, and the rate below."""
    some = trains.evenly(unit.n_spikes, thinned(MOST_DOTS, sorting.n_units))
    sizes = unit.amplitudes[some].astype(float)
    top = float(sizes.max(initial=0)) * 1.05 or 1.0
    upper = Frame(330, 150, (0, sorting.duration_s), (0, top), bottom=60)
    seconds = unit.times[some] / sorting.sampling_rate
    n_bins = max(1, min(N_RATE_BINS, int(sorting.duration_s)))
    edges, values = trains.rates(unit.times, sorting.n_samples, sorting.sampling_rate, n_bins)
    lower = Frame(330, 150, upper.x, (0, float(values.max(initial=0)) or 1.0), top=104)
    parts = [
        draw.dots(upper.px(seconds), upper.py(sizes), "spike"),
        *(draw.text(upper.left - 4, float(upper.py(t)) + 3.5, f"{t:g}", "end") for t in draw.ticks(0, top, 3)),
        draw.bars(lower.px(edges), lower.py(values), lower.base, "rate"),
        *(draw.text(float(lower.px(t)), lower.base + 12, f"{t:g}", "middle") for t in draw.ticks(*lower.x)),
        draw.text(lower.left - 4, lower.base - 10, f"{values.max(initial=0):.3g}", "end"),
        draw.text(lower.left - 4, lower.base, "Hz", "end"),
        draw.text(180, 147, "time (s)", "middle", "name"),
    ]
    return draw.svg(330, 150, parts, f"amplitude and rate of unit {unit.unit} over time")
