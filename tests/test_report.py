"""The report: what it shows is true, in a real browser too, and it needs nothing from elsewhere."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import browser
from yass_dask import Sorting, SortParams, sort
from yass_dask.cli import app
from yass_dask.errors import InputError
from yass_dask.evaluate import trains, write_stability
from yass_dask.geometry import Probe
from yass_dask.kernels.find_peaks_numpy import find_peaks
from yass_dask.motion.displacement import Motion
from yass_dask.report import draw, html_report, motion, remarks, sampled
from yass_dask.report import page as report_page
from yass_dask.report.units import numbers_of
from yass_dask.runtime import Executor
from yass_dask.store import Store

PROGRAM = browser.find()
CARD = "document.querySelector('#unit-{} [data-fact=\"{}\"]').textContent"


@pytest.fixture(scope="module")
def out(small_sorted, tmp_path_factory) -> Path:
    """A folder of its own, with a report."""
    folder = tmp_path_factory.mktemp("report") / "out"
    shutil.copytree(small_sorted.folder, folder)
    told = CliRunner().invoke(app, ["report", str(folder)])
    assert told.exit_code == 0, told.output
    assert str(folder / "report.html") in told.output
    return folder


@pytest.fixture(scope="module")
def page(out: Path) -> Iterator[browser.Page]:
    if PROGRAM is None:
        pytest.skip("no browser (chromium or chrome) on this machine")
    with browser.opened(PROGRAM, (out / "report.html").as_uri()) as opened:
        yield opened


def violations(times: np.ndarray, rate: float) -> int:
    return sum(1 for a, b in pairwise(times) if (b - a) / rate <= 0.002)


def test_the_numbers_on_the_page_are_true(page, out, small_sorted):
    sorting = Sorting.open(out)
    assert page.ask("document.querySelector('[data-fact=units]').textContent") == str(sorting.n_units)
    assert page.ask("document.querySelector('[data-fact=spikes]').textContent") == f"{sorting.n_spikes:,}"
    for unit in sorting.unit_ids.tolist():
        times, about = sorting.times_of(unit), sorting.about(unit)
        assert page.ask(CARD.format(unit, "spikes")) == f"{len(times):,}"
        assert page.ask(CARD.format(unit, "rate")) == f"{len(times) / 10:.2f} Hz"
        assert page.ask(CARD.format(unit, "SNR")) == f"{about['snr']:.1f}"
        assert page.ask(CARD.format(unit, "violations")).startswith(f"{violations(times, 30000.0)} (")
        stretches = np.unique(times * 20 // sorting.n_samples)
        assert page.ask(CARD.format(unit, "presence")) == f"{5 * len(stretches)} %"
        assert about["why"] in page.ask(f"document.querySelector('#unit-{unit} .audit').textContent")
        title = page.ask(f"document.querySelector('#maps a[href=\"#unit-{unit}\"] title').textContent")
        assert title == f"unit {unit}: {len(times):,} spikes, {about['label']}"
    assert page.ask("document.querySelectorAll('.card').length") == sorting.n_units
    stages = page.ask("[...document.querySelectorAll('#stages tr[data-stage]')].map(r => r.dataset.stage)")
    assert stages == list(Store(out).timings())


def test_peaks_and_power_before_and_after_are_true(page, out, small_sorted):
    """Counted here from the whole of the traces, and from what is left when the sorting's templates are taken away."""
    sorting = Sorting.open(out)
    clean = Store(out).open("preprocess").read(0, sorting.n_samples) / 64.0
    left = clean.copy()
    scales = np.abs(sorting.amplitudes) / np.abs(sorting.templates).max(axis=(1, 2))[sorting.unit_rows]
    for sample, row, scale in zip(sorting.sample_index, sorting.unit_rows, scales, strict=True):
        start = sample - sorting.template_peak
        wave = scale * sorting.templates[row] / (sorting.trace_gain * 64)
        stretch = slice(max(start, 0), min(start + len(wave), len(left)))
        left[stretch] -= wave[stretch.start - start : stretch.stop - start]

    def shown(name: str) -> float:
        return float(page.ask(f"document.querySelector('[data-fact=\"{name}\"]').textContent").replace(",", ""))

    assert shown("rms before") == pytest.approx(np.sqrt((clean**2).mean()), abs=6e-4)
    # pursuit places spikes between samples, this test does not
    assert shown("rms after") == pytest.approx(np.sqrt((left**2).mean()), rel=0.03)
    assert 0.9 < shown("rms after") < 1 < shown("rms before")
    near = np.where(sorting.probe.neighbors(100.0), np.arange(8), 8)
    rule = {"threshold": 4.5, "sign": 0, "exclusion": 12, "neighbors": near, "first": 0, "stop": 30000}
    blocks = [clean[start : start + 30000].astype(np.float32) for start in range(0, len(clean), 30000)]
    assert shown("peaks before") == sum(len(find_peaks(block, **rule)[0]) for block in blocks)
    assert shown("peaks after") < 0.05 * shown("peaks before")


