"""Plots for notebooks, each on a figure of its own, whose axes are returned; matplotlib is needed for these only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.errors import InputError
from yass_dask.evaluate.trains import autocorrelogram, crosscorrelogram
from yass_dask.preprocess import COUNTS_PER_SD

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from yass_dask.recording import Recording
    from yass_dask.sorting import Sorting
    from yass_dask.store import Store

N_COLUMNS = 5


def plot_templates(sorting: Sorting, unit_ids: Sequence[int] | None = None, *, n_channels: int = 12) -> list[Axes]:
    """Draw the templates of units (all by default), each waveform where its contact lies; one panel a unit.

    Parameters
    ----------
    n_channels : channels drawn per unit, those where the template is largest

    Raises
    ------
    InputError
        A unit is unknown, or matplotlib is not installed.
    """
    units, rows = _units(sorting, unit_ids)
    panels = _panels(len(units), height=3.0)
    for unit, row, axes in zip(units, rows, panels, strict=True):
        template = sorting.templates[row]
        sizes = np.ptp(template, axis=0)
        channels = np.argsort(-sizes, kind="stable")[:n_channels]
        _draw_template(axes, template[:, channels], sorting.probe.positions[channels])
        axes.set_title(f"unit {unit} {sorting.about(unit).get('label', '')}", fontsize=9)
    return panels


def plot_autocorrelograms(
    sorting: Sorting, unit_ids: Sequence[int] | None = None, *, window_ms: float = 30.0, bin_ms: float = 0.5
) -> list[Axes]:
    """Draw spikes per second at each lag before and after a unit's own spikes; one panel a unit, red lines at 2 ms.

    Raises
    ------
    InputError
        A unit is unknown, or matplotlib is not installed.
    """
    units, _ = _units(sorting, unit_ids)
    panels = _panels(len(units), height=2.0)
    for unit, axes in zip(units, panels, strict=True):
        times = sorting.times_of(unit)
        _draw_correlogram(axes, *autocorrelogram(times, sorting.sampling_rate, window_ms, bin_ms), color="0.3")
        axes.set_title(f"unit {unit}, {len(times)} spikes", fontsize=9)
    return panels


def plot_crosscorrelograms(
    sorting: Sorting, unit_ids: Sequence[int], *, window_ms: float = 30.0, bin_ms: float = 0.5
) -> list[Axes]:
    """Draw when each of some units fires around the spikes of each other one; autocorrelograms on the diagonal.

    Returns
    -------
    One panel for each pair, row by row: the row's unit is at lag 0, the column's fires around it.

    Raises
    ------
    InputError
        A unit is unknown, or matplotlib is not installed.
    """
    units, _ = _units(sorting, unit_ids)
    rate = sorting.sampling_rate
    panels = _panels(len(units) ** 2, height=1.6, columns=len(units))
    pairs = [(row, column) for row in units for column in units]
    for axes, (row, column) in zip(panels, pairs, strict=True):
        times = sorting.times_of(row)
        if row == column:
            _draw_correlogram(axes, *autocorrelogram(times, rate, window_ms, bin_ms), color="0.3")
        else:
            drawn = crosscorrelogram(times, sorting.times_of(column), rate, window_ms, bin_ms)
            _draw_correlogram(axes, *drawn, color="tab:blue")
        axes.set_title(f"{row}" if row == column else f"{column} around {row}", fontsize=9)
    return panels


def plot_raster(
    sorting: Sorting, unit_ids: Sequence[int] | None = None, *, start_s: float = 0.0, end_s: float | None = None
) -> Axes:
    """Draw the spikes of units (all by default) as a row of strokes each.

    Raises
    ------
    InputError
        A unit is unknown, or matplotlib is not installed.
    """
    units, _ = _units(sorting, unit_ids)
    end = sorting.duration_s if end_s is None else end_s
    (axes,) = _panels(1, height=1.0 + 0.15 * len(units), width=11.0)
    for row, unit in enumerate(units):
        seconds = sorting.times_of(unit) / sorting.sampling_rate
        seconds = seconds[(seconds >= start_s) & (seconds <= end)]
        axes.plot(seconds, np.full(len(seconds), row), "|", color=f"C{row % 10}", markersize=5)
    axes.set_yticks(range(len(units)), [str(unit) for unit in units])
    axes.set_xlim(start_s, end)
    axes.set_xlabel("time (s)")
    axes.set_ylabel("unit")
    return axes


def plot_drift(sorting: Sorting) -> Axes:
    """Draw the depth of peaks of the clean traces over time, darker where higher: bands that bend are drift.

    Peaks are looked for in blocks spread over the recording, and placed by the centre of mass of the traces around
    them.

    Raises
    ------
    InputError
        The sorting lies in no folder of a sort whose clean traces were kept, or matplotlib is not installed.
    """
    from yass_dask.report.sampled import look

    store = _store(sorting, "plot_drift")
    peaks = look(sorting, store, 1).peaks
    (axes,) = _panels(1, height=4.0, width=11.0)
    order = np.argsort(peaks["height_sd"])
    shades = np.clip(peaks["height_sd"][order], 4, 20)
    axes.scatter(peaks["seconds"][order], peaks["depth_um"][order], c=shades, s=2, cmap="Greys", vmin=0)
    axes.set_xlabel("time (s)")
    axes.set_ylabel("depth (um)")
    return axes


def plot_residual(sorting: Sorting, start_s: float, end_s: float, *, channels: Sequence[int] | None = None) -> Axes:
    """Draw the clean traces of a stretch, the spikes found in them, and in red what these leave.

    Raises
    ------
    InputError
        The sorting lies in no folder of a sort whose clean traces were kept, the stretch is not in the recording, or
        matplotlib is not installed.
    """
    from yass_dask.report.sampled import residual_of
    from yass_dask.residual import residual

    store = _store(sorting, "plot_residual")
    source = residual_of(sorting, store)
    clean = replace(source.recording, gain_to_uv=np.full(sorting.n_channels, 1 / COUNTS_PER_SD))
    left = residual(source.clean, source.templates, source.spikes, source.backend)
    return plot_traces(clean, start_s, end_s, sorting=sorting, residual=left, channels=channels)


def plot_traces(
    recording: Recording,
    start_s: float,
    end_s: float,
    *,
    sorting: Sorting | None = None,
    residual: Recording | None = None,
    channels: Sequence[int] | None = None,
) -> Axes:
    """Draw traces of all (or some) channels, the spikes found in them, and in red what they leave.

    Parameters
    ----------
    sorting : its spikes are marked on their unit's largest channel
    residual : recording of the same shape, drawn over the traces

    Raises
    ------
    InputError
        The stretch is not in the recording, or matplotlib is not installed.
    """
    start, stop = (round(seconds * recording.sampling_rate) for seconds in (start_s, end_s))
    if not 0 <= start < stop <= recording.n_samples:
        raise InputError(
            f"{start_s} to {end_s} s is no stretch of a recording of {recording.duration_s:g} s; "
            "give 0 <= start < end <= duration"
        )
    shown = np.arange(recording.n_channels) if channels is None else np.asarray(channels)
    (axes,) = _panels(1, height=1.5 + 0.25 * len(shown), width=11.0)
    seconds = np.arange(start, stop) / recording.sampling_rate
    traces = _read(recording, start, stop)[:, shown]
    step = 8 * float(np.median(np.abs(traces - np.median(traces, axis=0)))) or 1.0
    offsets = step * np.arange(len(shown))
    axes.plot(seconds, traces + offsets, color="0.2", linewidth=0.5)
    if residual is not None:
        axes.plot(seconds, _read(residual, start, stop)[:, shown] + offsets, color="tab:red", linewidth=0.5)
    if sorting is not None:
        _mark_spikes(axes, sorting, (start, stop), dict(zip(shown.tolist(), offsets.tolist(), strict=True)))
    axes.set_yticks(offsets, [str(recording.channel_ids[channel]) for channel in shown])
    axes.set_xlabel("time (s)")
    axes.set_ylabel("channel")
    return axes


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise InputError("plots need matplotlib, which is not installed; pip install matplotlib") from error
    return pyplot


def _panels(count: int, *, height: float, width: float | None = None, columns: int = N_COLUMNS) -> list[Axes]:
    """That many panels of a new figure; the rest of its grid stays blank."""
    columns = max(1, min(count, columns))
    n_rows = -(-max(count, 1) // columns)
    size = (width or 2.4 * columns, height * n_rows)
    _, grid = _pyplot().subplots(n_rows, columns, figsize=size, squeeze=False, layout="constrained")
    panels = list(grid.flat)
    for blank in panels[count:]:
        blank.set_axis_off()
    return panels[:count]


def _draw_correlogram(axes: Axes, edges: np.ndarray, rates: np.ndarray, color: str) -> None:
    axes.stairs(rates, edges, fill=True, color=color)
    for limit in (-2.0, 2.0):
        axes.axvline(limit, color="tab:red", linewidth=0.6)
    axes.set_xlabel("lag (ms)")


def _units(sorting: Sorting, unit_ids: Sequence[int] | None) -> tuple[list[int], np.ndarray]:
    """Units asked for and their rows in the templates."""
    units = sorting.unit_ids.tolist() if unit_ids is None else [int(unit) for unit in unit_ids]
    unknown = sorted(set(units) - set(sorting.unit_ids.tolist()))
    if unknown:
        raise InputError(f"units {unknown} not found: the sorting's units are {sorting.unit_ids.tolist()}")
    return units, np.searchsorted(sorting.unit_ids, units)


def _draw_template(axes: Axes, waves: np.ndarray, positions: np.ndarray) -> None:
    """Waveforms (samples, channels) centred on their contacts, the largest 40 um high."""
    scale = 40.0 / (float(np.ptp(waves, axis=0).max(initial=0.0)) or 1.0)
    along = np.linspace(-14.0, 14.0, len(waves))
    for wave, (x, y) in zip(waves.T, positions, strict=True):
        axes.plot(x + along, y + scale * wave, color="tab:blue", linewidth=0.8)
    axes.plot(positions[:, 0], positions[:, 1], ".", color="0.7", markersize=2)
    axes.set_xlabel("um")


def _mark_spikes(axes: Axes, sorting: Sorting, stretch: tuple[int, int], offsets: dict[int, float]) -> None:
    first, last = np.searchsorted(sorting.sample_index, stretch)
    peak_channels = [int(channel) for channel in np.ptp(sorting.templates, axis=1).argmax(axis=1)]
    for row in np.unique(sorting.unit_rows[first:last]):
        height = offsets.get(peak_channels[row])
        if height is None:
            continue
        own = sorting.sample_index[first:last][sorting.unit_rows[first:last] == row]
        unit = int(sorting.unit_ids[row])
        axes.plot(
            own / sorting.sampling_rate,
            np.full(len(own), height),
            "v",
            color=f"C{unit % 10}",
            label=str(unit),
        )
    if axes.get_legend_handles_labels()[0]:
        axes.legend(title="unit", loc="upper right", fontsize=7)


def _store(sorting: Sorting, name: str) -> Store:
    from yass_dask.store import store_of

    store = store_of(sorting.path)
    if store is None:
        raise InputError(f"{name} reads the clean traces: open the sorting from the folder of its sort")
    return store


def _read(recording: Recording, start: int, stop: int) -> np.ndarray:
    traces = recording.source.read(start, stop).astype(np.float32)
    return traces if recording.gain_to_uv is None else traces * recording.gain_to_uv.astype(np.float32)
