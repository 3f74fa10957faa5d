"""Command line of the accuracy benchmark.

    python -m benchmarks.accuracy make np32 --seed 1 --out FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.accuracy import datasets


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    make = commands.add_parser("make", help="write one recording with its truth")
    make.add_argument("name", choices=(*datasets.NAMES, *datasets.OTHER_NAMES))
    make.add_argument("--seed", type=int, default=1)
    make.add_argument("--out", type=Path, required=True)
    make.add_argument("--data", type=Path, help="folder of the real templates, for hybrids")
    make.add_argument("--seconds", type=float, help="length, for a quick run")
    make.set_defaults(act=_make)
    chosen = parser.parse_args()
    chosen.act(chosen)


def _make(chosen: argparse.Namespace) -> None:
    print(datasets.make(chosen.name, chosen.seed, chosen.out, chosen.data, chosen.seconds))
