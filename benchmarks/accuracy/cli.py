"""Command line of the accuracy benchmark.

python -m benchmarks.accuracy make np32 --seed 1 --out FOLDER
python -m benchmarks.accuracy run --datasets np32 --sorters yass_dask lupin --seeds 1 2 3
python -m benchmarks.accuracy report
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy import datasets, lines, sorters
from benchmarks.accuracy.names import NAMES, ORACLE, OTHER_NAMES, OURS, PEERS, check_sorter


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    _add_make(commands.add_parser("make", help="write one recording with its truth"))
    _add_run(commands.add_parser("run", help="make, sort, compare; one line of JSON each"))
    _add_report(commands.add_parser("report", help="tables and plots from the lines"))
    chosen = parser.parse_args(arguments)
    chosen.act(chosen)


def _add_make(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=(*NAMES, *OTHER_NAMES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    _add_recording_options(parser)
    parser.set_defaults(act=_make)


def _add_recording_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, help="folder of the real templates, for hybrids")
    parser.add_argument("--seconds", type=float, help="length, for a quick run")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--datasets", nargs="+", choices=("all", *NAMES, *OTHER_NAMES), default=["all"])
    parser.add_argument("--sorters", nargs="+", type=check_sorter, default=[OURS, *PEERS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--oracle", action="store_true", help="add our pursuit with the true templates, the bound")
    _add_recording_options(parser)
    parser.add_argument("--work", type=Path, default=lines.RESULTS.parent / "work", help="recordings and outputs")
    parser.add_argument("--results", type=Path, default=lines.RESULTS, help="file that gets the lines")
    parser.add_argument("--peers-python", type=Path, default=Path(".venv-peers/bin/python"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes or threads of a sorter")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one sort")
    parser.add_argument("--resume", action="store_true", help="skip runs that have a line already")
    parser.add_argument("--warm", action="store_true", help="sort a small recording first, to fill compile caches")
    parser.add_argument("--timing-disturbed", action="store_true", help="say in the lines that other load ran beside")
    parser.set_defaults(act=_run)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=lines.RESULTS)
    parser.set_defaults(act=_report)


def _make(chosen: argparse.Namespace) -> None:
    print(datasets.make(chosen.name, chosen.seed, chosen.out, chosen.data, chosen.seconds))


def _run(chosen: argparse.Namespace) -> None:
    from benchmarks.accuracy.runs import Plan, run_all

    names = NAMES if "all" in chosen.datasets else chosen.datasets
    wanted = [*chosen.sorters, *([ORACLE] if chosen.oracle else [])]
    plan = Plan(
        datasets=tuple(dict.fromkeys(names)),
        seeds=tuple(chosen.seeds),
        sorters=tuple(dict.fromkeys(wanted)),
        data=chosen.data,
        seconds=chosen.seconds,
        work=chosen.work.resolve(),
        results=chosen.results.resolve(),
        conditions=sorters.Conditions(chosen.peers_python.absolute(), chosen.jobs, chosen.timeout),
        resume=chosen.resume,
        timing_disturbed=chosen.timing_disturbed,
    )
    run_all(plan, warm=chosen.warm)


def _report(chosen: argparse.Namespace) -> None:
    from benchmarks.accuracy import plots, report

    report.write(chosen.results)
    plots.write(chosen.results)
