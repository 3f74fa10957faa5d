"""Whole sorts with networks beside sorts without: the page results/network_sorts.md.

    python -m benchmarks.accuracy run --sorters yass_dask:detect.method=nnet yass_dask:detect.method=threshold \\
        yass_dask:detect.triage=true --results benchmarks/results/networks.jsonl
    python -m benchmarks.network_sorts

The triage is compared with the usual sorts of results/accuracy.jsonl, which have none.
"""

from __future__ import annotations

from benchmarks.accuracy import lines
from benchmarks.accuracy.lines import Line
from benchmarks.accuracy.names import NAMES, OURS
from benchmarks.networks import table_row

RESULTS = lines.RESULTS.parent
THRESHOLD, TRIAGE = f"{OURS}:detect.method=threshold", f"{OURS}:detect.triage=true"
HEAD = """# Whole sorts with networks

Mean accuracy over all true units, good units (0.8 or more), and false ones, as benchmarks/accuracy has them; beside it
the same without the network. CPU: user and system seconds of all processes, with start-up; in brackets where it is no
measure, as the sort without ran at another time, with less load beside. `python -m benchmarks.network_sorts`.

By default a network detects on up to 100 channels, where it finds more units, and no triage is made: pursuit finds
collided spikes whatever went to clustering, and clustering copes with them, but on each seed of hybrid49 a unit of
SNR 3 to 4 is not found without the peaks that the triage holds back. The denoiser takes no part in a sort (see
networks_tried.md).
"""
COLUMNS = ["recording", "seed", "sort", "accuracy", "without", "gain", "good", "false", "CPU s", "without"]


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


def section(title: str, measured: list[Line], without: list[Line]) -> str:
    """A table of sorts with a network, and their mean gains."""
    plain = {(line["dataset"], line["seed"]): line for line in without}
    measured.sort(key=lambda line: (line["sorter"], NAMES.index(line["dataset"]), line["seed"]))
    pairs = [(line, plain[line["dataset"], line["seed"]]) for line in measured]
    gains: dict[str, list[float]] = {}
    for line, other in pairs:
        gains.setdefault(line["sorter"].partition(":")[2], []).append(gain_of(line, other))
    means = [
        f"{name}: mean gain {sum(some) / len(some):+.4f} over {len(some)} sorts, {min(some):+.4f} to {max(some):+.4f}."
        for name, some in gains.items()
    ]
    table = [table_row(COLUMNS), "|---" * len(COLUMNS) + "|", *(row_of(*pair) for pair in pairs)]
    return "\n".join([f"\n## {title}\n", *table, "", "\n\n".join(means)]) + "\n"


def page(measured: list[Line], usual: list[Line]) -> str:
    """All sorts with networks."""
    found, known = (
        list(lines.latest([line for line in some if line["status"] == "ok"]).values()) for some in (measured, usual)
    )
    detectors = [line for line in found if line["sorter"] not in (THRESHOLD, TRIAGE)]
    thresholds = [line for line in found if line["sorter"] == THRESHOLD]
    triages = [line for line in found if line["sorter"] == TRIAGE]
    return (
        HEAD
        + section("The detector, in place of a threshold", detectors, thresholds)
        + section("The triage, with the usual detector", triages, [line for line in known if line["sorter"] == OURS])
    )


def main() -> None:
    """Write the page."""
    text = page(lines.read(RESULTS / "networks.jsonl"), lines.read(lines.RESULTS))
    (RESULTS / "network_sorts.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
