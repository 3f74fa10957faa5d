"""The end of a sort: last drops, a label for every unit, and the audit of how all units came about."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import pdtrc

from yass_dask.deconvolve import DeconvolveParams
from yass_dask.drops import last_drops, share_a_channel, without_leftovers
from yass_dask.events import Events
from yass_dask.likely import Fits, fit_units
from yass_dask.merge import MergeParams
from yass_dask.motion.displacement import Motion
from yass_dask.motion.joining import join_divided
from yass_dask.preprocess import COUNTS_PER_SD, Clean
from yass_dask.recording.spans import inside
from yass_dask.refine import Units, trains_of
from yass_dask.sizes import Sizes, last_sizes
from yass_dask.sorting import Sorting, SpreadTemplates, read_templates
from yass_dask.store.disk import readable_errors

VIOLATION_MS = 2.0
"""Spikes of a unit closer than this are violations of its refractory period."""
GOOD_CONTAMINATION = 0.1
GOOD_LEVEL = 6.0
NOISE_LEVEL = 5.0
SURELY_REAL = 3.0
"""No noise has log-odds of which half are so many times the least that pursuit accepts."""
LOCATION_RADIUS_UM = 100.0
MOTION_FOLDER = "motion"
ORIGINS = dict.fromkeys(("found", "split"), "a cluster of its own that pursuit confirmed") | {
    "known": "known from another sort, and found here"
}
"""Actions of the audit that a unit begins with, and why one stands that does"""


def finish(
    folder: Path, clean: Clean, units: Units, spikes: Events, audit: list[dict[str, Any]], params: MergeParams,
    pursuit: DeconvolveParams, motion: Motion | None = None,
) -> Sorting:  # fmt: skip
    """Sorting of the last round's spikes, written into the folder.

    Parameters
    ----------
    audit : lines of all rounds
    pursuit : how the spikes were found; within its refractory time no unit can show a violation
    motion : how the tissue moved, None where that was not looked for; units that divide the displacements are joined
    """
    fields, audit = spikes.load(), list(audit)
    templates, rate = units.templates, clean.recording.sampling_rate
    excluded = clean.recording.excluded_samples
    # At its edges an excluded period shows parts of spikes.
    fields = {name: values[~inside(fields["sample_index"], excluded)] for name, values in fields.items()}
    moved = None if motion is None or motion.is_none else motion
    fits = _fitted(fields, units, pursuit, clean.recording.n_kept(), moved)
    likely = fields["log_odds"] >= fits.least[fields["unit_index"]]
    fields = without_leftovers({name: values[likely] for name, values in fields.items()}, units, clean, params)
    in_uv = templates.waveforms * np.append(clean.unit_per_sd, 0)[templates.channels][:, None, :]
    heights_uv = np.abs(in_uv).max(axis=(1, 2), initial=0)
    joined = {} if moved is None else divided(fields, units, fits, clean, params, moved)
    fields, fits = together(fields, joined, heights_uv), surest(fits, joined)
    dropped = last_drops(fields, units, fits, clean, params)
    dropped |= {u: ("merge", int(templates.ids[into]), reason) for u, (into, reason) in joined.items()}
    audit += [{"unit": int(templates.ids[u]), "action": action, "into": into, "reason": reason}
              for u, (action, into, reason) in dropped.items()]  # fmt: skip
    kept = np.array([u for u in range(len(templates)) if u not in dropped], np.int64)
    mine = np.isin(fields["unit_index"], kept)
    fields = {name: values[mine] for name, values in fields.items()}
    waveforms: Any = SpreadTemplates(in_uv[kept].astype(np.float32), templates.channels[kept], templates.n_channels)
    height = np.abs(templates.waveforms).max(axis=(1, 2), initial=0)
    unit_height = heights_uv[kept]
    row = np.searchsorted(kept, fields["unit_index"])
    main, trains = templates.main_channels(clean.unit_per_sd), trains_of(fields, len(templates))
    rows = [
        _facts(u, trains[u], int(main[u]), units, clean, height[u], pursuit.refractory_ms)
        | {"height_uv": float(unit_height[i]), "expected_accuracy": float(fits.accuracy[u])}
        for i, u in enumerate(kept)
    ]
    sorting = Sorting(
        sample_index=fields["sample_index"],
        unit_index=templates.ids[fields["unit_index"]],
        amplitudes=fields["amplitude"] * unit_height[row],
        templates=waveforms,
        unit_ids=templates.ids[kept],
        unit_locations=np.array([[r["x_um"], r["y_um"]] for r in rows]).reshape(-1, 2),
        units=audit_table(rows, audit),
        sampling_rate=rate,
        n_samples=clean.recording.n_samples,
        template_peak=templates.peak,
        probe=clean.recording.probe,
        channel_ids=clean.recording.channel_ids,
        trace_gain=clean.unit_per_sd / COUNTS_PER_SD,
        excluded_samples=excluded,
    )
    write_motion(motion, folder / MOTION_FOLDER)
    return replace(sorting, path=sorting.write(folder), templates=read_templates(folder))


def _fitted(
    fields: Mapping[str, np.ndarray], units: Units, pursuit: DeconvolveParams, n_samples: int, moved: Motion | None
) -> Fits:
    """What the log-odds of the spikes say, where units that change are as large as they are on average."""
    levels, changing = units.levels, np.full(len(units.levels), moved is not None)
    if pursuit.follow_sizes:
        sizes = last_sizes(fields, units, pursuit.amplitude_sd)
        changing |= sizes.changes
        levels = levels * [_mean_size(u, fields, sizes, pursuit.log_odds) for u in range(len(levels))]
    relative = None
    if units.poses is not None:
        rows = units.poses.index().of_spikes(fields["unit_index"], fields["sample_index"])
        relative = units.poses.levels()[rows] / np.maximum(units.levels[fields["unit_index"]], 1e-9)
    return fit_units(fields, levels, pursuit.log_odds, n_samples, changing, relative)


def _mean_size(u: int, fields: Mapping[str, np.ndarray], sizes: Sizes, threshold: float) -> float:
    """Root mean square of the sizes of a unit's spikes; 1 if it does not change, or may be noise."""
    if not sizes.changes[u]:
        return 1.0
    mine = fields["unit_index"] == u
    if np.median(fields["log_odds"][mine]) < SURELY_REAL * threshold:
        return 1.0
    return float(np.sqrt((np.interp(fields["sample_index"][mine], sizes.knots[u], sizes.values[u]) ** 2).mean()))


