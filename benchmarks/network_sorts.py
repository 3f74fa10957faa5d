"""Whole sorts with networks beside sorts without: the page results/network_sorts.md.

    python -m benchmarks.accuracy run --sorters yass_dask:detect.method=nnet yass_dask:detect.method=threshold \\
        --results benchmarks/results/networks.jsonl
    python -m benchmarks.network_sorts
"""

from __future__ import annotations

from benchmarks.accuracy import lines
from benchmarks.accuracy.lines import Line
from benchmarks.accuracy.names import NAMES, OURS
from benchmarks.networks import table_row

RESULTS = lines.RESULTS.parent
THRESHOLD = f"{OURS}:detect.method=threshold"
HEAD = """# Whole sorts with networks

Mean accuracy over all true units, good units (0.8 or more), and false ones, as benchmarks/accuracy has them; beside it
the same without networks. CPU: user and system seconds of all processes, with start-up; in brackets where it is no
measure, as the sort without ran at another time, with less load beside. `python -m benchmarks.network_sorts`.

"""
COLUMNS = ["recording", "seed", "sort", "accuracy", "threshold's", "gain", "good", "false", "CPU s", "threshold's"]


def row_of(line: Line, plain: Line) -> str:
    """A sort with networks in one line of the table."""
    mine, other = line["scores"], plain["scores"]
    change = line["sorter"].partition(":")[2].replace("detect.", "")
    cells = [line["dataset"], line["seed"], change, *(f"{one['accuracy']:.4f}" for one in (mine, other))]
    cells += [f"{gain_of(line, plain):+.4f}", *(f"{mine[name]} / {other[name]}" for name in ("n_good", "n_false"))]
    alike = line["timing_disturbed"] == plain["timing_disturbed"]
    return table_row([*cells, *(f"{one['cpu_s']:.0f}" if alike else f"({one['cpu_s']:.0f})" for one in (line, plain))])


def gain_of(line: Line, plain: Line) -> float:
    """Accuracy with networks less that without."""
    gain: float = line["scores"]["accuracy"] - plain["scores"]["accuracy"]
    return gain


def page(measured: list[Line]) -> str:
    """All sorts with networks, and their mean gains."""
    found = lines.latest([line for line in measured if line["status"] == "ok"])
    plain = {key[:2]: line for key, line in found.items() if key[2] == THRESHOLD}
    others = [line for line in found.values() if line["sorter"] != THRESHOLD]
    others.sort(key=lambda line: (line["sorter"], NAMES.index(line["dataset"]), line["seed"]))
    pairs = [(line, plain[line["dataset"], line["seed"]]) for line in others]
    gains: dict[str, list[float]] = {}
    for line, without in pairs:
        gains.setdefault(line["sorter"].partition(":")[2], []).append(gain_of(line, without))
    means = [
        f"{name}: mean gain {sum(some) / len(some):+.4f} over {len(some)} sorts, {min(some):+.4f} to {max(some):+.4f}."
        for name, some in gains.items()
    ]
    table = [table_row(COLUMNS), "|---" * len(COLUMNS) + "|", *(row_of(*pair) for pair in pairs)]
    return HEAD + "\n".join(table) + "\n\n" + "\n\n".join(means) + "\n"


def main() -> None:
    """Write the page."""
    text = page(lines.read(RESULTS / "networks.jsonl"))
    (RESULTS / "network_sorts.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
