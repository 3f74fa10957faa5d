"""Results of the matrices as lines of JSON, and the pages made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.accuracy.lines import ROOT, Line, append, read, surroundings
from benchmarks.trust.same import Run
from benchmarks.trust.seen import Seen, table

LINES = ROOT / "benchmarks" / "results" / "trust.jsonl"
DOCS = ROOT / "docs" / "trust.md"
BEGIN, END = "<!-- faults -->", "<!-- /faults -->"


def add_faults(all_seen: Sequence[Seen], command: str, path: Path = LINES) -> None:
    """Keep what was seen, each fault with when and by what it was injected."""
    for fault in dict.fromkeys(seen.fault for seen in all_seen):
        mine = [asdict(seen) for seen in all_seen if seen.fault == fault]
        append(path, {"kind": "fault", "fault": fault, "seen": mine, "command": command, **surroundings()})


def add_same(run: Run, batch: str, command: str, path: Path = LINES) -> None:
    """Keep one run of a matrix, as soon as it has ended."""
    append(path, {"kind": "same", "batch": batch, "run": asdict(run), "command": command, **surroundings()})


def write_pages(path: Path = LINES, docs: Path = DOCS) -> str:
    """Write the results' page, and the table in the documentation; of each fault the last lines count."""
    lines = read(path)
    faults = {line["fault"]: line for line in lines if line["kind"] == "fault"}
    last = [line["batch"] for line in lines if line["kind"] == "same"][-1:]
    same = [line for line in lines if line["kind"] == "same" and line["batch"] in last]
    rows = table(Seen(**seen) for line in faults.values() for seen in line["seen"])
    parts = [
        "# Trust: what was observed",
        *([_same(same)] if same else []),
        "## Faults, injected",
        rows,
        _runs(list(faults.values())),
    ]
    text = "\n\n".join(parts) + "\n"
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    if docs.exists() and faults:
        before, _, rest = docs.read_text(encoding="utf-8").partition(BEGIN)
        docs.write_text(f"{before}{BEGIN}\n{rows}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return text


def _same(lines: Sequence[Line]) -> str:
    runs = [line["run"] for line in lines]
    counts = Counter(run["kind"] for run in runs)
    differing = [run for run in runs if run["differing"]]
    head = "| scheduler | runs | blocks a chunk | workers | killed in | files that differ |\n|---|---|---|---|---|---|"
    rows = []
    for kind in counts:
        mine = [run for run in runs if run["kind"] == kind]
        spread = [", ".join(map(str, sorted({run[name] for run in mine}))) for name in ("chunk_blocks", "workers")]
        killed = ", ".join(dict.fromkeys(run["stage"] for run in mine if run["stage"]))
        rows.append(
            f"| {kind} | {len(mine)} | {' | '.join(spread)} | {killed} | {sum(len(r['differing']) for r in mine)} |"
        )
    verdict = (
        f"{len(runs)} runs, tasks in random order: {len(runs) - len(differing)} gave the same bytes in every chunk."
    )
    return "\n".join(["## The same answer", "", verdict, "", head, *rows, "", _runs(lines)])


def _runs(lines: Sequence[Line]) -> str:
    """When, of what code and by which command."""
    ran = Counter(f"{line['date'][:10]}, commit {line['commit'][:9]}, `{line['command']}`" for line in lines)
    return "Run: " + "; ".join(ran) + "."