def write_motion(motion: Motion | None, folder: Path) -> None:
    """Write the motion, in place of an earlier sort's; see `Motion.save`."""
    with readable_errors(folder.parent):
        shutil.rmtree(folder, ignore_errors=True)
        if motion is not None:
            motion.save(folder)


def divided(
    fields: Mapping[str, np.ndarray], units: Units, fits: Fits, clean: Clean, params: MergeParams, motion: Motion
) -> dict[int, tuple[int, str]]:
    """Units that are others at other displacements: row -> (row of the other, why)."""
    n_units, recording = len(units.templates), clean.recording
    depths = recording.probe.positions[units.templates.main_channels(clean.unit_per_sd), 1]
    near = np.stack([share_a_channel(units, u) for u in range(n_units)]) if n_units else np.zeros((0, 0), bool)
    templates = units.templates
    waveforms = SpreadTemplates(templates.waveforms, templates.channels, templates.n_channels)
    trains = trains_of(fields, n_units)
    known = units.templates.ids < units.first_new
    standing = ~np.isin(np.arange(n_units), list(last_drops(fields, units, fits, clean, params)))
    return join_divided(
        trains, waveforms, depths, near | near.T, motion, recording.n_samples, recording.sampling_rate, known, standing
    )


def together(
    fields: Mapping[str, np.ndarray], joined: Mapping[int, tuple[int, str]], heights: np.ndarray
) -> dict[str, np.ndarray]:
    """Spikes of joined units as those of the units they go to, at amplitudes relative to these."""
    if not joined:
        return dict(fields)
    into = np.arange(len(heights), dtype=fields["unit_index"].dtype)
    into[list(joined)] = [row for row, _ in joined.values()]
    scale = (heights / np.maximum(heights[into], 1e-9)).astype(fields["amplitude"].dtype)
    units = fields["unit_index"]
    return dict(fields) | {"unit_index": into[units], "amplitude": fields["amplitude"] * scale[units]}


def surest(fits: Fits, joined: Mapping[int, tuple[int, str]]) -> Fits:
    """A joined unit is no noise if one of its members is none: what the surest of them says holds for it."""
    accuracy, centre = fits.accuracy.copy(), fits.centre.copy()
    for u, (into, _) in joined.items():
        accuracy[into] = max(accuracy[into], fits.accuracy[u])
        centre[into] = max(centre[into], fits.centre[u])
    return fits._replace(accuracy=accuracy, centre=centre)


