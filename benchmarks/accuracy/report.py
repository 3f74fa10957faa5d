"""Tables from the lines of JSON: README's short one and the full one beside the lines. No number is typed by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from benchmarks.accuracy.lines import RESULTS, ROOT, Line, latest, read
from benchmarks.accuracy.names import NAMES, ORACLE, OTHER_NAMES, OURS, PAPER, is_ours

README = ROOT / "README.md"
FULL = RESULTS.with_suffix(".md")
BEGIN, END = "<!-- accuracy -->", "<!-- /accuracy -->"
BINS = ("snr<5", "snr5-8", "snr8-15", "snr>15")
README_HEADER = (
    "recording", "seeds", "units", OURS, "good", "false", "SNR >= 8", "collisions", "with true templates",
    "best peer", "its accuracy", "its good", "its false", "error to its",
)  # fmt: skip
FULL_HEADER = (
    "sorter", "seeds", "accuracy", "good", "found", "false", "redundant", "overmerged", "SNR < 5", "5-8", "8-15",
    "> 15", "SNR >= 8", "redundant there", "overmerged there", "collisions", "x real time", "peak MB",
)  # fmt: skip


@dataclass(frozen=True)
class Runs:
    """All seeds of one sorter on the recordings of one name."""

    sorter: str
    lines: tuple[Line, ...]
    """One a seed, in order of the seed."""

    @property
    def finished(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line["status"] == "ok")

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(line["seed"] for line in self.finished)

    @property
    def accuracy(self) -> float:
        """Mean over the seeds, -1 if none finished."""
        return mean(line["scores"]["accuracy"] for line in self.finished) if self.finished else -1.0

    def at(self, seeds: Iterable[int]) -> Runs:
        """Only these seeds."""
        wanted = set(seeds)
        return Runs(self.sorter, tuple(line for line in self.lines if line["seed"] in wanted))

    def spread(self, field: str) -> str:
        """Mean and standard deviation over the seeds of a share."""
        return spread([line["scores"][field] for line in self.finished])

    def average(self, field: str) -> str:
        """Mean over the seeds of a count."""
        values = [line["scores"][field] for line in self.finished]
        return f"{mean(values):.1f}".removesuffix(".0") if values else "-"


def spread(values: list[float | None]) -> str:
    """Mean and, of several values, standard deviation; a dash where there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{mean(known):.3f}" + (f" ± {stdev(known):.3f}" if len(known) > 1 else "")


def gather(lines: list[Line]) -> dict[str, list[Runs]]:
    """Runs of every recording in the order of the table, the most accurate sorter first."""
    newest = latest(lines)
    gathered = {}
    for dataset in (*NAMES, *OTHER_NAMES):
        mine = [key for key in sorted(newest) if key[0] == dataset]
        runs = [
            Runs(sorter, tuple(newest[key] for key in mine if key[2] == sorter))
            for sorter in sorted({key[2] for key in mine})
        ]
        if runs:
            gathered[dataset] = sorted(runs, key=lambda run: (-run.accuracy, run.sorter))
    return gathered


def readme_section(lines: list[Line]) -> str:
    """The table of the README: one row a recording."""
    rows = [row for dataset, runs in gather(lines).items() if (row := readme_row(dataset, runs))]
    return table(README_HEADER, rows)


def readme_row(dataset: str, runs: list[Runs]) -> list[str] | None:
    """Our sorter beside the best peer, both on the seeds that both have; None without a sort of ours."""
    ours = next((run for run in runs if run.sorter == OURS and run.finished), None)
    if ours is None:
        return None
    seeds, bound = ours.seeds, next((run for run in runs if run.sorter == ORACLE), None)
    peers = [run.at(seeds) for run in runs if not is_ours(run.sorter)]
    most = max((len(peer.finished) for peer in peers), default=0)
    best = max((peer for peer in peers if len(peer.finished) == most > 0), key=lambda run: run.accuracy, default=None)
    cells = [
        dataset, _numbers(seeds), ours.average("n_units"), ours.spread("accuracy"), ours.average("n_good"),
        ours.average("n_false"), ours.spread("accuracy_snr8"), ours.spread("collision_recall"),
        bound.at(seeds).spread("accuracy") if bound else "-",
    ]  # fmt: skip
    if best is None:
        return [*cells, "-", "-", "-", "-", "-"]
    error = (1 - ours.at(best.seeds).accuracy) / max(1 - best.accuracy, 1e-9)
    which = "" if best.seeds == seeds else f" (seed {_numbers(best.seeds)})"
    peer = [best.sorter + which, best.spread("accuracy"), best.average("n_good"), best.average("n_false")]
    return [*cells, *peer, f"{error:.2f}"]


