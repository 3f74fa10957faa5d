"""The table of what YASS's documentation promises, and the proof that its tests look.

`python tests/coverage_rows.py table` runs every test that stands for a row and writes docs/yass-coverage.md.
`python tests/coverage_rows.py check` replaces each public function of yass_dask.compat by one that returns zeros of the
right shape, runs the tests of its row, and fails where none of them does.
"""

from __future__ import annotations

import collections
import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from zeros import ROWS, ZEROED

TESTS = Path(__file__).parent
TABLE = TESTS.parent / "docs" / "yass-coverage.md"

OPEN: dict[str, str] = {}
"""Rows without a test, and why."""

HEAD = """# What YASS's documentation promises

One line a feature of YASS 0.10's documentation. Written by `make coverage-table` from the marks of the tests; `make
coverage-check` proves that the tests look: it replaces every function by one that returns zeros.

| row | feature | state | tests |
|---|---|---|---|
"""


class Rows:
    """A pytest plugin: the tests of every row, and how they ended."""

    def __init__(self) -> None:
        self.tests: dict[str, dict[str, set[str]]] = collections.defaultdict(lambda: collections.defaultdict(set))
        self._rows: dict[str, list[str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self._rows[item.nodeid] = [row for mark in item.iter_markers("coverage_row") for row in mark.args]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        name = report.nodeid.split("[")[0].removeprefix("tests/")
        for row in self._rows.get(report.nodeid, []):
            self.tests[row][name].add(report.outcome)


def features() -> dict[str, str]:
    """Row -> what it is about."""
    with open(TESTS / "yass_rows.csv", newline="", encoding="utf-8") as file:
        return {line["row"]: line["item"] for line in csv.DictReader(file)}


def state_of(row: str, tests: dict[str, set[str]]) -> str:
    """passed, FAILED, or open with the reason."""
    outcomes = set().union(*tests.values()) if tests else set()
    if "failed" in outcomes:
        return "FAILED"
    return "passed" if "passed" in outcomes else f"open: {OPEN.get(row, 'NO TEST')}"


def table() -> int:
    """Write the table; 1 if a row failed, or is open without a reason."""
    rows = Rows()
    os.environ[ROWS] = "all"
    sys.path.insert(0, str(TESTS.parent))  # tests import the benchmarks
    pytest.main(["-q", "-p", "no:cacheprovider", str(TESTS)], plugins=[rows])
    lines, bad = [], []
    for row, item in features().items():
        state = state_of(row, rows.tests[row])
        bad += [row] if state == "FAILED" or "NO TEST" in state else []
        cell = item.replace("|", "\\|")
        lines.append(f"| {row} | {cell} | {state} | {', '.join(sorted(rows.tests[row]))} |")
    unknown = sorted(set(rows.tests) - set(features()))
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    counts = collections.Counter(line.split(" | ")[2].split(":")[0] for line in lines)
    sys.stdout.write(f"{TABLE}: {dict(counts)}; bad: {bad or 'none'}; unknown rows: {unknown or 'none'}\n")
    return 1 if bad or unknown else 0


def check(names: list[str]) -> int:
    """Zero one function after the other; 1 if the tests of a row do not mind."""
    blind = []
    for target, row in ZEROED.items():
        if names and target not in names:
            continue
        files = [str(path) for path in TESTS.glob("test_*.py") if f'"{row}"' in path.read_text(encoding="utf-8")]
        words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files]
        environment = {**os.environ, "YASS_DASK_ZEROED": target, ROWS: row}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        red = done.returncode == 1
        sys.stdout.write(f"{row:6} {target}: {'red' if red else 'STILL GREEN'}\n")
        sys.stdout.flush()
        if not red:
            blind.append(target)
            sys.stdout.write(done.stdout[-2000:] + done.stderr[-2000:])
    return 1 if blind else 0


if __name__ == "__main__":
    sys.exit(table() if sys.argv[1] == "table" else check(sys.argv[2:]))
