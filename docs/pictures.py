"""Draws the pictures of the stages' pages: `make docs-pictures`, or `python docs/pictures.py [FOLDER]`.

Everything is computed by the stages themselves on two simulated recordings, so a picture shows what a stage does today.
Backgrounds are transparent and letters grey: the same file is read on light and on dark pages.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import moving
import numpy as np

from yass_dask import backends, from_array, simulate, sort
from yass_dask.pipeline import SortParams
from yass_dask.preprocess import COUNTS_PER_SD, Clean, measure_scale, preprocess
from yass_dask.report.sampled import residual_of
from yass_dask.residual import residual
from yass_dask.session import running

HERE = Path(__file__).parent / "pictures"
INK, STRONG, WARM, COLD, CALM = "#7f8790", "#3d8bd4", "#e0703c", "#4aa587", "#b07cc6"
STYLE = {
    "axes.edgecolor": INK, "axes.labelcolor": INK, "axes.spines.right": False, "axes.spines.top": False,
    "axes.titlecolor": INK, "figure.dpi": 110, "font.size": 10, "legend.frameon": False, "legend.labelcolor": INK,
    "savefig.transparent": True, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
}  # fmt: skip


# --- what is drawn ---


def sorted_recording(folder: Path, n_channels: int = 32, seconds: float = 60, n_units: int = 28) -> SimpleNamespace:
    """A simulated recording, sorted: its traces, and every stage's result. `shown` are the channels that are drawn."""
    truth = simulate(n_channels=n_channels, seconds=seconds, n_units=n_units, seed=11, snr=(5, 20))
    recording = from_array(truth.traces, truth.sampling_rate, truth.positions, truth.gain_to_uv)
    sorting = sort(recording, folder)
    params = SortParams()
    with running(recording, folder, backend="auto", client=None, seed=0, progress=None) as (keep, _, _, backend):
        # The same recipes: both are found on disk.
        scale = keep("scale", measure_scale(recording, params.preprocess, backend))
        clean = keep("preprocess", preprocess(recording, scale, params.preprocess, backend))
    shown = n_channels // 4 + max(1, n_channels // 16) * np.arange(4)
    return SimpleNamespace(truth=truth, sorting=sorting, clean=clean, params=params, folder=folder, shown=shown)


def stage(work: SimpleNamespace, name: str) -> dict[str, np.ndarray]:
    """Every field of a stage's result."""
    from yass_dask.store import Store

    table = Store(work.folder).open(name)
    return {field: np.asarray(table[field][:]) for field in table}


def clean_sd(clean: Clean, start: int, stop: int) -> np.ndarray:
    """Clean traces in noise standard deviations."""
    return clean.recording.source.read(start, stop) / COUNTS_PER_SD


def lines(
    axes: Any, ms: np.ndarray, traces: np.ndarray, channels: np.ndarray, step: float, color: str = STRONG,
    width: float = 0.8,
) -> None:  # fmt: skip
    for k, trace in enumerate(traces.T):
        axes.plot(ms, trace + k * step, color=color, linewidth=width)
    axes.set_yticks(np.arange(traces.shape[1]) * step, [str(c) for c in channels])
    axes.set_ylabel("channel")
    axes.set_xlabel("time (ms)")


# --- the pictures ---


def draw_preprocess(work: SimpleNamespace) -> None:
    start, stop = 60_000, 66_000
    ms = np.arange(stop - start) / 30
    _, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    raw = work.truth.traces[start:stop, work.shown] * work.truth.gain_to_uv[work.shown]
    lines(left, ms, raw, work.shown, 160)
    left.set_title("raw")
    lines(right, ms, clean_sd(work.clean, start, stop)[:, work.shown], work.shown, 14)
    right.set_title("clean")


def draw_noise(work: SimpleNamespace) -> None:
    from yass_dask.noise import measure_noise

    noise = measure_noise(work.clean, work.params.preprocess, "numpy")
    opened = noise.open(stage(work, "noise"))
    x = clean_sd(work.clean, 0, 300_000).astype(np.float32)
    quiet = np.abs(x).max(axis=1) < 4
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
    for axes, traces, title in zip(panels, (x, opened.whiten(x, "numba")), ("before", "after whitening"), strict=True):
        image = axes.imshow(np.corrcoef(traces[quiet].T), vmin=-1, vmax=1, cmap="RdBu_r")
        axes.set_title(f"correlation of the noise, {title}")
        axes.set_xlabel("channel")
    panels[0].set_ylabel("channel")
    figure.colorbar(image, ax=panels, shrink=0.8)


