"""What was seen of a fault, and tables of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HEADER = ("what happens", "times", "what the user sees", "exit code", "finished chunks lost", "the next run")


@dataclass(frozen=True)
class Seen:
    """One fault that was injected, and what came of it.

    Attributes
    ----------
    fault : str
    code : int
        Exit code of the sort that it hit; -9 where that was killed.
    said : str
        Its last line; empty where nothing could be said.
    lost : int
        Finished chunks that were computed again.
    again : str
        What the next run of the same command did.
    is_good : bool
        Whether the end was the bytes of the undisturbed sort, or a refusal, and no traceback was shown.
    """

    fault: str
    code: int
    said: str
    lost: int
    again: str
    is_good: bool
    skipped: str = ""
    """What this machine lacks to inject it"""


def table(all_seen: Iterable[Seen]) -> str:
    """Markdown: a row for each fault, with what was seen most often."""
    by_fault: dict[str, list[Seen]] = {}
    for seen in all_seen:
        by_fault.setdefault(seen.fault, []).append(seen)
    rows = [_row(fault, seen) for fault, seen in by_fault.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in (HEADER, ["---"] * len(HEADER), *rows))


def _row(fault: str, seen: Sequence[Seen]) -> list[str]:
    if seen[0].skipped:
        return [fault, "0", f"not tried: {seen[0].skipped}", "", "", ""]
    good = sum(one.is_good for one in seen)
    times = str(len(seen)) if good == len(seen) else f"{len(seen)}, **{len(seen) - good} of them not well**"
    shown = [_most(one.said or "nothing: it is gone" for one in seen), _most(str(one.code) for one in seen)]
    return [fault, times, *shown, str(sum(one.lost for one in seen)), _most(one.again for one in seen)]


def _most(texts: Iterable[str]) -> str:
    """What there is, the most frequent first, how often where it differs."""
    counted = Counter(map(_cell, texts)).most_common()
    if len(counted) == 1:
        return counted[0][0]
    return "; ".join(f"{text} ({n})" for text, n in counted[:3])


PLACES = (
    (r"tcp://[\w.:]+", "tcp://..."),
    (r"(?<![\w/:])/\S*/(?=\S)", ""),
    (r"process \d+ on \w+", "process N on HOST"),
    (r"on host \w+", "on host HOST"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE"),
    (r"\b([a-z]+)-\d+\b", "OUT"),
    (r"code \w{8}", "code ..."),
)
"""What differs from time to time, and what stands for it"""


def _cell(text: str) -> str:
    for pattern, instead in PLACES:
        text = re.sub(pattern, instead, text)
    return text.replace("|", "\\|").replace("\n", " ")
