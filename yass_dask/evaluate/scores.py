"""Scores of a comparison with true spikes, as numbers, text and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np

COLLISION_MS = 0.5
SNR_EDGES = (0.0, 3.0, 5.0, 8.0, 12.0, 20.0, np.inf)


@dataclass(frozen=True)
class UnitAgreement:
    """How well one true unit was found; without a match the shares are 0 and the rest is None."""

    unit_id: int
    snr: float | None
    n_spikes: int
    matched_unit: int | None
    accuracy: float
    """Matched spikes over the spikes of either: tp / (tp + fn + fp)."""
    recall: float
    precision: float
    offset_samples: float | None
    """Median of found less true time over matched spikes."""
    within_one_sample: float | None
    """Share of matched spikes at most one sample off."""
    n_collisions: int
    """Spikes within 0.5 ms of another true unit's."""
    collision_recall: float | None
    """Share of those that were found; None without collisions."""


@dataclass(frozen=True)
class Agreement:
    """What `compare` found."""

    units: tuple[UnitAgreement, ...]
    found_counts: dict[int, int]
    """Spikes of each found unit."""
    false_units: tuple[int, ...]
    """Found units that agree less than 0.2 with every true unit."""
    redundant_units: tuple[int, ...]
    """Found units without a match that agree (0.2 or more) best with a true unit that another matches."""
    overmerged_units: tuple[int, ...]
    """Found units that agree at least 0.2 with two true units or more."""

    @property
    def mean_accuracy(self) -> float:
        """Mean accuracy over all true units, 0 for those not matched; NaN without true units."""
        return _mean([unit.accuracy for unit in self.units])

    @property
    def n_matched(self) -> int:
        return sum(unit.matched_unit is not None for unit in self.units)

    @property
    def collision_recall(self) -> float:
        """Share found of the colliding spikes of all matched units; NaN where there are none."""
        matched = [unit for unit in self.units if unit.matched_unit is not None]
        n_found = sum(unit.n_collisions * (unit.collision_recall or 0.0) for unit in matched)
        n_collisions = sum(unit.n_collisions for unit in matched)
        return n_found / n_collisions if n_collisions else float("nan")

    @property
    def false_shares(self) -> dict[int, float]:
        """Share of all found spikes that each false unit holds."""
        total = sum(self.found_counts.values())
        return {unit: self.found_counts[unit] / total for unit in self.false_units}

    def mean_accuracy_above(self, snr: float) -> float:
        """Mean accuracy over true units of at least this signal-to-noise ratio; NaN without such units."""
        return _mean([unit.accuracy for unit in self.units if unit.snr is not None and unit.snr >= snr])

    def by_snr(self, edges: tuple[float, ...] = SNR_EDGES) -> list[tuple[float, float, int, float]]:
        """(low, high, n_units, mean accuracy) for each bin [low, high) that holds a unit."""
        bins = []
        for low, high in pairwise(edges):
            inside = [u.accuracy for u in self.units if u.snr is not None and low <= u.snr < high]
            if inside:
                bins.append((low, high, len(inside), _mean(inside)))
        return bins

    def to_json(self) -> str:
        """All of it as JSON text; NaN becomes null."""
        summary = {
            "n_units": len(self.units),
            "n_matched": self.n_matched,
            "n_found": len(self.found_counts),
            "mean_accuracy": _or_none(self.mean_accuracy),
            "mean_accuracy_snr5": _or_none(self.mean_accuracy_above(5.0)),
            "collision_recall": _or_none(self.collision_recall),
            "accuracy_by_snr": [
                {"snr_from": low, "snr_to": _or_none(high), "n_units": count, "mean_accuracy": mean}
                for low, high, count, mean in self.by_snr()
            ],
            "false_units": {str(unit): share for unit, share in self.false_shares.items()},
            "redundant_units": list(self.redundant_units),
            "overmerged_units": list(self.overmerged_units),
            "units": [asdict(unit) for unit in self.units],
        }
        return json.dumps(summary, indent=2, allow_nan=False)

    def table(self) -> str:
        """Text for a terminal: one row per true unit, the largest first, then the means."""
        ordered = sorted(self.units, key=lambda unit: (-(unit.snr or 0.0), unit.unit_id))
        rows = [_HEADER, *(_row(unit) for unit in ordered)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([*lines, "", *self._summary_lines()])

    def _summary_lines(self) -> list[str]:
        clear = self.mean_accuracy_above(5.0)
        lines = [
            f"true units {len(self.units)}, matched {self.n_matched}, found units {len(self.found_counts)}",
            f"mean accuracy {self.mean_accuracy:.3f}; on units with SNR >= 5: {clear:.3f}",
            f"recall of spikes within {COLLISION_MS} ms of another unit's: {self.collision_recall:.3f}",
        ]
        lines += [f"  SNR {low:g}-{high:g}: {mean:.3f} ({count} units)" for low, high, count, mean in self.by_snr()]
        shares = ", ".join(f"{unit} ({share:.1%} of the spikes)" for unit, share in self.false_shares.items())
        lines.append(f"false units: {shares or 'none'}")
        lines.append(f"redundant units: {', '.join(map(str, self.redundant_units)) or 'none'}")
        lines.append(f"overmerged units: {', '.join(map(str, self.overmerged_units)) or 'none'}")
        return lines


_HEADER = (
    "unit",
    "snr",
    "spikes",
    "matched",
    "accuracy",
    "recall",
    "precision",
    "offset",
    "within 1",
    "collided",
)


def _row(unit: UnitAgreement) -> tuple[str, ...]:
    def shown(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return (
        str(unit.unit_id),
        shown(unit.snr, ".1f"),
        str(unit.n_spikes),
        shown(unit.matched_unit, "d"),
        f"{unit.accuracy:.3f}",
        f"{unit.recall:.3f}",
        f"{unit.precision:.3f}",
        shown(unit.offset_samples, "g"),
        shown(unit.within_one_sample, ".3f"),
        shown(unit.collision_recall, ".3f"),
    )


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
