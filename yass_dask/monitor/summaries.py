"""Small summaries of what a sort has found so far, for those who watch it: no list of spikes among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.chunked import EVERY_BLOCK, Chunk, Stride

if TYPE_CHECKING:
    from yass_dask.geometry import Probe
    from yass_dask.motion.displacement import Motion
    from yass_dask.recording import Recording
    from yass_dask.sorting import Sorting
    from yass_dask.templates import Templates

MOST_BINS = 240
"""A curve over a recording has at most so many points."""
MOST_PEAKS = 8000
"""Drawn as a raster of a whole recording: enough to see drift."""
READ_ROWS, PIECES = 1_000_000, 40
"""Of tables on disk: rows read at once, and places that peaks are taken from"""


@dataclass(frozen=True)
class Bins:
    """A recording's time in bins of whole blocks."""

    n_blocks: int
    block_samples: int
    n_samples: int
    sampling_rate: float

    @classmethod
    def of(cls, recording: Recording) -> Bins:
        return cls(recording.n_blocks, recording.block_samples, recording.n_samples, recording.sampling_rate)

    @property
    def blocks_each(self) -> int:
        return max(1, -(-self.n_blocks // MOST_BINS))

    @property
    def count(self) -> int:
        return max(1, -(-self.n_blocks // self.blocks_each))

    @property
    def seconds_each(self) -> float:
        return self.blocks_each * self.block_samples / self.sampling_rate

    def count_spikes(self, samples: np.ndarray) -> np.ndarray:
        """(count,) int64: how many of the ascending samples lie in each bin."""
        edges = np.arange(self.count + 1) * self.blocks_each * self.block_samples
        return np.diff(np.searchsorted(samples, edges))

    def count_all(self, samples: Any) -> np.ndarray:
        """The same of an array on disk, which is never in memory as a whole."""
        counts = np.zeros(self.count, np.int64)
        for start in range(0, samples.shape[0], READ_ROWS):
            counts += self.count_spikes(np.asarray(samples[start : start + READ_ROWS]))
        return counts

    def seconds_of(self, part: str, stride: Stride) -> np.ndarray:
        """(count,) seconds of each bin that a part of that name (a Chunk's) looks at."""
        first, stop = map(int, part.split("-"))
        return self._seconds(Chunk(first, stop, self.block_samples, self.n_samples, *stride))

    def seconds(self, stride: Stride = EVERY_BLOCK) -> np.ndarray:
        """(count,) seconds of each bin that are looked at of a whole recording."""
        return self._seconds(Chunk(0, self.n_blocks, self.block_samples, self.n_samples, *stride))

    def _seconds(self, chunk: Chunk) -> np.ndarray:
        numbers = np.asarray(chunk.numbers, np.int64)
        samples = np.minimum(self.n_samples - numbers * self.block_samples, self.block_samples)
        return np.bincount(numbers // self.blocks_each, samples, self.count) / self.sampling_rate


def share_of_peaks(part: int, n_parts: int) -> int:
    """How many peaks are drawn of the part that is the so-manieth to end."""
    return MOST_PEAKS * (part + 1) // n_parts - MOST_PEAKS * part // n_parts


def some_peaks(peaks: Mapping[str, np.ndarray], limit: int, sampling_rate: float, probe: Probe) -> dict[str, bytes]:
    """At most so many peaks, evenly spread, as int32 of hundredths: seconds, depth in um, height in sd."""
    rows = np.unique(np.linspace(0, len(peaks["sample_index"]), limit, endpoint=False).astype(np.int64))
    rows = rows[rows < len(peaks["sample_index"])]
    columns = {
        "seconds": peaks["sample_index"][rows] / sampling_rate,
        "depth_um": probe.positions[peaks["channel_index"][rows], 1],
        "height_sd": np.abs(peaks["amplitude"][rows]),
    }
    return {name: np.round(100 * values).astype(np.int32).tobytes() for name, values in columns.items()}


def peaks_of_all(table: Mapping[str, Any], sampling_rate: float, probe: Probe) -> dict[str, bytes]:
    """The same of a finished stage: rows from places evenly spread over its table."""
    names = ("sample_index", "channel_index", "amplitude")
    n_rows = table["sample_index"].shape[0]
    n_pieces = PIECES if n_rows > MOST_PEAKS else 1
    each = MOST_PEAKS // n_pieces
    starts = np.linspace(0, max(0, n_rows - each), n_pieces).astype(np.int64)
    pieces = {name: [np.asarray(table[name][start : start + each]) for start in starts] for name in names}
    joined = {name: np.concatenate(rows) for name, rows in pieces.items()}
    return some_peaks(joined, MOST_PEAKS, sampling_rate, probe)


def motion_shown(motion: Motion) -> dict[str, Any]:
    """Displacement at some times, by window; and why it is not followed."""
    rows = np.arange(0, len(motion.times_s), -(-len(motion.times_s) // MOST_BINS) or 1)
    return {
        "seconds": np.round(motion.times_s[rows], 1).tolist(), "depth_um": np.round(motion.depths_um, 1).tolist(),
        "displacement_um": np.round(motion.displacement[rows].T, 1).tolist(), "why_none": motion.why_none,
    }  # fmt: skip


def units_of_templates(templates: Templates, probe: Probe) -> list[dict[str, float]]:
    """A line for each unit found so far: where it is largest and how large, in noise sd."""
    main = templates.main_channels(np.ones(templates.n_channels))
    heights = np.abs(templates.waveforms).max(axis=(1, 2), initial=0)
    facts = zip(templates.ids, main, heights, templates.n_spikes, strict=True)
    return [_unit(unit, probe.positions[channel], height, spikes) for unit, channel, height, spikes in facts]


def units_of_sorting(sorting: Sorting) -> list[dict[str, float]]:
    """The same of the units that there are in the end."""
    channels = {str(name): row for row, name in enumerate(sorting.channel_ids)}
    kept = {row["unit_id"]: row for row in sorting.units}
    rows = [kept[unit] for unit in sorting.unit_ids.tolist()]
    places = [sorting.probe.positions[channels[str(row["peak_channel"])]] for row in rows]
    return [_unit(r["unit_id"], p, r["snr"], r["n_spikes"]) for r, p in zip(rows, places, strict=True)]


def _unit(unit: Any, place: np.ndarray, height: Any, spikes: Any) -> dict[str, float]:
    x, y = place.tolist()
    return {"unit": int(unit), "x_um": x, "y_um": y, "height_sd": round(float(height), 1), "spikes": int(spikes)}
