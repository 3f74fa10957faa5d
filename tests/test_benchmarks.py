"""The benchmarks' own rules: every number in README comes from a line, and nobody else imports SpikeInterface."""

from __future__ import annotations

import ast
import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.accuracy import lines, measure, names, report
from benchmarks.accuracy.drift import displacement
from benchmarks.accuracy.firing import Trains, draw_trains
from benchmarks.accuracy.folders import config_text
from benchmarks.accuracy.lines import ROOT, latest, read
from benchmarks.accuracy.scores import _collision_recall, _collisions, colliding
from benchmarks.accuracy.synthetic import FAMILIES, contacts, spread_snr
from benchmarks.backends import agreement
from yass_dask.evaluate import Spikes, compare
from yass_dask.evaluate.matching import near_other_unit

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAY_IMPORT_SPIKEINTERFACE = re.compile(
    r"benchmarks/.*|tests/.*|yass_dask/readers\.py|yass_dask/spikeinterface/.*|yass_dask/sorting/.*|yass_dask/sources/.*"
)


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def sources() -> list[Path]:
    folders = ("yass_dask", "benchmarks", "tests", "notebooks")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_spikeinterface_is_imported_at_the_doors_only():
    users = {
        path.relative_to(ROOT).as_posix()
        for path in sources()
        if any(name.split(".")[0] == "spikeinterface" for name in imported(path))
    }
    assert [name for name in users if not MAY_IMPORT_SPIKEINTERFACE.fullmatch(name)] == []


def test_no_stage_calls_another_sorter():
    others = ("spikeinterface.sortingcomponents", "spikeinterface.sorters", "kilosort", "mountainsort5", "hdbscan")
    for path in (ROOT / "yass_dask").rglob("*.py"):
        if path.parent.name != "spikeinterface":  # the door by which SpikeInterface calls this one
            assert [name for name in imported(path) if name.startswith(others)] == [], path


def test_readme_tables_come_from_the_lines():
    told = read(lines.RESULTS)
    assert report.section_of(README, "accuracy") == report.readme_section(told), "run: make bench-report"
    assert report.section_of(README, "speed") == report.speed_section(told), "run: make bench-report"


def test_full_tables_come_from_the_lines():
    assert report.FULL.read_text(encoding="utf-8") == report.full_report(read(lines.RESULTS)), "run: make bench-report"


def test_every_line_tells_where_it_comes_from():
    for line in read(lines.RESULTS):
        assert {"machine", "versions", "commit", "date", "command", "truth", "jobs", "status"} <= set(line)
        assert ("scores" in line) == (line["status"] == "ok")
        assert not re.search(r"(^|[\s\"'=])/(work|home|root|tmp)/", json.dumps(line))


def line(dataset: str, seed: int, sorter: str, accuracy: float, **more: object) -> dict:
    """A line as a run writes it, of one unit."""
    scores = {
        "n_units": 1, "accuracy": accuracy, "n_good": int(accuracy >= 0.8), "accuracy_snr8": accuracy,
        "accuracy_by_snr": {"snr<5": None, "snr5-8": None, "snr8-15": accuracy, "snr>15": None},
        "collision_recall": None,
        **dict.fromkeys(("n_found", "n_false", "n_redundant", "n_overmerged"), 0),
        **dict.fromkeys(("n_redundant_snr8", "n_overmerged_snr8"), 0),
    }  # fmt: skip
    told = {
        "dataset": dataset, "seed": seed, "sorter": sorter, "truth": "a", "seconds_asked": None, "status": "ok",
        "timing_disturbed": False, "x_real_time": 2.0, "peak_mb": 100, "n_channels": 4, "seconds": 60.0,
    }  # fmt: skip
    return {**told, "scores": scores, **more}


