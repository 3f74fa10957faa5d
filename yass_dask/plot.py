"""Plots for notebooks; matplotlib is needed for these only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from yass_dask.motion import Motion
    from yass_dask.recording import Recording
    from yass_dask.sorting import Sorting

N_COLUMNS = 5


def plot_templates(sorting: Sorting, unit_ids: Sequence[int] | None = None, *, n_channels: int = 12) -> Figure:
    """Draw the templates of units (all by default), each waveform where its contact lies.

    Parameters
    ----------
    n_channels : channels drawn per unit, those where the template is largest

    Raises
    ------
    InputError
        A unit is unknown, or matplotlib is not installed.
    """
    units, rows = _units(sorting, unit_ids)
    figure, panels = _panels(len(units), height=3.0)
    for unit, row, axes in zip(units, rows, panels, strict=True):
        template = sorting.templates[row]
        sizes = np.ptp(template, axis=0)
        channels = np.argsort(-sizes, kind="stable")[:n_channels]
        _draw_template(axes, template[:, channels], sorting.probe.positions[channels])
        axes.set_title(f"unit {unit} {sorting.about(unit).get('label', '')}", fontsize=9)
    return figure


def plot_autocorrelograms(
    sorting: Sorting, unit_ids: Sequence[int] | None = None, *, window_ms: float = 30.0, bin_ms: float = 0.5
) -> Figure:
    """Draw spikes per second at each lag before and after a unit's own spikes; red lines at 2 ms.

    Raises
    ------
    InputError
        A unit is unknown, or matplotlib is not installed.
    """
    units, _ = _units(sorting, unit_ids)
    figure, panels = _panels(len(units), height=2.0)
    for unit, axes in zip(units, panels, strict=True):
        edges, rates = autocorrelogram(sorting.times_of(unit), sorting.sampling_rate, window_ms, bin_ms)
        axes.stairs(rates, edges, fill=True, color="0.3")
        for limit in (-2.0, 2.0):
            axes.axvline(limit, color="tab:red", linewidth=0.6)
        axes.set_title(f"unit {unit}, {len(sorting.times_of(unit))} spikes", fontsize=9)
        axes.set_xlabel("lag (ms)")
    return figure


def plot_traces(
    recording: Recording,
    start_s: float,
    end_s: float,
    *,
    sorting: Sorting | None = None,
    residual: Recording | None = None,
    channels: Sequence[int] | None = None,
) -> Figure:
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
    figure, (axes,) = _panels(1, height=1.5 + 0.25 * len(shown), width=11.0)
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
    return figure


def plot_motion(motion: Motion) -> Figure:
    """Draw how many peaks came from each depth over time, the same held still, and the displacement of each window.

    Parameters
    ----------
    motion : `Motion.load` of the folder `motion` in the output of a sort

    Raises
    ------
    InputError
        matplotlib is not installed.
    """
    figure, panels = _panels(3, height=3.2, width=14.0)
    depths, times = motion.raster_depths_um, motion.times_s
    moved = motion.at(times, depths)
    # What lies at a depth of the still tissue came from where that was at the time.
    still = np.stack([np.interp(depths + shift, depths, row) for shift, row in zip(moved, motion.raster, strict=True)])
    shown = (("peaks as they came", motion.raster), ("held still", still))
    for axes, (title, image) in zip(panels, shown, strict=False):
        axes.pcolormesh(times, depths, np.sqrt(image.T), cmap="Greys", shading="nearest", rasterized=True)
        axes.set_title(title, fontsize=9)
        axes.set_ylabel("depth (um)")
    for window, depth in enumerate(motion.depths_um):
        path, doubt = motion.displacement[:, window], motion.uncertainty[:, window]
        panels[0].plot(times, depth + path, color=f"C{window % 10}", linewidth=1.0)
        panels[2].plot(times, path, color=f"C{window % 10}", linewidth=1.0, label=f"{depth:.0f} um")
        panels[2].fill_between(times, path - doubt, path + doubt, color=f"C{window % 10}", alpha=0.3, linewidth=0)
    panels[2].set_title("none is followed" if motion.is_none else "displacement", fontsize=9)
    panels[2].set_ylabel("um")
    panels[2].legend(title="depth", fontsize=7)
    for axes in panels:
        axes.set_xlabel("time (s)")
    return figure


def autocorrelogram(
    times: np.ndarray, sampling_rate: float, window_ms: float, bin_ms: float
) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the bins (ms) and spikes per second in each, relative to every spike of an ascending train."""
    n_bins = max(1, round(window_ms / bin_ms))
    edges = np.linspace(-window_ms, window_ms, 2 * n_bins + 1)
    lags = []
    for order in range(1, len(times)):
        ahead = (times[order:] - times[:-order]) / sampling_rate * 1e3
        ahead = ahead[ahead < window_ms]
        if not len(ahead):
            break
        lags.append(ahead)
    counts = np.histogram(np.concatenate([[], *lags]), edges[n_bins:])[0]
    rates = counts / max(len(times), 1) / (window_ms / n_bins / 1e3)
    return edges, np.concatenate([rates[::-1], rates])


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise InputError("plots need matplotlib, which is not installed; pip install matplotlib") from error
    return pyplot


def _panels(count: int, *, height: float, width: float | None = None) -> tuple[Figure, list[Axes]]:
    """A figure with that many panels; the rest of its grid stays blank."""
    columns = min(max(count, 1), N_COLUMNS)
    n_rows = -(-max(count, 1) // columns)
    size = (width or 2.4 * columns, height * n_rows)
    figure, grid = _pyplot().subplots(n_rows, columns, figsize=size, squeeze=False, layout="constrained")
    panels = list(grid.flat)
    for blank in panels[count:]:
        blank.set_axis_off()
    return figure, panels[:count]


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


def _read(recording: Recording, start: int, stop: int) -> np.ndarray:
    traces = recording.source.read(start, stop).astype(np.float32)
    return traces if recording.gain_to_uv is None else traces * recording.gain_to_uv.astype(np.float32)
