"""`yass verify` and `yass selftest`: exit code 0 where all is well, 1 where it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from yass_dask import options as opt

Run = Callable[[Callable[[], str]], None]
"""Prints what a command gives, or leaves with an exit code and a message."""

NOT_WELL = 1


def add_checks(app: typer.Typer, run: Run) -> None:
    """Add the commands to an application."""

    @app.command()
    def verify(out: opt.Sorted) -> None:
        """Check all that was stored against its checksums; the next sort makes again what is damaged."""
        from yass_dask.commands import run_verify

        _check(run, lambda: run_verify(out))

    @app.command()
    def selftest(
        scheduler: Annotated[
            str, typer.Option(metavar="threads|sync|local|tcp://...|FILE.json", help="Where tasks run.")
        ] = "threads",
        workers: Annotated[int | None, typer.Option(min=1, help="Number of workers here [default: cores].")] = None,
        folder: Annotated[
            Path | None,
            typer.Option(
                help="Where it works, and leaves its files; one that all hosts see [default: a temporary one]"
            ),
        ] = None,
    ) -> None:
        """Sort a simulated recording and check it: no spike lost or doubled at borders, accuracy, disk."""
        from yass_dask.commands import run_selftest

        _check(run, lambda: run_selftest(scheduler, workers, folder))


def _check(run: Run, command: Callable[[], tuple[str, bool]]) -> None:
    """Print what a check tells, and leave with exit code 1 where all is not well."""
    verdicts = []

    def told() -> str:
        text, is_well = command()
        verdicts.append(is_well)
        return text

    run(told)
    if not all(verdicts):
        raise typer.Exit(NOT_WELL)
