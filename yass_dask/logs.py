"""Log of a sort: every line with its date in `yass.log`; on the console only what a person waits for.

A record with `extra={"file_only": True}` stays off the console, where progress tells the same.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, cast

from yass_dask.errors import InputError

FILE_NAME = "yass.log"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LINE = "%(name)s@%(funcName)s %(asctime)s %(levelname)s %(message)s"


def check_level(level: str) -> None:
    """Raise InputError for a level that logging does not know."""
    if level.upper() not in LEVELS:
        raise InputError(f"--logger-level is {level!r}: use one of {', '.join(LEVELS)}")


@contextmanager
def logging_to(folder: Path, level: str) -> Iterator[logging.Logger]:
    """Log to `folder/yass.log` (appended to) and to stderr while the context lasts.

    An error that ends the context is written into the file with its traceback, and gets a note of the file.

    Raises
    ------
    InputError
        Unknown level, or the file cannot be written.
    """
    check_level(level)
    handlers = [_file_handler(folder / FILE_NAME), _console_handler()]
    with _handlers(handlers, level.upper()) as logger:
        try:
            yield logger
        except BaseException as error:
            # The console gets one message from the command line instead; the story is for the file.
            logger.error("%s", error or type(error).__name__, exc_info=True, extra={"file_only": True})
            error.add_note(f"the log is {folder / FILE_NAME}")
            raise


@contextmanager
def _handlers(handlers: list[logging.Handler], level: str) -> Iterator[logging.Logger]:
    # On the root logger, so that warnings of dask and others are in the log too, though not their chatter.
    root, ours = logging.getLogger(), logging.getLogger("yass_dask")
    before = ours.level
    ours.setLevel(level)
    logging.captureWarnings(True)
    for handler in handlers:
        handler.addFilter(_is_ours_or_a_warning)
        root.addHandler(handler)
    try:
        yield ours
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
        logging.captureWarnings(False)
        ours.setLevel(before)


def _is_ours_or_a_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] == "yass_dask"


def _file_handler(path: Path) -> logging.Handler:
    try:
        handler = _File(path, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another --output-dir") from error
    handler.setFormatter(logging.Formatter(_LINE))
    return handler


class _File(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing where a line cannot be written: on a full disk the sort itself will say so, once."""


def _console_handler() -> logging.Handler:
    handler = _terminal_handler() if sys.stderr.isatty() else _plain_handler()
    handler.addFilter(lambda record: not getattr(record, "file_only", False))
    return handler


def _plain_handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Short())
    return handler


class _Short(logging.Formatter):
    """The message alone, after its level where that is a warning or worse."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"{record.levelname.lower()}: {text}" if record.levelno >= logging.WARNING else text


def _terminal_handler() -> logging.Handler:
    from rich.console import Console
    from rich.logging import RichHandler

    console = Console(file=cast(TextIO, _CurrentStderr()), force_terminal=True)
    return RichHandler(console=console, show_path=False)


class _CurrentStderr:
    """Whatever `sys.stderr` is at the moment: a progress display replaces it to print above its bars."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()
