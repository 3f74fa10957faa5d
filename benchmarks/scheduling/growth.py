"""Stages of a recording that was not sorted, from the tasks of three that were.

The pieces of a stage are cut as the sort cuts them. What all of its tasks take together grows as a power of the
channels and as a power of the seconds looked at, each the power between two of the sorts; a stage that goes through the
whole recording grows with its length, whatever they say.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    "means", "templates",
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
    pieces = [Pieces([], run.duration_s) for _, run in runs]
    end = _grown([line["end_s"] for line, _ in runs], pieces, runs, recording, recording.duration_s, True)
    return [*made, Stage("end", [], end)]


def _stage(
    name: str, recording: Recording, params: SortParams, runs: Sequence[tuple[dict[str, Any], Recording]]
) -> Stage:
    mine, by_block = pieces_of(name, recording, params), _parted(name)[0] in (*WHOLE, *SAMPLED)
    pieces = [pieces_of(name, run, params) for _, run in runs]
    share = _share(name, recording, params)
    tasks, client = (
        share * _grown([_spent(name, line, what) for line, _ in runs], pieces, runs, recording, mine.seconds, by_block)
        for what in ("tasks_s", "client_s")
    )
    uneven = itertools.cycle(_unevenness(name, runs[-1][0]))
    seconds = [tasks * part * more for part, more in zip(mine.shares, uneven, strict=False)]
    n_values = mine.seconds * recording.sampling_rate * recording.n_channels if len(mine.shares) > 1 else 0.0
    n_bytes = share * n_values * BYTES_A_VALUE * (2 if name == "preprocess" else 1)
    return Stage(name, seconds, client, n_bytes if _parted(name)[0] in (*WHOLE, *LOOKED_AT) else 0.0)


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


def _grown(
    spent: Sequence[float], pieces: Sequence[Pieces], runs: Sequence[tuple[dict[str, Any], Recording]],
    recording: Recording, seconds: float, by_block: bool,
) -> float:  # fmt: skip
    """Seconds of CPU that become of those of three sorts; `by_block`: as the seconds looked at."""
    channels = [run.n_channels for _, run in runs]
    by_channels = power(spent[0], spent[1], channels[1] / channels[0])
    by_time = 1.0 if by_block else min(power(spent[0], spent[2], pieces[2].seconds / pieces[0].seconds), 1.0)
    more = (recording.n_channels / channels[1]) ** by_channels * (seconds / pieces[1].seconds) ** by_time
    return spent[1] * more


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