def test_readme_compares_on_the_seeds_both_have():
    ran = [line("np32", seed, "yass_dask", 0.95) for seed in (1, 2)]
    ran += [line("np32", 1, "lupin", 0.9), line("np32", 1, "kilosort4", 0.8), line("np32", 1, "oracle", 0.99)]
    section = report.readme_section(ran)
    row = next(text for text in section.splitlines() if text.startswith("| np32"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:4] == ["np32", "1 2", "1", "0.950 ± 0.000"]
    assert cells[8:11] == ["0.990", "lupin (seed 1)", "0.900"]
    assert cells[-1] == "0.50"


def test_a_crash_is_told_and_is_not_the_best():
    crashed = line("np32", 1, "lupin", 0.0, status="crashed")
    del crashed["scores"]
    ran = [line("np32", 1, "yass_dask", 0.9), crashed, line("np32", 1, "kilosort4", 0.5)]
    assert "kilosort4" in report.readme_section(ran)
    assert "| lupin | 1 crashed |" in report.full_report(ran)


def test_latest_line_of_the_recording_as_last_made():
    old, new = line("np32", 1, "lupin", 0.1, truth="a"), line("np32", 1, "yass_dask", 0.2, truth="b")
    short = line("np32", 1, "yass_dask", 0.3, truth="b", seconds_asked=5.0)
    assert list(latest([old, new, short]).values()) == [new]


def test_lines_are_read_back(tmp_path):
    wanted = line("np32", 1, "lupin", 0.5)
    lines.append(tmp_path / "results" / "some.jsonl", wanted)
    assert read(tmp_path / "results" / "some.jsonl") == [wanted]


def test_section_is_replaced_between_the_marks_only():
    begin, end = report.marks("speed")
    text = f"before\n{begin}\nold\n{end}\nafter\n"
    assert report.replaced(text, "speed", "new\n") == f"before\n{begin}\nnew\n{end}\nafter\n"
    with pytest.raises(ValueError, match="no <!--"):
        report.replaced("nothing", "speed", "new\n")


def test_unknown_sorter():
    assert names.check_sorter("paper") == names.PAPER and names.is_ours(names.PAPER)
    assert names.check_sorter("yass_dask:detect.threshold_sd=5") == "yass_dask:detect.threshold_sd=5"
    with pytest.raises(ValueError, match="no sorter"):
        names.check_sorter("guess")


@pytest.mark.parametrize("code, status", [("print(1)", "ok"), ("raise OSError('no')", "crashed")])
def test_measure_tells_how_a_command_ended(tmp_path, code, status):
    ran = measure.measure([sys.executable, "-c", code], tmp_path / "log", 60)
    assert ran.status == status
    assert ran.error == ("OSError: no" if status == "crashed" else "")
    assert ran.cpu_s > 0


def test_measure_stops_the_whole_tree(tmp_path):
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    start = time.monotonic()
    ran = measure.measure([sys.executable, "-c", child], tmp_path / "log", 0.5)
    assert ran.status == "timed out" and time.monotonic() - start < 30
    assert ran.peak_mb > 0


def scene(seed: int = 0) -> dict[str, np.ndarray]:
    """True spikes of four units on four channels, all of which see all units."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(100, 100_000, 4000))
    return {
        "spike_times": times, "spike_labels": rng.integers(0, 4, len(times)), "snr": np.array([4.0, 6.0, 9.0, 12.0]),
        "templates": np.full((4, 3, 4), 10.0), "noise_sd": np.ones(4), "sampling_rate": np.array(30000.0),
    }  # fmt: skip


def test_collision_recall_agrees_with_our_own_comparison():
    truth = scene()
    rng = np.random.default_rng(1)
    kept = rng.random(len(truth["spike_times"])) < 0.8
    found = Spikes(truth["spike_times"][kept] + rng.integers(-2, 3, int(kept.sum())), truth["spike_labels"][kept] + 7)
    agreement = compare(Spikes(truth["spike_times"], truth["spike_labels"]), found, 30000.0, snr=truth["snr"])
    n_collisions, n_hit = _collisions(truth, found, np.arange(4) + 7)
    assert n_collisions.tolist() == [unit.n_collisions for unit in agreement.units]
    np.testing.assert_allclose(n_hit / n_collisions, [unit.collision_recall for unit in agreement.units])
    lost = _collisions(truth, found, np.array([7, 8, -1, 10]))[1]
    assert lost[2] == 0
    recall = _collision_recall(truth["snr"], n_collisions, lost)["collision_recall"]
    assert recall == pytest.approx((lost[1] + lost[3]) / n_collisions[1:].sum())


def test_units_that_share_no_channel_do_not_collide():
    truth = scene()
    truth["templates"] = np.zeros((4, 3, 4))
    for unit in range(4):
        truth["templates"][unit, 1, unit] = 10.0
    assert not colliding(truth).any()


def test_trains_keep_the_refractory_period_and_the_marks():
    for synchronous in (False, True):
        trains = draw_trains(6, 30 * 30000, 30000.0, 5, synchronous=synchronous)
        assert trains.bursting.sum() == 2 and (np.diff(trains.times) >= 0).all()
        for unit in range(6):
            assert np.diff(trains.times[trains.labels == unit]).min() >= 59
        assert set(np.unique(trains.jitters)) <= set(range(5))


def test_half_of_the_spikes_are_synchronous():
    shares = [_synchronous_share(draw_trains(6, 60 * 30000, 30000.0, 5, synchronous=moved)) for moved in (False, True)]
    assert shares[0] < 0.15 and 0.45 < shares[1] < 0.65


def _synchronous_share(trains: Trains) -> float:
    return float(near_other_unit(Spikes(trains.times, trains.labels), 12).mean())


def test_families():
    assert set(FAMILIES) == {*names.SYNTHETIC, *names.DRIFTS, *names.FADING}
    for family in FAMILIES.values():
        assert contacts(family).shape == (family.n_channels, 2)
    assert len({FAMILIES[name].code for name in names.SYNTHETIC}) == len(names.SYNTHETIC)
    assert {FAMILIES[name].code for name in names.DRIFTS} == {FAMILIES["np64drift"].code}  # the same units
    ratios = np.sort(spread_snr(100, np.random.default_rng(0)))
    assert 3 <= ratios[0] < 3.1 and 29 < ratios[-1] <= 30
    drift = displacement("zigzag", 25.0, np.arange(0, 180, 0.1), np.zeros(1800), 180.0)
    assert drift[0] == pytest.approx(0) and drift.min() == pytest.approx(-25) and drift.max() == pytest.approx(25)
    seconds, low, high = np.arange(0, 180, 0.5), np.zeros(360), np.ones(360)
    np.testing.assert_allclose(displacement("ramp", 30.0, seconds, low, 180.0), seconds / 3 - 30)
    assert set(displacement("bumps", 10.0, seconds, low, 180.0)) == {-10.0, 10.0}
    zigzag, nonrigid = (displacement(kind, 25.0, seconds, high, 180.0) for kind in ("zigzag", "nonrigid"))
    np.testing.assert_allclose(nonrigid, 0.3 * zigzag)


def test_agreement_of_backends_counts_samples_and_units_under_other_names():
    expected = np.array([[10, 1], [20, 1], [30, 2], [40, 2]])
    found = np.array([[10, 7], [20, 7], [31, 5], [40, 5]])
    assert agreement(found, expected) == 0.75
    assert agreement(found[:2], expected) == 0.5
    assert agreement(np.array([[10, 7], [20, 7], [30, 7], [40, 7]]), expected) == 0.5
    assert agreement(np.zeros((0, 2), int), expected) == 0


def test_configuration_tells_the_recording_and_nothing_else():
    told = yaml.safe_load(config_text(20000.0, 4))
    assert set(told) == {"data", "resources", "recordings"}
    assert (told["recordings"]["spatial_radius"], told["recordings"]["spike_size_ms"]) == (70, 1.5)


@pytest.mark.coverage_row("A14.3", "A14.6")
def test_the_reader_is_measured_beside_memmap_on_the_same_values(tmp_path):
    """Every loader, both orders; `measure` itself refuses to compare where other values were read."""
    from benchmarks.reader import LOADERS, ORDERS, fastest, measure, reads, written

    lines = list(measure(tmp_path, 5000, 1))
    assert {(line["loader"], line["order"]) for line in lines} == {(a, b) for a in LOADERS for b in ORDERS}
    assert all(line["reader_s"] > 0 and line["memmap_s"] > 0 for line in lines)
    traces = written(tmp_path / "again.bin", 5000, "samples")
    for way in reads(5000).values():
        assert fastest(way, traces, 1)[1] != fastest(way, traces + 1, 1)[1]
