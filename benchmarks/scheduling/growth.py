"""Stages of a recording that was not sorted, from the tasks of three that were.

The pieces of a stage are cut as the sort cuts them. What all of its tasks take together grows as a power of the
channels and as a power of the seconds looked at, each the power between two of the sorts; a stage that goes through all
blocks grows with their number, whatever they say.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from benchmarks.scheduling.schedule import Stage
from yass_dask import Recording, SortParams
from yass_dask.chunked import Stride
from yass_dask.cluster import MAX_TASKS
from yass_dask.features import N_SAMPLED_BLOCKS
from yass_dask.merge import UNITS_A_TASK
from yass_dask.pipeline import looked_at
from yass_dask.runtime import plan

BYTES_A_VALUE = 2
MOST_GROWTH = 2.0
"""No stage grows faster than with the square of the channels; what seems to was too short to be measured."""
SAMPLED = ("scale", "noise", "spectrum", "basis")
WHOLE = ("preprocess", "even", "deconvolve")
LOOKED_AT = ("detect", "features", "means", "residual")
FIRST = (
    "scale", "preprocess", "noise", "spectrum", "detect", "basis", "chosen", "features", "cluster", "units", "means",
    "templates",
)  # fmt: skip
ROUND = (
    "bank", "even", "deconvolve", "spikes", "frames", "residual", "split", "merge", "cluster", "units", "pieces",
    "means", "templates", "sizes",
)  # fmt: skip
LAST = ("bank", "even", "deconvolve")
UNITS_PER_CHANNEL = 0.5


@dataclass(frozen=True)
class Pieces:
    """How a stage is cut."""

    shares: list[float]
    """Of the whole work, task by task"""
    seconds: float
    """Of the recording that all tasks together look at"""


def stage_names(recording: Recording, params: SortParams) -> list[str]:
    """Stages of a sort, in order; the names of a round end with its number."""
    rounds: list[str] = []
    for k in range(params.n_refinements):
        apart = looked_at(recording, params, k).step > 1  # no two blocks meet
        rounds += [f"{name}_{k}" for name in ROUND if not (apart and name == "even")]
    return [*FIRST, *rounds, *LAST]


def planned(recording: Recording, n_workers: int) -> Recording:
    """The recording, cut for so many workers."""
    chunks = plan(recording, None, None, n_workers)
    return recording.with_chunks(chunks.chunk_blocks, chunks.part_blocks)


def pieces_of(name: str, recording: Recording, params: SortParams) -> Pieces:
    """How the sort of a recording cuts a stage."""
    stage, round_ = _parted(name)
    whole = stage in WHOLE and round_ is None
    stride = Stride() if whole else looked_at(recording, params, round_)
    looked_s = stride.n_samples(recording.n_samples, recording.block_samples) / recording.sampling_rate
    if stage in SAMPLED:
        count = min(N_SAMPLED_BLOCKS if stage == "basis" else params.preprocess.n_sampled_blocks, recording.n_blocks)
        return _equal(count, count * recording.block_samples / recording.sampling_rate)
    if stage == "cluster":
        return _equal(min(recording.n_channels, MAX_TASKS), looked_s)
    if stage == "split":
        n_units = round(UNITS_PER_CHANNEL * recording.n_channels)
        return _equal(max(1, min(MAX_TASKS, n_units // UNITS_A_TASK)), looked_s)
    if stage not in (*WHOLE, *LOOKED_AT):
        return _equal(1, looked_s)
    if stage != "preprocess":
        recording = recording.with_chunks(recording.part_blocks or recording.chunk_blocks)
    # The even blocks are a stage of their own, and the other one pursues the odd ones in the same chunks.
    looks = Stride(2) if stage == "even" else stride
    blocks = [len(chunk.numbers) for chunk in recording.strided(looks).chunks]
    total = sum(blocks)
    return Pieces([count / total for count in blocks if count], looked_s)


def _equal(count: int, seconds: float) -> Pieces:
    return Pieces([1 / count] * count, seconds)


def _parted(name: str) -> tuple[str, int | None]:
    """Stage, and number of the round, None outside of the rounds."""
    found = re.fullmatch(r"([a-z]+)(?:_(\d+))?", name)
    assert found is not None
    return found[1], None if found[2] is None else int(found[2])


# --- what it costs ---


def stages_of(
    recording: Recording, params: SortParams, runs: Sequence[tuple[dict[str, Any], Recording]]
) -> list[Stage]:
    """Stages of a planned recording.

    Parameters
    ----------
    runs : (line, recording) of three sorts: one, one of more channels, and one of more time
    """
    made = [_stage(name, recording, params, runs) for name in stage_names(recording, params)]
    sizes = [Size(run.n_channels, run.duration_s) for _, run in runs]
    whole = Size(recording.n_channels, recording.duration_s)
    return [*made, Stage("end", [], client_seconds([line["end_s"] for line, _ in runs], sizes, whole))]


def _stage(
    name: str, recording: Recording, params: SortParams, runs: Sequence[tuple[dict[str, Any], Recording]]
) -> Stage:
    mine, stage = pieces_of(name, recording, params), _parted(name)[0]
    sizes = [Size(run.n_channels, pieces_of(name, run, params).seconds) for _, run in runs]
    size, share = Size(recording.n_channels, mine.seconds), _share(name, recording, params)
    spent, between = ([_spent(name, line, what) for line, _ in runs] for what in ("tasks_s", "client_s"))
    work = share * task_seconds(spent, sizes, size, by_block=stage in (*WHOLE, *SAMPLED))
    uneven = itertools.cycle(_unevenness(name, runs[-1][0]))
    tasks = [work * part * more for part, more in zip(mine.shares, uneven, strict=False)]
    n_bytes = 0.0
    if stage in (*WHOLE, *LOOKED_AT):
        n_values = share * mine.seconds * recording.sampling_rate * recording.n_channels
        n_bytes = n_values * BYTES_A_VALUE * (2 if stage == "preprocess" else 1)  # it writes as much as it reads
    return Stage(name, tasks, share * client_seconds(between, sizes, size), n_bytes)


def _spent(name: str, line: dict[str, Any], what: str) -> float:
    """Seconds of a stage in a sort; pursuit counts as a whole, whether its even blocks went before or not."""
    stage, round_ = _parted(name)
    both = ("even", "deconvolve") if stage in ("even", "deconvolve") else (stage,)
    names = [one if round_ is None else f"{one}_{round_}" for one in both]
    return float(sum(np.sum(line["stages"][one][what]) for one in names if one in line["stages"]))


def _share(name: str, recording: Recording, params: SortParams) -> float:
    """Of a pursuit, half are the even blocks, if they go before."""
    stage, round_ = _parted(name)
    if stage not in ("even", "deconvolve"):
        return 1.0
    return 1.0 if round_ is not None and looked_at(recording, params, round_).step > 1 else 0.5


class Size(NamedTuple):
    """What was sorted: so many channels, and so many seconds that a stage looked at."""

    channels: int
    seconds: float


def task_seconds(spent: Sequence[float], sizes: Sequence[Size], size: Size, *, by_block: bool) -> float:
    """What all tasks of a stage take: powers of channels and of seconds; `by_block`: as the seconds."""
    small, wide, long = sizes
    by_channels = power(spent[0], spent[1], wide.channels / small.channels)
    by_time = 1.0 if by_block else min(power(spent[0], spent[2], long.seconds / small.seconds), 1.0)
    return spent[1] * (size.channels / wide.channels) ** by_channels * (size.seconds / wide.seconds) ** by_time


def client_seconds(spent: Sequence[float], sizes: Sequence[Size], size: Size) -> float:
    """What the client does in a stage: something whatever the length, and so much a channel and second.

    The first is planning and grows as a power of the channels; the second are the events.
    """
    small, wide, long = sizes
    a_second = max(spent[2] - spent[0], 0.0) / (long.seconds - small.seconds) if long.seconds > small.seconds else 0.0
    a_second = min(a_second, spent[0] / small.seconds)
    whatever = spent[0] - a_second * small.seconds
    wider = wide.channels / small.channels
    by_channels = power(whatever, spent[1] - a_second * wider * wide.seconds, wider)
    ratio = size.channels / small.channels
    return whatever * ratio**by_channels + a_second * ratio * size.seconds


def power(before: float, after: float, ratio: float) -> float:
    """The power p of after = before * ratio ** p, from 0 to MOST_GROWTH; 0 where nothing can be told."""
    if before <= 0 or after <= 0 or math.isclose(ratio, 1):
        return 0.0
    return min(max(math.log(after / before) / math.log(ratio), 0.0), MOST_GROWTH)


def _unevenness(name: str, line: dict[str, Any]) -> list[float]:
    """How long each task took beside the mean; the last one of several may have had less to do."""
    round_ = _parted(name)[1]
    known = line["stages"].get(name) or line["stages"][f"deconvolve{'' if round_ is None else f'_{round_}'}"]
    seconds = np.array(known["tasks_s"][:-1] or known["tasks_s"])
    return (seconds / max(float(seconds.mean()), 1e-9)).tolist() if seconds.sum() > 0 else [1.0]
