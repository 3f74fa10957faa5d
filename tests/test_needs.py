"""What a sort is said to take, against what sorts took; and what grows with the channels, but not with their square."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import long
from yass_dask import SortParams, Store, sort
from yass_dask.geometry import nearest_channels
from yass_dask.geometry.channels import find_channel_neighbors
from yass_dask.matching import LowRank, pair_overlaps, pairs
from yass_dask.needs import (
    ANEW_US,
    CLEANING_US,
    Needs,
    disk_bytes,
    left_of,
    memory_bytes,
    needs_of,
    one_line,
    said,
    table,
)
from yass_dask.noise import CHANNELS_AT_ONCE, _noise_sums, pairs_of, sums_of_pairs
from yass_dask.runtime import Executor, plan
from yass_dask.runtime.plan import PROCESS_BYTES
from yass_dask.simulate import stream
from yass_dask.sorting import SpreadTemplates
from yass_dask.sorting.files import _save_templates

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
GB = 2**30
DAY = 86_400.0
STREAMED_US = 200.0
"""Microseconds of a core to make a second of a channel, as docs/long.md tells."""


def planned(channels: int, seconds: float, *, geometry: str = "neuropixels", store_traces: bool = True) -> list[Needs]:
    recording = stream(channels, seconds, max(1, channels // 2), geometry=geometry)
    chunks = plan(recording, None, None, 2, store_traces=store_traces)
    recording = recording.with_chunks(chunks.chunk_blocks, chunks.part_blocks)
    return needs_of(recording, SortParams(), store_traces=store_traces)


def core_s(needs: list[Needs]) -> float:
    return sum(step.core_s for step in needs)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("store_traces", [True, False])
def test_a_sort_never_has_more_on_disk_than_was_said(tmp_path: Path, store_traces: bool) -> None:
    """Looked at whenever a task has ended, its scratch beside everything kept; nor much less than was said."""
    out, most = tmp_path / "out", [0]

    class Watching(Executor):
        def run(
            self, tasks: Mapping[str, Any], on_done: Callable[[str], None], *, label: str = "task", where: Any = "any"
        ) -> None:
            def done(name: str) -> None:
                on_done(name)
                most[0] = max(most[0], size_of(out))

            super().run(tasks, done, label=label, where=where)

    recording = stream(8, 12.0, 4, 3, snr=(8, 20)).with_chunks(3)
    needs = needs_of(recording, SortParams(), store_traces=store_traces)
    sort(recording, Store(out, store_traces=store_traces), client=Watching("sync"))
    most[0] = max(most[0], size_of(out))
    assert most[0] <= disk_bytes(needs) <= 12 * most[0]


def measured_sorts() -> list[dict[str, Any]]:
    """The newest line of each long sort that was measured, and of those that stored no traces."""
    lines = []
    for name in ("scaling.jsonl", "long.jsonl"):
        path = RESULTS / name
        lines += [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    newest = {}
    for line in lines:
        seconds = 60 * line["minutes"] if line["kind"] == "sort" else line.get("seconds", 0)
        if line["kind"] in ("sort", "long") and seconds * line["channels"] >= 30 * 384:
            stored = line["kind"] == "sort" or line["store_traces"]
            newest[line["channels"], seconds, stored] = line
    return [line | {"seconds": s, "store_traces": stored} for (_, s, stored), line in newest.items()]


def made_s(line: dict[str, Any], geometry: str) -> float:
    """CPU time that went into making a streamed recording, as often as its blocks were cleaned; 0 for a file."""
    if line["kind"] == "sort":
        return 0.0
    cleaned = line["channels"] * line["seconds"]
    if not line["store_traces"]:
        anew, once = (core_s(planned(line["channels"], line["seconds"], geometry=geometry, store_traces=stored))
                      for stored in (False, True))  # fmt: skip
        cleaned = (anew - once + 1e-6 * CLEANING_US * cleaned) / (1e-6 * ANEW_US)
    return 1e-6 * STREAMED_US * cleaned


@pytest.mark.parametrize("line", measured_sorts(), ids=lambda line: f"{line['channels']}-{line['seconds']:g}")
def test_core_time_is_that_of_measured_sorts(line: dict[str, Any]) -> None:
    """Those of `make bench-scaling` and `make bench-long`, extrapolated from by every plan."""
    geometry = "grid" if line["channels"] > 1024 else "neuropixels"
    needs = planned(line["channels"], line["seconds"], geometry=geometry, store_traces=line["store_traces"])
    assert 0.4 < line["cpu_s"] / (core_s(needs) + made_s(line, geometry)) < 2.5
    if "disk_mb" in line:
        assert line["disk_mb"] * 1e6 <= disk_bytes(needs)


def test_measured_sorts_are_found() -> None:
    sizes = {(line["channels"], line["seconds"]) for line in measured_sorts()}
    assert {(32, 3600.0), (384, 60.0)} <= sizes


def test_seven_days_of_384_channels() -> None:
    """All but the steps that go through everything is as for an hour; these grow with the time."""
    hour, days = planned(384, 3600.0), planned(384, 7 * DAY)
    assert [step.name for step in hour] == [step.name for step in days]
    short, long = ({step.name: step for step in needs} for needs in (hour, days))
    for name in ("detection, clustering", "round 1", "round 2"):
        assert long[name].kept_bytes == pytest.approx(short[name].kept_bytes, rel=0.02)
        assert long[name].core_s == pytest.approx(short[name].core_s, rel=0.02)
    for name in ("preprocessing", "last pursuit"):
        assert long[name].core_s == pytest.approx(168 * short[name].core_s, rel=0.05)
    traces = 7 * DAY * 30_000 * 384 * 2
    assert 2 * traces < disk_bytes(days) < 2.1 * traces, "twice: the tissue may move"
    assert disk_bytes(planned(384, 7 * DAY, store_traces=False)) < 0.01 * traces


def test_steps_that_are_done_need_nothing() -> None:
    """But traces that were not stored, where they are to be now."""
    stored, anew = planned(32, 60.0), planned(32, 60.0, store_traces=False)
    done = ["scale", "noise", "spectrum", "detect", "templates", "templates_0", "templates_1", "even", "deconvolve"]
    assert [step.name for step in left_of(anew, done)] == ["results"]
    assert [step.name for step in left_of(stored, done)] == ["preprocessing", "results"]
    assert [step.name for step in left_of(stored, [*done, "preprocess"])] == ["results"]
    assert left_of(stored, []) == stored
    # Whether the third round comes is known once the motion is: it is left as long as no pursuit is the last one.
    assert [step.name for step in left_of(anew, done[:-2])] == ["round 3", "last pursuit", "results"]


def test_the_text_tells_the_sum_and_the_largest() -> None:
    recording = stream(32, 3600.0).with_chunks(10)
    chunks, needs = plan(recording, None, None, 2), needs_of(recording, SortParams())
    lines = table(needs, chunks).splitlines()
    assert len(lines) == 2 + len(needs)
    assert said(core_s(needs) / 2) in lines[-1]
    assert f"{disk_bytes(needs) / GB:.4g} GB of disk" in lines[-1]
    assert one_line(needs, chunks) in lines[-1]
    late = [*needs, Needs("end", 0, 0, 0, 0, "", 100 * GB)]
    assert memory_bytes(late, chunks) == 100 * GB + PROCESS_BYTES
    assert memory_bytes(needs[:2], chunks) == chunks.peak_bytes


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.0, "3 s"), (119.0, "119 s"), (150.0, "2.5 min"), (7200.0, "2 h"), (7 * DAY, "7 d")]
)
def test_times_are_said_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert said(seconds) == text


# --- what grows with the channels ---


def near_of(n_channels: int) -> np.ndarray:
    positions = np.stack([np.tile([0.0, 32.0], n_channels // 2), np.repeat(20.0 * np.arange(n_channels // 2), 2)], 1)
    return nearest_channels(find_channel_neighbors(positions, 150.0), positions, 24)


def test_sums_of_pairs_are_those_of_the_whole_product() -> None:
    """In pieces beyond CHANNELS_AT_ONCE, the last one shorter."""
    for n_channels in (30, 2 * CHANNELS_AT_ONCE + 10):
        x = np.random.default_rng(0).normal(size=(500, n_channels)).astype(np.float32)
        found = pairs_of(near_of(n_channels))
        assert (found[0] <= found[1]).all()
        assert len(np.unique(found, axis=1).T) == found.shape[1]
        whole = (x.T @ x)[found[0], found[1]]
        np.testing.assert_allclose(sums_of_pairs(x, found), whole, atol=1e-3)


def test_pairs_are_all_that_neighbourhoods_hold() -> None:
    near = np.array([[0, 1, 4], [1, 0, 2], [2, 1, 4], [3, 4, 4]])
    assert pairs_of(near).T.tolist() == [[0, 0], [0, 1], [0, 2], [1, 1], [1, 2], [2, 2], [3, 3]]


def test_noise_sums_grow_with_the_channels() -> None:
    clean = SimpleNamespace(to_sd=lambda block: block)
    sizes = []
    for n_channels in (400, 800):
        block = np.random.default_rng(1).normal(size=(300, n_channels)).astype(np.float32)
        part = _noise_sums(block, near_of(n_channels), 5, clean, 1)  # type: ignore[arg-type]
        sizes.append(sum(values.nbytes for values in part.values()))
    assert sizes[1] < 2.1 * sizes[0]
    assert sizes[1] < 0.1 * 2 * 8 * 800**2, "of all pairs"


def peak_of(function: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def some_units(n_units: int) -> LowRank:
    """Two units a channel, each on eight channels."""
    rng, n_channels = np.random.default_rng(2), n_units // 2
    support = (np.minimum(np.arange(n_units) // 2, n_channels - 8)[:, None] + np.arange(8)).astype(np.int32)
    temporal, spatial = rng.normal(size=(n_units, 3, 20)), rng.normal(size=(n_units, 3, 8))
    ones = np.ones(n_units, np.float32)
    return LowRank(temporal.astype(np.float32), spatial.astype(np.float32), support, ones, ones)


def test_overlaps_of_templates_grow_with_the_channels() -> None:
    peaks = []
    for n_units in (400, 800):
        ranked = some_units(n_units)
        start, other = pairs(ranked, n_units // 2)
        peaks.append(peak_of(lambda: pair_overlaps(ranked, start, other, n_units // 2)))  # noqa: B023
    assert peaks[1] < 2.3 * peaks[0]


def test_templates_are_written_without_holding_all_channels() -> None:
    rng, n_units, n_channels = np.random.default_rng(3), 50, 2000
    channels = np.sort(rng.integers(0, n_channels, (n_units, 6)), axis=1)
    channels = np.where(np.diff(channels, prepend=-1, axis=1) == 0, n_channels, channels)
    waveforms = rng.normal(size=(n_units, 30, 6)).astype(np.float32)
    spread = SpreadTemplates(np.where(channels[:, None] < n_channels, waveforms, 0), channels, n_channels)
    assert spread.shape == (n_units, 30, n_channels)
    assert len(spread) == n_units
    dense = np.stack(list(spread))
    expected, found = io.BytesIO(), io.BytesIO()
    np.save(expected, dense)
    _save_templates(found, spread)
    assert found.getvalue() == expected.getvalue()
    for unit in (0, 17):
        kept = channels[unit] < n_channels
        np.testing.assert_array_equal(dense[unit][:, channels[unit][kept]], waveforms[unit][:, kept])
        assert np.count_nonzero(dense[unit].any(axis=0)) == kept.sum()

    class Nowhere(io.RawIOBase):
        def write(self, data: Any) -> int:
            return len(data)

    assert peak_of(lambda: _save_templates(Nowhere(), spread)) < 0.2 * dense.nbytes


# --- `make bench-long` ---


def test_long_recordings_are_sorted_and_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The benchmark on its shortest: it says first what it takes, and a line tells how it went."""
    results = tmp_path / "long.jsonl"
    words = ["--case", "12h-32", "--seconds", "8", "--work", str(tmp_path / "work"), "--results", str(results)]
    long.main(words)
    (line,) = [json.loads(text) for text in results.read_text().splitlines()]
    assert (line["channels"], line["seconds"], line["runs"], line["store_traces"]) == (32, 8.0, 1, False)
    assert line["true_units"] == 16
    assert line["mean_accuracy_snr5"] > 0.7
    assert 100 < line["peak_mb"] <= 1.05 * line["limit_mb"]
    assert 0 < line["disk_mb"] < 100
    assert line["units"] > 5
    text = capsys.readouterr().out
    assert f"| 32 | 8 s | no | 2 | {line['wall_s'] / 60:.1f} min" in text
    assert results.with_suffix(".md").read_text() in text


def test_the_week_is_planned_by_the_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    long.main(["--plan"])
    text = capsys.readouterr().out
    told = (ROOT / "docs" / "long.md").read_text(encoding="utf-8").split("```")[1].removeprefix("text\n")
    assert told in text, "docs/long.md shows another plan"
    assert "384 channels x 7 d, preprocessed traces not stored" in text
    assert f"{disk_bytes(planned(384, 7 * DAY, store_traces=False)) / GB:.4g} GB of disk" in text
