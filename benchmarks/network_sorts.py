"""Whole sorts with networks beside sorts without: the page results/network_sorts.md.

    python -m benchmarks.accuracy run --sorters yass_dask:detect.method=nnet yass_dask:detect.method=threshold \\
        --results benchmarks/results/networks.jsonl
    python -m benchmarks.network_sorts

A sort without is taken from the same file, where it ran beside, else from accuracy.jsonl.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.accuracy import lines
from benchmarks.accuracy.lines import Line
from benchmarks.accuracy.names import NAMES, OURS
from benchmarks.networks import table_row

RESULTS = lines.RESULTS.parent
THRESHOLD = (OURS, f"{OURS}:detect.method=threshold")
HEAD = """# Whole sorts with networks

Mean accuracy over all true units, good units (0.8 or more), and false ones, as benchmarks/accuracy has them; beside it
the same without networks. CPU: user and system seconds of all processes, with start-up; where the sort without ran at
another time, on a machine with less other load, its time is in brackets. `python -m benchmarks.network_sorts`.

"""
COLUMNS = ["recording", "seed", "sort", "accuracy", "threshold's", "gain", "good", "false", "CPU s", "threshold's"]


def row_of(line: Line, beside: Line | None, earlier: Line) -> str:
    """A sort with networks in one line of the table."""
    mine, plain = line["scores"], earlier["scores"]
    change = line["sorter"].partition(":")[2].replace("detect.", "")
    gain = mine["accuracy"] - plain["accuracy"]
    cells = [
        line["dataset"],
        line["seed"],
        change,
        f"{mine['accuracy']:.4f}",
        f"{plain['accuracy']:.4f}",
        f"{gain:+.4f}",
    ]
    cells += [f"{mine[name]} / {plain[name]}" for name in ("n_good", "n_false")]
    other = f"({earlier['cpu_s']:.0f})" if beside is None else f"{beside['cpu_s']:.0f}"
    return table_row([*cells, f"{line['cpu_s']:.0f}", other])


def page(measured: list[Line], usual: list[Line]) -> str:
    """All sorts with networks, and their mean gains."""
    found, plain = lines.latest(measured), lines.latest(usual)
    with_networks = [line for key, line in found.items() if key[2] not in THRESHOLD and line["status"] == "ok"]
    with_networks.sort(key=lambda line: (line["sorter"], NAMES.index(line["dataset"]), line["seed"]))
    rows, gains = [], {}
    for line in with_networks:
        place = (line["dataset"], line["seed"])
        beside = next((found[(*place, name)] for name in THRESHOLD if (*place, name) in found), None)
        earlier = beside or plain[(*place, OURS)]
        rows.append(row_of(line, beside, earlier))
        gain = line["scores"]["accuracy"] - earlier["scores"]["accuracy"]
        gains.setdefault(line["sorter"].partition(":")[2], []).append(gain)
    means = [
        f"{name}: mean gain {sum(some) / len(some):+.4f} over {len(some)} sorts, {min(some):+.4f} to {max(some):+.4f}."
        for name, some in gains.items()
    ]
    table = [table_row(COLUMNS), "|---" * len(COLUMNS) + "|", *rows]
    return HEAD + "\n".join(table) + "\n\n" + "\n\n".join(means) + "\n"


def main() -> None:
    """Write the page."""
    measured, usual = (lines.read(RESULTS / name) for name in ("networks.jsonl", "accuracy.jsonl"))
    Path(RESULTS / "network_sorts.md").write_text(page(measured, usual), encoding="utf-8")


if __name__ == "__main__":
    main()
