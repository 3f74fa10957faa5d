"""The table of what YASS's documentation promises is whole: every row has tests, or a reason why not."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

from coverage_rows import OPEN, TABLE, features
from zeros import ZEROED

import yass_dask.compat

TESTS = Path(__file__).parent
MARK = re.compile(r"(?:@row|mark\.coverage_row)\(([^)]*)\)")


def marked() -> set[str]:
    """Rows that some test is marked with."""
    found = set()
    for path in TESTS.glob("test_*.py"):
        for arguments in MARK.findall(path.read_text(encoding="utf-8")):
            found |= set(re.findall(r'"(A[\d.]+)"', arguments))
    return found


def test_every_row_has_a_test_or_a_reason():
    assert len(features()) > 140
    assert set(features()) - marked() - set(OPEN) == set()


def test_marks_and_reasons_are_of_rows_that_exist():
    assert (marked() | set(OPEN) | set(ZEROED.values())) - set(features()) == set()
    assert set(ZEROED.values()) <= marked()


def test_the_table_lists_every_row_and_none_that_failed():
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| A")]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == list(features())
    assert not [line for line in lines if "FAILED" in line or "NO TEST" in line]


def test_every_public_function_is_zeroed_by_the_check():
    """Functions and classes that the modules of compat export."""
    known = {target.split(".")[-1] if target.count(".") < 2 else target.split(".")[1] for target in ZEROED}
    known |= {target.split(".")[-1] for target in ZEROED}
    modules = ("", ".preprocess", ".detect", ".cluster", ".templates", ".deconvolute", ".geometry", ".batch")
    for name in modules:
        module = import_module("yass_dask.compat" + name)
        for public in module.__all__:
            if public not in yass_dask.compat.MODULES and isinstance(
                getattr(module, public, None), type | type(marked)
            ):
                assert public in known, f"{name}.{public}"
