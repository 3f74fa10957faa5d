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
ACCURACY, SPEED = "accuracy", "speed"
"""Sections of the README, between marks of these names"""
NEARLY = 0.05
"""A peer is accurate whose mean accuracy is within this of the best peer's."""
BINS = ("snr<5", "snr5-8", "snr8-15", "snr>15")
README_HEADER = (
    "recording", "seeds", "units", OURS, "good", "false", "SNR >= 8", "collisions", "with true templates",
    "best peer", "its accuracy", "its good", "its false", "error to its",
)  # fmt: skip
SPEED_HEADER = (
    "recording", "channels", f"{OURS}, x real time", "peak MB", "fastest accurate peer", "its x real time",
    "its peak MB", "times faster",
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


def speed_section(lines: list[Line]) -> str:
    """The README's table of speed: ours beside the fastest peer that is nearly as accurate as the best."""
    rows = [row for dataset, runs in gather(lines).items() if (row := speed_row(dataset, runs, lines))]
    return table(SPEED_HEADER, rows)


def speed_row(dataset: str, runs: list[Runs], lines: list[Line]) -> list[str] | None:
    """One recording; None without a sort of ours and an accurate peer."""
    ours = next((run for run in runs if run.sorter == OURS and run.finished), None)
    peers = [run for run in runs if run.finished and not is_ours(run.sorter)]
    if ours is None or not peers:
        return None
    least = max(peer.accuracy for peer in peers) - NEARLY
    timed = {run.sorter: timing(run, lines) for run in [ours, *peers]}
    peer = max((peer for peer in peers if peer.accuracy >= least), key=lambda run: timed[run.sorter].speed)
    mine, its = timed[OURS], timed[peer.sorter]
    channels = _numbers(sorted({line["n_channels"] for line in ours.finished}))
    return [
        dataset, channels, mine.told, f"{mine.peak_mb:.0f}", peer.sorter, its.told, f"{its.peak_mb:.0f}",
        f"{mine.speed / its.speed:.1f}",
    ]  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """Speed and memory of a sorter on one recording."""

    speed: float
    """Times real time, mean over the seeds"""
    peak_mb: float
    disturbed: bool

    @property
    def told(self) -> str:
        """For a table: a star where other load ran beside."""
        return f"{self.speed:.2f}{'*' if self.disturbed else ''}"


def timing(run: Runs, lines: list[Line]) -> Timing:
    """Of undisturbed runs, if there are any: of this code, for ours; of any day, for the pinned versions of a peer."""
    key = (run.finished[0]["dataset"], run.sorter)
    full = [line for line in lines if line["status"] == "ok" and line.get("seconds_asked") is None]
    of_peer = [line for line in full if (line["dataset"], line["sorter"]) == key]
    known = list(run.finished) if is_ours(run.sorter) else of_peer
    quiet = [line for line in known if not line["timing_disturbed"]]
    chosen = quiet or known
    return Timing(
        mean(line["x_real_time"] for line in chosen), max(line["peak_mb"] for line in chosen), disturbed=not quiet
    )


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


def replaced(text: str, name: str, section: str) -> str:
    """The text with a new section between the marks of this name.

    Raises
    ------
    ValueError
        A mark is missing.
    """
    begin, end = marks(name)
    if begin not in text or end not in text:
        raise ValueError(f"no {begin} ... {end} in it")
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n{section}{end}{rest.partition(end)[2]}"


def section_of(text: str, name: str) -> str:
    """What stands between the marks."""
    begin, end = marks(name)
    return text.partition(begin + "\n")[2].partition(end)[0]


def marks(name: str) -> tuple[str, str]:
    """Where a section begins and ends."""
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def write(results: Path) -> None:
    """Put the tables in README.md and beside the lines."""
    lines = read(results)
    _rewrite(README, lambda text: replaced(text, ACCURACY, readme_section(lines)))
    _rewrite(README, lambda text: replaced(text, SPEED, speed_section(lines)))
    FULL.write_text(full_report(lines), encoding="utf-8")


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
