"""How a command ends: what it says, and its exit code."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable
from typing import NoReturn

import typer

from yass_dask.errors import InputError

FAULT, BAD_INPUT, INTERRUPTED = 1, 2, 130


def run(command: Callable[[], str]) -> None:
    """Print what a command returns, or one message on stderr; leave with the exit code."""
    try:
        typer.echo(command())
    except InputError as error:
        _leave(str(error), BAD_INPUT)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            _fail(error)
        name = str(error.filename)
        _leave(f"A path is longer than the file system allows: {name[:60]}... ({len(name)} letters)", BAD_INPUT)
    except KeyboardInterrupt:
        _leave("interrupted; the same command goes on from what is finished", INTERRUPTED)
    except Exception as error:
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    story = getattr(error, "__notes__", None) or [traceback.format_exc()]
    _leave("\n".join([f"{type(error).__name__}: {error}", *story]), FAULT)


def _leave(message: str, code: int) -> NoReturn:
    typer.echo(f"yass: {message}", err=True)
    raise typer.Exit(code)
