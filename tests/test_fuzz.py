"""Bad input of every kind, some hundred cases; `python -m benchmarks.fuzz` runs as many as one likes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from benchmarks.fuzz.__main__ import KINDS, Told, table
from benchmarks.fuzz.damage import Change, Wound, changed, hurt
from benchmarks.fuzz.ground import check_message, listing, untouched

SOME = {"config": 60, "binary": 120, "geometry": 120, "store": 60, "model": 60, "train": 60, "cli": 40, "sort": 3}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a warning stops nobody
@pytest.mark.parametrize("name", KINDS)
def test_bad_input(name: str, tmp_path: Path) -> None:
    """Every case is taken or refused in words; the same cases each time."""
    kind, taken = KINDS[name][0](tmp_path / name), set()

    @seeded(1)
    @settings(
        max_examples=SOME[name], deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(kind.cases())
    def one(case: Any) -> None:
        taken.add(kind.check(case))

    one()
    kind.close()
    assert False in taken, "nothing was refused: the cases are too tame"


# The watchers themselves


def test_a_short_message_is_a_finding() -> None:
    with pytest.raises(AssertionError, match="too little"):
        check_message("bad file")
    with pytest.raises(AssertionError, match="insides"):
        check_message("the file holds <class 'int'> in place of numbers")
    check_message("a.npy: cannot be read; give another one")


def test_a_stray_file_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with untouched(tmp_path, tmp_path / "out"):
        (tmp_path / "out" / "result").write_text("x")
    with pytest.raises(AssertionError, match="stray"), untouched(tmp_path, tmp_path / "out"):
        (tmp_path / "stray").write_text("x")
    assert set(listing(tmp_path, tmp_path / "out")) == {"stray"}


def test_findings_are_counted_by_place_and_shown() -> None:
    told = Told()
    for case in ("a long case", "short"):
        try:
            {}["key"]
        except KeyError as error:
            told.fail(case, error)
    ((place, (times, case, _)),) = told.findings.items()
    assert place.startswith("KeyError at test_fuzz.py:")
    assert (times, case) == (2, "'short'")
    told.taken.update([True, False, False])
    assert "| config | 5 | 1 | 2 | 2 | 0 |" in table({"config": told}, 7)


def test_wounds_and_changes_do_what_they_say() -> None:
    assert hurt(b"abcdef", [Wound("cut", 2, b"x")]) == b"ab"
    assert hurt(b"abcdef", [Wound("write", 7, b"XY")]) == b"aXYdef"
    assert hurt(b"abcdef", [Wound("insert", 1, b"-")]) == b"a-bcdef"
    assert hurt(b"abcdef", [Wound("flip", 0, b"\x01")]) == b"`bcdef"
    assert hurt(b"", [Wound("flip", 0, b"\x01"), Wound("remove", 3, b"x")]) == b""
    good = {"a": {"b": 1}, "c": [2, 3]}
    assert changed(good, [Change("drop", 0, None)]) == {"c": [2, 3]}
    assert changed(good, [Change("put", 1, "x")]) == {"a": {"b": "x"}, "c": [2, 3]}
    assert changed(good, [Change("rename", 1, "z")]) == {"a": {"z": 1}, "c": [2, 3]}
    assert good == {"a": {"b": 1}, "c": [2, 3]}, "the good one stays good"