def draw_detect(work: SimpleNamespace) -> None:
    peaks = stage(work, "detect")
    shown = np.arange(work.shown[0], work.shown[-1] + 1)
    inside = np.isin(peaks["channel_index"], shown)
    # The 60 ms in which most peaks are not clear.
    unclear = np.bincount(peaks["sample_index"][inside & ~peaks["is_clear"]] // 1800)
    start = int(unclear.argmax()) * 1800
    inside &= (peaks["sample_index"] >= start) & (peaks["sample_index"] < start + 1800)
    figure, axes = plt.subplots(figsize=(10, 4), layout="constrained")
    lines(axes, np.arange(1800) / 30, clean_sd(work.clean, start, start + 1800)[:, shown], shown, 14, INK)
    for clear, marker, color, name in ((True, "v", STRONG, "clear"), (False, "v", WARM, "not clear")):
        mine = inside & (peaks["is_clear"] == clear)
        height = 14 * (peaks["channel_index"][mine] - shown[0]) + 6
        axes.plot((peaks["sample_index"][mine] - start) / 30, height, marker, color=color, label=name)
    figure.legend(loc="outside upper right", ncols=2)


def shared_channel(work: SimpleNamespace, features: dict[str, np.ndarray]) -> int:
    """The channel on which most peaks are of another neuron than its busiest one."""
    labels = truth_near(work, features["sample_index"])

    def others(channel: int) -> int:
        own = labels[(features["channel_index"] == channel) & (labels >= 0)]
        return len(own) - int(np.bincount(own, minlength=1).max())

    return max(np.unique(features["channel_index"]).tolist(), key=others)


def plane(features: np.ndarray) -> np.ndarray:
    """(n, 2): the two directions in which features vary most."""
    flat = features.reshape(len(features), -1)
    flat = flat - flat.mean(axis=0)
    return flat @ np.linalg.svd(flat, full_matrices=False)[2][:2].T


def truth_near(work: SimpleNamespace, samples: np.ndarray) -> np.ndarray:
    """Label of the true spike within 0.4 ms, -1 where there is none."""
    truth = work.truth
    order = np.argsort(truth.spike_times)
    times, labels = truth.spike_times[order], truth.spike_labels[order]
    at = np.clip(np.searchsorted(times, samples), 1, len(times) - 1)
    nearest = np.where(np.abs(times[at] - samples) < np.abs(times[at - 1] - samples), at, at - 1)
    return np.where(np.abs(times[nearest] - samples) <= 12, labels[nearest], -1)


def draw_features(work: SimpleNamespace) -> None:
    features = stage(work, "features")
    mine = features["channel_index"] == shared_channel(work, features)
    points, labels = plane(features["features"][mine]), truth_near(work, features["sample_index"][mine])
    _, axes = plt.subplots(figsize=(6, 4.2), layout="constrained")
    scatter(axes, points, labels, "true neuron")


def scatter(axes: Any, points: np.ndarray, labels: np.ndarray, name: str) -> None:
    palette = [STRONG, WARM, COLD, CALM, "#c9a227", "#5b6ee1", "#d0537f", "#6b8e23"]
    kinds, counts = np.unique(labels, return_counts=True)
    for k, label in enumerate(kinds[np.argsort(-counts)][:8]):
        some = labels == label
        color = INK if label < 0 else palette[k % len(palette)]
        shown = "none" if label < 0 else f"{name} {label}"
        axes.plot(*points[some].T, ".", markersize=3, color=color, label=f"{shown}: {some.sum()}")
    for limit, values in ((axes.set_xlim, points[:, 0]), (axes.set_ylim, points[:, 1])):
        low, high = np.quantile(values, (0.005, 0.995))
        limit(low - 0.3 * (high - low), high + 0.3 * (high - low))
    axes.set_xlabel("first principal direction (noise sd)")
    axes.set_ylabel("second (noise sd)")
    axes.legend(markerscale=3, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def draw_cluster(work: SimpleNamespace) -> None:
    features, clusters = stage(work, "features"), stage(work, "cluster")
    channel = shared_channel(work, features)
    mine = features["channel_index"] == channel
    samples, points = features["sample_index"][mine], plane(features["features"][mine])
    own = clusters["channel_index"] == channel
    label = dict(zip(clusters["sample_index"][own].tolist(), clusters["cluster_index"][own].tolist(), strict=True))
    _, axes = plt.subplots(figsize=(6, 4.2), layout="constrained")
    scatter(axes, points, np.array([label.get(int(s), -1) for s in samples]), "cluster")


def draw_templates(work: SimpleNamespace) -> None:
    sorting = work.sorting
    largest = np.argsort(-np.ptp(sorting.templates, axis=1).max(axis=1))[:4]
    _, panels = plt.subplots(1, 4, figsize=(10, 4), layout="constrained", sharey=True)
    for axes, row in zip(panels, largest, strict=True):
        template = sorting.templates[row]
        channels = np.argsort(-np.ptp(template, axis=0))[:14]
        scale = 34 / np.ptp(template, axis=0).max()
        for channel in channels:
            x, y = sorting.probe.positions[channel]
            axes.plot(x + np.linspace(-14, 14, len(template)), y + scale * template[:, channel], color=STRONG, lw=1)
        axes.set_title(f"unit {sorting.unit_ids[row]}, {np.ptp(template):.0f} uV", fontsize=10)
        axes.set_xlabel("x (um)")
    panels[0].set_ylabel("depth (um)")


def collision(sorting: Any, near: np.ndarray) -> int:
    """Sample of two spikes of large neighbouring units within 0.5 ms."""
    main = np.ptp(sorting.templates, axis=1).argmax(axis=1)[sorting.unit_rows]
    sizes = np.ptp(sorting.templates, axis=1).max(axis=1)[sorting.unit_rows]
    times, here = sorting.sample_index, np.isin(main, near)
    gap = np.diff(times)
    good = here[:-1] & here[1:] & (gap <= 15) & (gap > 2) & (sorting.unit_rows[:-1] != sorting.unit_rows[1:])
    return int(times[:-1][good][np.minimum(sizes[:-1], sizes[1:])[good].argmax()])


def draw_deconvolve(work: SimpleNamespace) -> None:
    source = residual_of(work.sorting, store_of(work))
    left = residual(source.clean, source.templates, source.spikes, source.backend)
    near = np.arange(work.shown[0] - 2, work.shown[-1] + 3)
    start = collision(work.sorting, near) - 240
    stop = start + 600
    ms = np.arange(stop - start) / 30
    _, axes = plt.subplots(figsize=(10, 4), layout="constrained")
    lines(axes, ms, clean_sd(work.clean, start, stop)[:, work.shown], work.shown, 22, INK, 1.2)
    lines(axes, ms, left.source.read(start, stop)[:, work.shown], work.shown, 22, WARM, 0.9)
    first, last = np.searchsorted(work.sorting.sample_index, (start, stop))
    main = np.ptp(work.sorting.templates, axis=1).argmax(axis=1)[work.sorting.unit_rows]
    for k in range(first, last):
        if main[k] in near:
            row = int(np.abs(work.shown - main[k]).argmin())
            when = (work.sorting.sample_index[k] - start) / 30
            axes.annotate(str(work.sorting.unit_index[k]), (when, 22 * row + 9), color=STRONG, ha="center")
    axes.set_title("grey: clean traces; orange: what the spikes found (units' numbers) leave", fontsize=10)


def store_of(work: SimpleNamespace) -> Any:
    from yass_dask.store import Store

    return Store(work.folder)


def draw_merge(work: SimpleNamespace) -> None:
    """Two clusters with a valley between them, and one cluster cut in two."""
    from yass_dask.cluster import discriminant

    valley = backends.kernel("valley", "numba")
    features = stage(work, "features")
    channel = shared_channel(work, features)
    mine = features["channel_index"] == channel
    values = features["features"][mine].reshape(int(mine.sum()), -1)
    labels = truth_near(work, features["sample_index"][mine])
    kinds, counts = np.unique(labels[labels >= 0], return_counts=True)
    first, second = kinds[np.argsort(-counts)][:2]
    half = np.arange((labels == first).sum()) % 2 == 0
    pairs = (
        (values[labels == first], values[labels == second], "two neurons"),
        (values[labels == first][half], values[labels == first][~half], "one neuron, cut in two"),
    )
    _, panels = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for axes, (a, b, title) in zip(panels, pairs, strict=True):
        along = [x @ discriminant(a, b) for x in (a, b)]
        edges = np.linspace(*np.quantile(np.concatenate(along), (0.001, 0.999)), 60)
        # The lowest density between the two, as a share of the lower peak.
        axes.hist(along, edges, stacked=True, color=(STRONG, WARM))
        axes.set_title(f"{title}: valley {valley(*along):.2f}", fontsize=10)
        axes.set_xlabel("along the axis that separates them best")
    panels[0].set_ylabel("spikes")


PICTURES: dict[str, Callable[[SimpleNamespace], None]] = {
    "preprocess": draw_preprocess,
    "noise": draw_noise,
    "detect": draw_detect,
    "features": draw_features,
    "cluster": draw_cluster,
    "templates": draw_templates,
    "deconvolve": draw_deconvolve,
    "merge": draw_merge,
}


def save(name: str, folder: Path) -> None:
    """One PNG of few colours: small enough to be kept with the pages."""
    plt.savefig(folder / f"{name}.png", dpi=110)
    plt.close("all")


def make(folder: Path) -> None:
    """Draw all of them into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work, plt.rc_context(STYLE):
        still = sorted_recording(Path(work) / "still")
        for name, draw in PICTURES.items():
            draw(still)
            save(name, folder)
        moving.draw_motion(moving.moving_recording(Path(work) / "moving"), INK, WARM)
        save("motion", folder)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
