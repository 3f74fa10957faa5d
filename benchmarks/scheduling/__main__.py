"""`python -m benchmarks.scheduling`: measure, simulate, write benchmarks/results/scheduling.jsonl and .md."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.accuracy.lines import ROOT, append, read, surroundings
from benchmarks.scheduling.measure import scheduler_line, sort_line
from benchmarks.scheduling.report import BANDWIDTHS, report

RESULTS = ROOT / "benchmarks" / "results" / "scheduling.jsonl"
MEASURED = ((64, 1.0), (384, 1.0), (64, 4.0))
"""Channels and minutes: the second tells how a stage grows with channels, the third how with time."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("scaling"), help="folder for recordings and sorts")
    parser.add_argument("--again", action="store_true", help="measure nothing, simulate from the last lines")
    parser.add_argument("--bandwidth", type=float, nargs="*", default=BANDWIDTHS, help="bytes a second of all disks")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args(arguments)
    if not asked.again:
        asked.work.mkdir(parents=True, exist_ok=True)
        sort_line(asked.work, 4, 0.1)  # fills the compile caches
        append(asked.results, scheduler_line() | surroundings())
        for channels, minutes in MEASURED:
            append(asked.results, sort_line(asked.work, channels, minutes) | surroundings())
    text = report(read(asked.results), asked.bandwidth)
    asked.results.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