def test_the_table_sorts_and_the_buttons_choose(page, out):
    sorting = Sorting.open(out)
    page.ask("document.querySelectorAll('#units th')[2].click()")
    order = page.ask("[...document.querySelectorAll('#units tbody tr')].map(r => +r.dataset.unit)")
    counts = [len(sorting.times_of(unit)) for unit in order]
    assert counts == sorted(counts, reverse=True)
    page.ask("document.querySelector('nav button[value=good]').click()")
    shown = page.ask("[...document.querySelectorAll('.card:not([hidden])')].map(c => +c.id.slice(5))")
    assert shown == [unit for unit in sorting.unit_ids.tolist() if sorting.about(unit)["label"] == "good"]
    page.ask("document.querySelector('nav button[value=\"\"]').click()")
    assert page.ask("document.querySelectorAll('.card:not([hidden])').length") == sorting.n_units


def test_it_fits_every_window_and_raises_no_error(page):
    for width in (360, 1600):
        page.look(width, 800, dark=width == 360)
        page.until(f"innerWidth === {width}")
        assert page.ask("document.documentElement.scrollWidth") <= width
    assert page.errors == []


def test_it_needs_nothing_from_elsewhere(out):
    text = (out / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']?[^#\"'\s]|url\(|@import|https?://", text)


def test_without_traces_it_says_so(out, tmp_path):
    shutil.copytree(out, tmp_path / "o")
    Store(tmp_path / "o").drop_traces()
    text = Sorting.open(tmp_path / "o").report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "were deleted (--delete-traces)" in text
    assert text.count('class="card"') == Sorting.open(out).n_units


def test_a_sorting_in_memory_needs_a_path(small_sorted, tmp_path):
    sorting = replace(small_sorted.sorting, path=None)
    with pytest.raises(InputError, match="say where the report goes"):
        sorting.report()
    assert sorting.report(tmp_path / "new" / "r.html").is_file()


def test_names_are_escaped(small_sorted):
    rows = [dict(row, why="<script>alert(1)</script>") for row in small_sorted.sorting.units]
    assert "<script>alert" not in html_report(replace(small_sorted.sorting, units=rows, path=None))


def test_nothing_found(small_sorted):
    s = small_sorted.sorting
    none = replace(
        s, sample_index=[], unit_index=[], amplitudes=[], templates=s.templates[:0], unit_ids=[], unit_locations=[],
        units=[], path=None,
    )  # fmt: skip
    assert "No unit was found." in html_report(none)


# --- what is said in words ---


def seen_of(before: list[int], after: list[int]) -> sampled.Sampled:
    n, nothing = len(before), np.zeros(0)
    return sampled.Sampled(10, 4.5, np.array(before), np.array(after), np.ones(n), np.ones(n), *[nothing] * 3)


def test_unexplained_peaks_are_told_by_channel(small_sorted):
    seen = seen_of([100, 100, 200, 100, 10, 60, 0, 0], [0, 40, 60, 1, 9, 30, 0, 0])
    first = remarks.remarks(small_sorted.sorting, [], seen)[1]
    assert first.startswith("25 % of 570 threshold crossings (4.5 noise standard deviations, in 10 s looked at)")
    assert first.endswith("; 36 % on channels 1-2, 5.")
    assert remarks.remarks(small_sorted.sorting, [], seen_of([100] * 8, [1] * 8))[1].endswith("are subtracted.")


def test_units_to_look_at_are_named(small_sorted):
    sorting = small_sorted.sorting
    units = numbers_of(sorting, sampled.main_channels(sorting, 4))
    a, b, *rest = units
    early = np.arange(1000, sorting.n_samples // 2, 700)
    half = replace(a, times=early, presence=trains.presence(early, sorting.n_samples), contamination=0.3)
    fading = np.where(b.times < sorting.n_samples / 2, 2.0, 1.0) * b.amplitudes
    said = remarks.remarks(sorting, [half, replace(b, amplitudes=fading, expected_accuracy=0.5), *rest], None)
    assert f"1 unit: more than 10 % of the spikes may be of others ({a.unit})." in said
    assert any(f"silent in more stretches of the recording than its rate explains ({a.unit})" in line for line in said)
    assert any(f"its amplitude changes by half or more from begin to end: drift, or two units in one ({b.unit})" in line
               for line in said)  # fmt: skip
    assert any(f"expected to be right and found ({b.unit})" in line for line in said)


# --- trains and drawings ---


def test_crosscorrelogram_counts_by_hand():
    edges, rates = trains.crosscorrelogram(np.array([100, 1000]), np.array([70, 110, 1045]), 20000.0, 4.0, 1.0)
    # lags: -1.5, 0.5 and 2.25 ms, each once among 2 spikes, in bins of 1 ms
    np.testing.assert_allclose(edges, np.arange(-4, 5))
    np.testing.assert_allclose(rates, np.array([0, 0, 1, 0, 1, 0, 1, 0]) / 2 / 1e-3)


def test_crosscorrelogram_with_itself_is_the_autocorrelogram_and_the_spikes_themselves():
    times = np.sort(np.random.default_rng(0).choice(20000, 300, replace=False))
    _, own = trains.autocorrelogram(times, 20000.0, 10.0, 1.0)
    _, other = trains.crosscorrelogram(times, times, 20000.0, 10.0, 1.0)
    assert other.sum() - own.sum() == pytest.approx(1000)


@pytest.mark.parametrize(("low", "high"), [(0, 60), (-3, 7.2), (0, 1e-4), (5, 5), (0, 86400)])
def test_ticks_are_round_and_inside(low, high):
    found = draw.ticks(low, high)
    assert 1 <= len(found) <= 8
    assert all(low <= value <= high for value in found)
    assert max(len(f"{value:g}") for value in found) <= 6


def test_a_line_goes_where_its_points_are():
    path = draw.line(np.array([1.0, 2.5, 2.0]), np.array([3.0, 1.0, 1.04]))
    assert path == '<path class="" d="M10 30l15-20-5 0"/>'


def test_a_sort_with_fewer_rounds_is_looked_at_with_its_own_templates(out, small_sorted, tmp_path):
    """The stages of the longer sort before it still lie in the folder."""
    shutil.copytree(out, tmp_path / "o")
    fewer = SortParams(n_refinements=0)
    sorting = sort(small_sorted.recording, tmp_path / "o", fewer, client=Executor("sync"))
    source = sampled.residual_of(sorting, Store(tmp_path / "o"))
    assert set(sorting.unit_ids.tolist()) <= set(source.templates.load().ids.tolist())
    assert len(source.templates.load()) == len(Store(tmp_path / "o").open("templates")["ids"])


# --- motion, stability, many units ---


def motion_of(displacement: np.ndarray, why_none: str = "") -> Motion:
    n_times, n_windows = displacement.shape
    return Motion(
        displacement, np.full_like(displacement, 0.5), np.arange(n_times) * 2.0, 20.0 * np.arange(n_windows),
        np.zeros((n_times, 3), np.uint32), np.array([0.0, 20, 40]), why_none,
    )  # fmt: skip


def test_displacement_at_each_peak_is_the_motions_own():
    rng = np.random.default_rng(0)
    for n_windows in (1, 2, 5):
        moved = motion_of(rng.normal(0, 10, (7, n_windows)))
        seconds, depths = rng.uniform(-1, 14, 40), rng.uniform(-30, 120, 40)
        expected = np.diagonal(moved.at(seconds, depths))
        np.testing.assert_allclose(motion.at_each(moved, seconds, depths), expected, atol=1e-9)


def test_motion_is_shown_where_it_was_followed_and_told_where_not(out, tmp_path):
    shutil.copytree(out, tmp_path / "o")
    assert "Motion of the tissue" not in html_report(Sorting.open(tmp_path / "o"))  # it was not looked for
    path = np.linspace(0, 30, 6)[:, None] * np.ones((1, 2))
    motion_of(path).save(tmp_path / "o" / "motion")
    text = html_report(Sorting.open(tmp_path / "o"))
    assert "The tissue moved along the probe, from 0 to 30 um of where it mostly was (uncertain by 0.5 um)" in text
    assert text.count('aria-label="depth of peaks over time"') == 2
    assert text.count('aria-label="displacement of the tissue over time"') == 1
    motion_of(0 * path, "the tissue moves by less than 6 um").save(tmp_path / "o" / "motion")
    text = html_report(Sorting.open(tmp_path / "o"))
    assert "No motion of the tissue was followed: the tissue moves by less than 6 um." in text
    assert text.count('aria-label="depth of peaks over time"') == 1


def test_stability_is_shown_once_it_is_measured(out, tmp_path):
    shutil.copytree(out, tmp_path / "o")
    sorting = Sorting.open(tmp_path / "o")
    assert "stable %" not in html_report(sorting)
    rows = [
        {"unit_id": unit, "moved": False, "n_spikes": 100, "stability": 0.5 + 0.1 * row, "false_positives": 0.0,
         "added_found": None}
        for row, unit in enumerate(sorting.unit_ids.tolist())
    ]  # fmt: skip
    write_stability(sorting, rows, rate=0.25, moved_share=0.2, seed=0)
    text = html_report(sorting)
    assert "<th>stable %</th>" in text
    for row in rows:
        card = text[text.index(f'id="unit-{row["unit_id"]}"') :]
        assert re.search(r'data-fact="stable">(\d+) %', card)[1] == f"{100 * row['stability']:.0f}"  # type: ignore[index]
    assert "when 25 % more spikes of every unit were added" in text
    named = ", ".join(str(row["unit_id"]) for row in rows if row["stability"] < 0.79)
    assert f"less than 80 % of its spikes were found again in the perturbed recording ({named})" in text


def many_units(n_units: int) -> tuple[Sorting, sampled.Sampled]:
    """A made-up sort of an hour on a long probe, and what was seen of its traces."""
    rng, n_channels, length = np.random.default_rng(0), 384, 61
    positions = np.stack([16.0 * (np.arange(n_channels) % 4), 20.0 * (np.arange(n_channels) // 2)], axis=1)
    templates = np.zeros((n_units, length, n_channels), np.float32)
    for unit in range(n_units):
        first = int(rng.integers(0, n_channels - 12))
        templates[unit, :, first : first + 12] = rng.normal(0, 40, (length, 12))
    labels = np.repeat(np.arange(n_units), rng.integers(200, 1200, n_units))
    words = "a cluster of its own that pursuit confirmed; units 1001, 1002 were merged into it"
    units = [{"unit_id": unit, "label": "good", "why": words, "snr": 8.0} for unit in range(n_units)]
    units += [{"unit_id": n_units + k, "state": "dropped", "why": words} for k in range(2 * n_units)]
    sorting = Sorting(
        rng.integers(100, 108_000_000, len(labels)), labels, rng.normal(200, 20, len(labels)), templates,
        np.arange(n_units), rng.uniform(0, 3800, (n_units, 2)), units, 30000.0, 108_000_000, 20, Probe(positions),
        np.arange(n_channels), np.ones(n_channels),
    )  # fmt: skip
    peaks = {"seconds": rng.uniform(0, 3600, 9000), "depth_um": rng.uniform(0, 3800, 9000),
             "height_sd": rng.uniform(4, 30, 9000)}  # fmt: skip
    channels = sampled.main_channels(sorting, 6)
    seen = sampled.Sampled(
        60.0, 4.5, rng.integers(100, 4000, n_channels), rng.integers(0, 99, n_channels), np.ones(n_channels),
        np.ones(n_channels), np.full(n_units, 200), rng.uniform(5, 30, (n_units, length, 6)), channels, peaks,
        sampled.Example(3.0, *rng.normal(size=(2, 1200, n_channels))),
    )  # fmt: skip
    return sorting, seen


def test_five_hundred_units_are_less_than_ten_megabytes(monkeypatch):
    sorting, seen = many_units(500)
    gather = report_page.gather
    monkeypatch.setattr(report_page, "gather", lambda sorting: replace(gather(sorting), seen=seen))
    text = html_report(sorting)
    assert len(text.encode()) < 10_000_000
    assert text.count('class="card"') == 500


def test_a_page_never_grows_beyond_its_bound(monkeypatch):
    sorting, seen = many_units(60)
    gather = report_page.gather
    monkeypatch.setattr(report_page, "gather", lambda sorting: replace(gather(sorting), seen=seen))
    monkeypatch.setattr(report_page, "MOST_BYTES", 900_000)
    text = html_report(sorting)
    shown = text.count('class="card"')
    assert 10 < shown < 60
    assert len(text.encode()) < 901_000
    assert f"{60 - shown} more units have no card" in text
    assert text.count("<tr data-unit=") == 60
