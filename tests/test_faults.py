"""A small sample of the fault matrix of `make bench-trust`: the same code, each fault once.

Kills are in `test_sort_resume.py`, `test_cluster_kills.py` and `test_cluster_ends.py`.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.trust import __main__ as trust
from benchmarks.trust import report, same, seen
from benchmarks.trust.lab import Lab

SAMPLE = {
    "two_at_once": 2,
    "input_replaced": 1,
    "disk_full": 1,
    "store_read_only": 2,
    "input_unmounted": 1,
    "other_version": 1,
    "scheduler_not_there": 1,
}
"""Fault -> what is seen of it"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.make(tmp_path_factory.mktemp("lab"))


@pytest.mark.kill
@pytest.mark.parametrize("fault", SAMPLE)
def test_fault(lab: Lab, fault: str) -> None:
    found = list(trust.inject(fault, lab, random.Random(3), 1))
    if found[0].skipped:
        pytest.skip(found[0].skipped)
    assert len(found) <= SAMPLE[fault]
    assert [one for one in found if not one.is_good or one.lost] == []


def test_tables_tell_what_was_not_well() -> None:
    good = seen.Seen("a kill", -9, "", 0, "goes on", True)
    bad = seen.Seen("a kill", 1, "no | way", 3, "fails", False)
    text = seen.table([good, bad, seen.Seen("a flood", 0, "", 0, "", True, skipped="no water")])
    assert "| a kill | 2, **1 of them not well** |" in text
    assert "no \\| way (1)" in text
    assert "| 3 |" in text
    assert "| a flood | 0 | not tried: no water |" in text


def test_pages_are_made_of_lines(tmp_path: Path) -> None:
    lines, docs = tmp_path / "trust.jsonl", tmp_path / "docs.md"
    docs.write_text("before\n<!-- faults -->\nold\n<!-- /faults -->\nafter\n")
    report.add_same(same.Run("local", 9, 4, 1, "", ("b",)), "an older batch", "make x", lines)
    for run in (same.Run("local", 3, 2, 1, "", ()), same.Run("local", 4, 1, 2, "even", ("a",))):
        report.add_same(run, "this batch", "make x", lines)
    report.add_faults([seen.Seen("a kill", -9, "", 5, "fails", False)], "make x", lines)
    report.add_faults([seen.Seen("a kill", -9, "", 0, "goes on", True)], "make x", lines)
    text = report.write_pages(lines, docs)
    assert "2 runs, tasks in random order: 1 gave the same bytes in every chunk" in text
    assert "| local | 2 | 3, 4 | 1, 2 | even | 1 |" in text
    assert "goes on" in text
    assert "fails" not in text, "the last run of a fault counts"
    assert docs.read_text().startswith("before\n<!-- faults -->\n| what happens")
    assert docs.read_text().endswith("<!-- /faults -->\nafter\n")
