"""What the report tells of each unit, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.evaluate import trains
from yass_dask.recording.spans import less

if TYPE_CHECKING:
    from yass_dask.sorting import Sorting

VIOLATION_MS = 2.0
"""Spikes of a unit closer than this violate its refractory period."""


@dataclass(frozen=True)
class UnitNumbers:
    """One unit."""

    unit: int
    row: int
    """in the sorting's templates"""
    label: str
    times: np.ndarray
    """samples of its spikes, ascending"""
    amplitudes: np.ndarray
    """of its spikes, positive"""
    rate_hz: float
    n_violations: int
    contamination: float | None
    presence: float
    snr: float | None
    height: float
    """of the template, in its unit"""
    channel: int
    expected_accuracy: float | None
    neighbor: int | None
    """the unit whose template is most like this one's"""
    similarity: float
    audit: tuple[str, ...]
    """where it came from and why it is as it is"""

    @property
    def n_spikes(self) -> int:
        return len(self.times)

    @property
    def violation_share(self) -> float:
        return self.n_violations / max(self.n_spikes - 1, 1)


def numbers_of(sorting: Sorting, channels: np.ndarray) -> list[UnitNumbers]:
    """All units, in the order of the sorting.

    Parameters
    ----------
    channels : (n_units, n_local) channels of each unit, the largest first
    """
    from yass_dask.phy.templates import template_similarity

    similarity = template_similarity(np.asarray(sorting.templates)) if sorting.n_units else np.zeros((0, 0))
    np.fill_diagonal(similarity, -1)
    # One sort of all spikes in place of a search for each unit.
    order = np.argsort(sorting.unit_index, kind="stable")
    ends = np.searchsorted(sorting.unit_index[order], sorting.unit_ids, side="right")
    spikes = np.split(order, ends)
    return [_numbers(sorting, row, spikes[row], channels[row], similarity[row]) for row in range(sorting.n_units)]


def _numbers(
    sorting: Sorting, row: int, spikes: np.ndarray, channels: np.ndarray, similarity: np.ndarray
) -> UnitNumbers:
    unit = int(sorting.unit_ids[row])
    times, about = sorting.sample_index[spikes], sorting.about(unit)
    close = np.diff(times) <= VIOLATION_MS * sorting.sampling_rate / 1e3
    alike = int(similarity.argmax()) if len(similarity) > 1 else None
    return UnitNumbers(
        unit=unit,
        row=row,
        label=str(about.get("label") or "unlabelled"),
        times=times,
        amplitudes=np.abs(sorting.amplitudes[spikes]),
        rate_hz=len(times) / sorting.kept_s,
        n_violations=int(close.sum()),
        contamination=about.get("contamination"),
        presence=trains.presence(less(times, sorting.excluded_samples), round(sorting.kept_s * sorting.sampling_rate)),
        snr=about.get("snr"),
        height=float(np.abs(sorting.templates[row]).max()),
        channel=int(channels[0]),
        expected_accuracy=about.get("expected_accuracy"),
        neighbor=None if alike is None else int(sorting.unit_ids[alike]),
        similarity=float(similarity[alike]) if alike is not None else 0.0,
        audit=_audit(sorting, unit, about),
    )


def _audit(sorting: Sorting, unit: int, about: dict[str, Any]) -> tuple[str, ...]:
    """Its own line, and those of the units that were merged into it."""
    own = [f"began as {about['origin']}" if about.get("origin") else "", str(about.get("why") or "")]
    merged = [
        f"unit {line['unit_id']} was merged into it: {line['why']}"
        for line in sorting.units
        if line.get("merged_into") == unit
    ]
    return tuple(words for words in (*own, *merged) if words)