def _facts(
    u: int, train: np.ndarray, main: int, units: Units, clean: Clean, height: float, censored_ms: float
) -> dict[str, Any]:
    """What the audit table tells of a unit that is kept."""
    recording, templates = clean.recording, units.templates
    windows = recording.n_kept(), recording.samples(VIOLATION_MS), recording.samples(censored_ms)
    contamination, violations = contamination_of(train, *windows)
    x, y = _location(u, units, clean, main)
    label = "mua"
    if units.levels[u] < NOISE_LEVEL:
        label = "noise"
    elif units.levels[u] >= GOOD_LEVEL and not surely_contaminated(violations, len(train), *windows):
        label = "good"
    return {
        "unit_id": int(templates.ids[u]), "label": label, "n_spikes": len(train),
        "rate_hz": len(train) * recording.sampling_rate / max(recording.n_kept(), 1), "snr": float(height),
        "contamination": contamination,
        "violations": violations, "peak_channel": recording.channel_ids[main], "x_um": x, "y_um": y,
        "noise_distance_sd": float(units.levels[u]),
    }  # fmt: skip


def contamination_of(train: np.ndarray, n_samples: int, refractory: int, censored: int) -> tuple[float, int]:
    """Estimated share of foreign spikes from violations of the refractory period, and their number.

    C = 1 - sqrt(1 - v T / (n^2 (r - c))) for v violations among n spikes in time T, r the refractory period and c
    the censored time (Llobet, Wyngaard and Barbour 2022, for contaminants that fire at random); 1 where v is more
    than chance gives.
    """
    gaps = np.diff(train)
    violations = int(np.count_nonzero((gaps > censored) & (gaps <= refractory)))
    window = refractory - censored
    if len(train) == 0 or window <= 0:
        return 0.0, violations
    ratio = violations * n_samples / (len(train) ** 2 * window)
    return float(1 - np.sqrt(max(1 - ratio, 0.0))), violations


def surely_contaminated(violations: int, n_spikes: int, n_samples: int, refractory: int, censored: int) -> bool:
    """Would a unit with GOOD_CONTAMINATION foreign spikes show so many violations in less than 1 of 20 cases?

    One violation among few spikes makes any estimate large and proves nothing; hence a test in place of the estimate.
    """
    window = max(refractory - censored, 0)
    expected = (1 - (1 - GOOD_CONTAMINATION) ** 2) * n_spikes**2 * window / n_samples
    return bool(pdtrc(violations - 1, expected) < 0.05) if violations else False


def _location(u: int, units: Units, clean: Clean, main: int) -> tuple[float, float]:
    """Centre of mass of the squared peak-to-peak amplitudes around the main channel, um."""
    templates, positions = units.templates, clean.recording.probe.positions
    extent = np.append(np.zeros(templates.n_channels), 0)
    extent[templates.channels[u]] = np.ptp(templates.waveforms[u], axis=0)
    power = (extent[:-1] * clean.unit_per_sd) ** 2
    near = np.linalg.norm(positions - positions[main], axis=1) <= LOCATION_RADIUS_UM
    weights = power * near
    if weights.sum() == 0:
        return float(positions[main, 0]), float(positions[main, 1])
    x, y = (weights[:, None] * positions).sum(axis=0) / weights.sum()
    return float(x), float(y)


def audit_table(rows: list[dict[str, Any]], audit: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for every unit there ever was: kept, merged or dropped, where it came from and why it ended so."""
    origin: dict[int, str] = {}
    why: dict[int, str] = {}
    taken: dict[int, list[int]] = {}
    end: dict[int, dict[str, Any]] = {}
    for line in audit:
        unit = line["unit"]
        if line["action"] in ORIGINS:
            origin[unit] = line["reason"]
            why[unit] = ORIGINS[line["action"]]
        else:
            end[unit] = line
            if line["action"] == "merge":
                taken.setdefault(line["into"], []).append(unit)
    kept = {row["unit_id"]: row for row in rows}
    table = []
    for unit in sorted(set(origin) | set(kept)):
        row = {"unit_id": unit, "origin": origin.get(unit, "")}
        if unit in kept:
            joined, said = taken.get(unit, []), why.get(unit, ORIGINS["found"])
            said += f"; units {', '.join(map(str, joined))} were merged into it" if joined else ""
            table.append({**kept[unit], **row, "state": "kept", "merged_into": None, "why": said})
        else:
            line = end.get(unit, {"action": "drop", "into": None, "reason": "no spikes were left"})
            state = {"merge": "merged", "drop": "dropped"}[line["action"]]
            into = line["into"] if state == "merged" else None
            table.append({**row, "label": "", "state": state, "merged_into": into, "why": line["reason"]})
    return table
