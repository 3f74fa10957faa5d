"""The log of a sort: plain in its file, short on the console."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path

import pytest

from yass_dask.errors import InputError
from yass_dask.logs import logging_to


def lines_of(folder: Path) -> list[str]:
    return (folder / "yass.log").read_text(encoding="utf-8").splitlines()


@pytest.mark.coverage_row("A3.6")
def test_line_has_name_function_date_level_and_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to(tmp_path, "INFO"):
        logging.getLogger("yass_dask.detect").info("%d of %d chunks found", 3, 7)
    (line,) = lines_of(tmp_path)
    pattern = r"yass_dask\.detect@test_line\w+ \d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO 3 of 7 chunks found"
    assert re.fullmatch(pattern, line)
    assert capsys.readouterr().err == "3 of 7 chunks found\n"


def test_the_console_gets_the_message_and_a_warning_its_level(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to(tmp_path, "INFO") as logger:
        logger.info("2 workers")
        logger.info("3 of 7 chunks found", extra={"file_only": True})
        logger.warning("a channel is dead")
    assert capsys.readouterr().err == "2 workers\nwarning: a channel is dead\n"
    assert len(lines_of(tmp_path)) == 3


@pytest.mark.coverage_row("A2.2")
@pytest.mark.parametrize(("level", "n_lines"), [("debug", 3), ("INFO", 2), ("WARNING", 1), ("CRITICAL", 0)])
def test_level_decides_what_is_logged(tmp_path: Path, level: str, n_lines: int) -> None:
    with logging_to(tmp_path, level) as logger:
        logger.debug("a")
        logger.info("b")
        logger.warning("c")
    assert len(lines_of(tmp_path)) == n_lines


def test_other_libraries_get_their_warnings_in_and_no_more(tmp_path: Path) -> None:
    other = logging.getLogger("other")
    other.setLevel("DEBUG")
    with logging_to(tmp_path, "DEBUG"), warnings.catch_warnings():
        warnings.simplefilter("always")
        other.info("chatter")
        other.warning("watch out")
        warnings.warn("deprecated", stacklevel=1)
    text = "\n".join(lines_of(tmp_path))
    assert "chatter" not in text
    assert "watch out" in text
    assert "deprecated" in text


@pytest.mark.parametrize("error", [RuntimeError("broken"), InputError("bad"), KeyboardInterrupt()])
def test_error_is_told_in_the_file_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    with pytest.raises(type(error)) as caught, logging_to(tmp_path, "INFO"):
        raise error
    assert caught.value.__notes__ == [f"the log is {tmp_path / 'yass.log'}"]
    text = "\n".join(lines_of(tmp_path))
    assert "Traceback" in text
    assert type(error).__name__ in text
    assert capsys.readouterr().err == ""


@pytest.mark.coverage_row("A3.5", "A13.1")
def test_a_terminal_gets_colour_and_the_file_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with logging_to(tmp_path, "INFO") as logger:
        logger.warning("hot")
    shown = capsys.readouterr().err
    assert "\x1b[" in shown
    assert "hot" in shown
    assert "\x1b" not in "\n".join(lines_of(tmp_path))


def test_log_is_appended_to(tmp_path: Path) -> None:
    for word in ("first", "second"):
        with logging_to(tmp_path, "INFO") as logger:
            logger.info(word)
    assert [line.split()[-1] for line in lines_of(tmp_path)] == ["first", "second"]


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    root, ours = logging.getLogger(), logging.getLogger("yass_dask")
    before = (list(root.handlers), root.level, ours.level)
    with pytest.raises(ValueError), logging_to(tmp_path, "DEBUG"):
        raise ValueError
    assert (root.handlers, root.level, ours.level) == before


def test_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "yass.log").mkdir()
    with pytest.raises(InputError, match=r"yass\.log: cannot be written"), logging_to(tmp_path, "INFO"):
        pass
