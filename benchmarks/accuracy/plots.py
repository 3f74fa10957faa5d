"""Pictures of the results: accuracy on every recording, and accuracy against SNR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.lines import Line, read
from benchmarks.accuracy.names import NAMES, ORACLE, OURS, PEERS
from benchmarks.accuracy.report import gather

SORTERS = (OURS, ORACLE, *PEERS)
SNR_EDGES = np.geomspace(3.0, 30.0, 9)
DPI = 80


def write(results: Path) -> None:
    """Draw both pictures beside the file of the lines."""
    import matplotlib

    matplotlib.use("Agg")
    lines = read(results)
    if not lines:
        return
    for name, draw in (("recordings", draw_recordings), ("snr", draw_snr)):
        figure = draw(lines)
        figure.savefig(results.with_name(f"{results.stem}_{name}.png"), dpi=DPI, metadata={"Software": None})


def draw_recordings(lines: list[Line]) -> Any:
    """Accuracy of each sorter on each recording, one dot a seed."""
    from matplotlib.figure import Figure

    gathered = {name: runs for name, runs in gather(lines).items() if name in NAMES}
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for index, sorter in enumerate(SORTERS):
        places, values = [], []
        for row, runs in enumerate(gathered.values()):
            for line in (line for run in runs if run.sorter == sorter for line in run.finished):
                places.append(row + (index - len(SORTERS) / 2) * 0.1)
                values.append(line["scores"]["accuracy"])
        if values:
            axes.plot(places, values, "o", ms=5, color=f"C{index}", label=sorter)
    axes.set(ylabel="mean accuracy over true units", ylim=(0, 1), xticks=range(len(gathered)))
    axes.set_xticklabels(list(gathered))
    axes.grid(axis="y", alpha=0.3)
    axes.legend(ncols=4, fontsize="small")
    return figure


def draw_snr(lines: list[Line]) -> Any:
    """Mean accuracy of all units of all recordings without drift, by their SNR."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, hybrid in zip(panels, (False, True), strict=True):
        for index, sorter in enumerate(SORTERS):
            snr, accuracy = _units(lines, sorter, hybrid)
            if len(snr):
                axes.plot(*_by_snr(snr, accuracy), "o-", ms=4, color=f"C{index}", label=sorter)
        title = "hybrid recordings" if hybrid else "synthetic recordings"
        axes.set(title=title, xscale="log", xlabel="SNR of the true unit", ylim=(0, 1))
        axes.set_xticks([3, 5, 8, 15, 30], ["3", "5", "8", "15", "30"])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    panels[0].set_ylabel("mean accuracy")
    return figure


def _units(lines: list[Line], sorter: str, hybrid: bool) -> tuple[np.ndarray, np.ndarray]:
    mine = [
        line["units"]
        for name, runs in gather(lines).items()
        if name.startswith("hybrid") == hybrid and "drift" not in name
        for run in runs
        if run.sorter == sorter
        for line in run.finished
    ]
    empty = np.empty(0)
    snr, accuracy = (np.concatenate([empty, *(units[field] for units in mine)]) for field in ("snr", "accuracy"))
    return snr, accuracy


def _by_snr(snr: np.ndarray, accuracy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Geometric middle of each bin with units, and their mean accuracy."""
    bins = np.clip(np.digitize(snr, SNR_EDGES) - 1, 0, len(SNR_EDGES) - 2)
    used = np.unique(bins)
    middles = np.sqrt(SNR_EDGES[used] * SNR_EDGES[used + 1])
    return middles, np.array([accuracy[bins == index].mean() for index in used])