def full_report(lines: list[Line]) -> str:
    """Every sorter on every recording, with what the columns mean."""
    parts = [FULL_TEXT]
    for dataset, runs in gather(lines).items():
        probes = {line["n_channels"]: line["seconds"] for run in runs for line in run.lines}
        told = "; ".join(f"{n_channels} channels, {seconds:g} s" for n_channels, seconds in sorted(probes.items()))
        head = f"## {dataset}: {told}"
        parts.append(f"{head}\n\n{table(FULL_HEADER, [full_row(run) for run in runs])}")
    return "\n".join(parts)


FULL_TEXT = """# Accuracy of every sorter on every recording

Made by `python -m benchmarks.accuracy report` from accuracy.jsonl, which has machine, versions, commit, date and
command of every run. Mean ± standard deviation over the seeds, counts as means over the seeds. Accuracy is
tp / (tp + fn + fp), 0 for units not found; good: accuracy of at least 0.8; false, redundant, overmerged as
SpikeInterface's comparison counts them; collisions: recall of spikes within 0.5 ms of another unit's on a shared
channel, for SNR >= 5; "there": of units with SNR >= 8. "The paper's mixture" is our sort with channels masked and
clusters joined only where not the least valley separates them (`--sorters paper`). A star: timing disturbed by other
load. The jobs (processes or threads) of each run are in the lines.

![accuracy on every recording, a dot a seed](accuracy_recordings.png)
"""


def full_row(run: Runs) -> list[str]:
    """One sorter; what did not finish is told instead of numbers."""
    ended = [f"{line['seed']} {line['status']}" for line in run.lines if line["status"] != "ok"]
    seeds = ", ".join([_numbers(run.seeds)] * bool(run.seeds) + ended)
    name = f"{OURS}, the paper's mixture" if run.sorter == PAPER else run.sorter
    if not run.finished:
        return [name, seeds, *["-"] * (len(FULL_HEADER) - 2)]
    bins = [spread([line["scores"]["accuracy_by_snr"][name] for line in run.finished]) for name in BINS]
    counts = [run.average(f"n_{name}") for name in ("good", "found", "false", "redundant", "overmerged")]
    there = [run.average("n_redundant_snr8"), run.average("n_overmerged_snr8")]
    star = "*" if any(line["timing_disturbed"] for line in run.finished) else ""
    speed = f"{mean(line['x_real_time'] for line in run.finished):.2f}{star}"
    peak = f"{max(line['peak_mb'] for line in run.finished)}"
    large = [run.spread("accuracy_snr8"), *there, run.spread("collision_recall")]
    return [name, seeds, run.spread("accuracy"), *counts, *bins, *large, speed, peak]


def table(header: Iterable[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [list(header), ["---"] * len(list(header)), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def _numbers(seeds: Iterable[int]) -> str:
    return " ".join(map(str, seeds))


def replaced(text: str, section: str) -> str:
    """The text with a new section between the marks.

    Raises
    ------
    ValueError
        A mark is missing.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"no {BEGIN} ... {END} in it")
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n{section}{END}{rest.partition(END)[2]}"


def section_of(text: str) -> str:
    """What stands between the marks."""
    return text.partition(BEGIN + "\n")[2].partition(END)[0]


def write(results: Path) -> None:
    """Put the tables in README.md and beside the lines."""
    lines = read(results)
    _rewrite(README, lambda text: replaced(text, readme_section(lines)))
    FULL.write_text(full_report(lines), encoding="utf-8")


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
