"""`python -m benchmarks.trust same|faults|fuzz|pages`: matrices of trust; the pages are written after each."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from benchmarks.trust import faults, surroundings
from benchmarks.trust.lab import Lab
from benchmarks.trust.report import LINES, add_faults, add_same, write_pages
from benchmarks.trust.same import matrix
from benchmarks.trust.seen import Seen

CASES = faults.CASES | surroundings.CASES


def main(arguments: list[str] | None = None) -> int:
    """Run one matrix; exit code 1 where anything was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("same", "faults", "fuzz", "pages"))
    parser.add_argument("--runs", type=int, default=20, help="same: sorts that are compared")
    parser.add_argument("--moments", type=int, default=20, help="faults: random moments of each kill")
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES), help="faults: some of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=LINES)
    asked, rest = parser.parse_known_args(arguments)
    if asked.what == "fuzz":
        return subprocess.run([sys.executable, "-m", "benchmarks.fuzz", *rest]).returncode
    if rest:
        parser.error(f"unknown: {' '.join(rest)}")
    some = ["--only", *asked.only] if asked.only != list(CASES) else []
    counts = {"same": ["--runs", str(asked.runs)], "faults": ["--moments", str(asked.moments), *some]}
    command = " ".join(["python -m benchmarks.trust", asked.what, *counts.get(asked.what, [])])
    bad = 0
    with tempfile.TemporaryDirectory(prefix="trust-") as folder:
        if asked.what == "same":
            batch = uuid.uuid4().hex[:8]
            for run in matrix(Lab.make(Path(folder)), asked.runs, asked.seed):
                bad += bool(run.differing)
                add_same(run, batch, command, asked.results)
        elif asked.what == "faults":
            lab = Lab.make(Path(folder))
            for name in asked.only:
                found = list(inject(name, lab, random.Random(f"{asked.seed} {name}"), asked.moments))
                bad += sum(not seen.is_good for seen in found)
                add_faults(found, command, asked.results)
    print(write_pages(asked.results))
    return int(bad > 0)


def inject(name: str, lab: Lab, pick: random.Random, moments: int) -> Iterator[Seen]:
    """One fault; what this machine does not allow is told as such."""
    try:
        for seen in CASES[name](lab, pick, moments):
            print(seen, file=sys.stderr, flush=True)
            yield seen
    except surroundings.CannotError as error:
        yield Seen(name.replace("_", " "), 0, "", 0, "", True, skipped=surroundings.described(error))


if __name__ == "__main__":
    sys.exit(main())
