"""The parts of the page, as HTML."""

from __future__ import annotations

import html
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from yass_dask.report import figures, motion
from yass_dask.report.remarks import remarks
from yass_dask.report.units import UnitNumbers

if TYPE_CHECKING:
    from yass_dask.report.page import Findings

COLUMNS = (
    "unit", "label", "spikes", "Hz", "SNR", "violations %", "foreign %", "presence %", "expected right %", "height",
    "channel", "depth um", "alike", "similarity",
)  # fmt: skip
STABLE_COLUMN = "stable %"
MOST_GONE = 2000


def head(f: Findings, when: str) -> str:
    """What was sorted, in figures and in words."""
    s = f.sorting
    labels = Counter(unit.label for unit in f.units)
    facts: dict[str, Any] = {
        "units": f"{s.n_units:,}",
        **{name: f"{labels[name]:,}" for name in sorted(labels)},
        "spikes": f"{s.n_spikes:,}",
        "recorded": duration(s.duration_s),
        "channels": f"{s.n_channels:,}",
        "sampled at": f"{s.sampling_rate / 1e3:g} kHz",
    }
    if "total_s" in f.metadata:
        facts["sorted in"] = duration(float(f.metadata["total_s"]))
    tiles = "".join(
        f'<div><dt>{esc(name)}</dt><dd data-fact="{esc(name)}">{esc(value)}</dd></div>' for name, value in facts.items()
    )
    said = remarks(s, f.units, f.seen, f.stability)
    listed = "".join(f"<li>{esc(line)}</li>" for line in said) or "<li>Nothing stands out.</li>"
    return (
        f'<h1>Sorting report</h1><p class="quiet path">{esc(s.path or "a sorting in memory")}, {esc(when)}</p>'
        f'<dl class="facts">{tiles}</dl><ul id="remarks">{listed}</ul>'
    )


def whole(f: Findings) -> str:
    """Units on the probe, peaks over time."""
    probe = figure(figures.probe_map(f.sorting, f.units), "Units on the probe; larger circles have a larger SNR.")
    if f.seen is None:
        words = f"<p>No drift raster, no residual: {esc(f.why_unseen)}</p>"
        return f'<h2>The recording</h2><div id="maps">{probe}{words}</div>'
    raster = figure(
        figures.raster(f.sorting, f.seen.peaks),
        f"Depth of {len(f.seen.peaks['seconds']):,} peaks in {f.seen.seconds:.0f} s looked at, as the probe saw "
        "them, the higher the stronger in colour. Bands that bend are drift.",
    )
    left = figure(
        figures.left_over(f.sorting, f.seen),
        f"Peaks above {f.seen.threshold:g} noise standard deviations per second, before (grey) and after (red) spikes "
        "are subtracted.",
    )
    wide = "".join(f'<div class="wide">{one}</div>' for one in (raster, left))
    return f'<h2>The recording</h2><div id="maps">{probe}<div>{wide}</div></div>'


def moved(f: Findings) -> str:
    """How the tissue moved, and the peaks when that is taken away."""
    if f.motion is None:
        return ""
    drawn = ""
    if not f.motion.is_none:
        depths = f.motion.depths_um
        where = (
            f"at {depths[0]:.0f} um" if len(depths) == 1 else f"at depths from {depths[0]:.0f} to {depths[-1]:.0f} um"
        )
        drawn = figure(motion.displacement(f.motion), f"Displacement {where}; shaded: its uncertainty.")
        if f.seen is not None:
            still = motion.held_still(f.sorting, f.motion, f.seen.peaks)
            drawn += figure(still, "The peaks of the raster above less the displacement: what bent is straight now, "
                            "but for the probe's ends, which see only a part of their neurons.")  # fmt: skip
    said = esc(motion.words(f.motion))
    return f'<h2>Motion of the tissue</h2><p id="motion">{said}</p><div class="wide">{drawn}</div>'


def residual(f: Findings) -> str:
    """What is left when spikes are subtracted."""
    if f.seen is None:
        return ""
    before, after = (math.sqrt(power.mean()) for power in (f.seen.power_before, f.seen.power_after))
    total, left = int(f.seen.n_before.sum()), int(f.seen.n_after.sum())
    facts = (
        f'<p>Peaks: <b data-fact="peaks before">{total:,}</b> before, <b data-fact="peaks after">{left:,}</b> after. '
        f'RMS: <b data-fact="rms before">{before:.3f}</b> noise standard deviations before, '
        f'<b data-fact="rms after">{after:.3f}</b> after.</p>'
    )
    shown = ""
    if f.seen.example is not None:
        shown = figure(
            figures.example(f.sorting, f.seen.example),
            "The stretch with most spikes among those looked at: traces, and in red what the spikes leave of them.",
        )
    return f'<h2>The residual</h2>{facts}<div class="wide">{shown}</div>'


def table(f: Findings) -> str:
    """A row for each unit."""
    if not f.units:
        return ""
    columns = COLUMNS if f.stability is None else (*COLUMNS, STABLE_COLUMN)
    titles = "".join(f"<th>{esc(column)}</th>" for column in columns)
    rows = "".join(_row(f, unit) for unit in f.units)
    labels = sorted({unit.label for unit in f.units})
    buttons = "".join(
        f'<button value="{esc(label)}" aria-pressed="{"false" if label else "true"}">{esc(label or "all")}</button> '
        for label in ("", *labels)
    )
    return (
        f'<h2>Units</h2><nav>{buttons}</nav><div class="wide"><table id="units"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{_stability_words(f)}"
    )


def _stability_words(f: Findings) -> str:
    if f.stability is None:
        return ""
    how = f.stability.how
    return (
        f'<p class="quiet" id="stability">Stable: share of a unit\'s spikes that were found again when '
        f"{100 * how['rate']:g} % more spikes of every unit were added to the recording and it was sorted again "
        f"({100 * how['moved_share']:g} % of the units got them at another place of the probe).</p>"
    )


def _stable(f: Findings, unit: UnitNumbers) -> float | None:
    """Stability of a unit, %; None where it was not measured."""
    return None if f.stability is None else percent(f.stability.of(unit.unit).get("stability"))


def _row(f: Findings, unit: UnitNumbers) -> str:
    cells: list[tuple[Any, str]] = [
        (unit.unit, link(unit.unit)),
        (unit.label, f'<span class="label {esc(unit.label)}">{esc(unit.label)}</span>'),
        (unit.n_spikes, f"{unit.n_spikes:,}"),
        number(unit.rate_hz, "{:.2f}"),
        number(unit.snr, "{:.1f}"),
        number(100 * unit.violation_share, "{:.2f}"),
        number(percent(unit.contamination), "{:.1f}"),
        number(100 * unit.presence, "{:.0f}"),
        number(percent(unit.expected_accuracy), "{:.1f}"),
        number(unit.height, "{:.0f}"),
        (unit.channel, esc(f.sorting.channel_ids[unit.channel])),
        number(float(f.sorting.unit_locations[unit.row][1]), "{:.0f}"),
        ("" if unit.neighbor is None else unit.neighbor, "" if unit.neighbor is None else link(unit.neighbor)),
        number(unit.similarity, "{:.2f}"),
        *([] if f.stability is None else [number(_stable(f, unit), "{:.0f}")]),
    ]
    shown = "".join(f'<td data-value="{esc(value)}">{words}</td>' for value, words in cells)
    return f'<tr data-unit="{unit.unit}" data-label="{esc(unit.label)}">{shown}</tr>'


def cards(f: Findings, most_bytes: int) -> str:
    """A card for each unit, as many as fit into so many bytes."""
    made: list[str] = []
    for unit in f.units:
        card = _card(f, unit)
        most_bytes -= len(card.encode()) + 1
        if most_bytes < 0:
            left = len(f.units) - len(made)
            made.append(
                f'<p id="no-cards">{left:,} more units have no card, or the page would be too large to open.</p>'
            )
            break
        made.append(card)
    return "\n".join(made)


def _card(f: Findings, unit: UnitNumbers) -> str:
    s, seen = f.sorting, f.seen
    spread = None if seen is None or seen.n_waveforms[unit.row] < 2 else seen.spread[unit.row]
    measured = "" if spread is None or seen is None else f" ± sd of {seen.n_waveforms[unit.row]} cleaned spikes"
    parts = [
        figure(figures.waveform(s, unit, f.channels[unit.row], spread, f.word), f"waveform{measured}"),
        figure(figures.autocorrelogram(s, unit), "autocorrelogram; red: 2 ms"),
        figure(figures.over_time(s, unit), f"amplitude ({f.word}), rate"),
    ]
    if unit.neighbor is not None:
        words = f"with unit {link(unit.neighbor)}, similarity {unit.similarity:.2f}"
        other = next(one for one in f.units if one.unit == unit.neighbor)
        parts.append(figure(figures.crosscorrelogram(s, unit, other), words))
    x, y = s.unit_locations[unit.row]
    facts = {
        "spikes": f"{unit.n_spikes:,}",
        "rate": f"{unit.rate_hz:.2f} Hz",
        "SNR": words_of(unit.snr, "{:.1f}"),
        "violations": f"{unit.n_violations:,} ({100 * unit.violation_share:.2f} %)",
        "foreign spikes": words_of(percent(unit.contamination), "{:.1f} %"),
        "presence": f"{100 * unit.presence:.0f} %",
        "expected right": words_of(percent(unit.expected_accuracy), "{:.1f} %"),
        "stable": words_of(_stable(f, unit), "{:.0f} %"),
        "height": f"{unit.height:.0f} {f.word}",
        "at": f"{x:.0f}, {y:.0f} um",
    }
    listed = "".join(
        f'<div><dt>{name}</dt><dd data-fact="{name}">{value}</dd></div>' for name, value in facts.items() if value
    )
    audit = "; ".join(esc(line) for line in unit.audit)
    return (
        f'<section class="card" id="unit-{unit.unit}" data-label="{esc(unit.label)}"><header><h3>Unit {unit.unit}</h3>'
        f'<span class="label {esc(unit.label)}">{esc(unit.label)}</span></header><dl>{listed}</dl>'
        f'<div class="figures">{"".join(parts)}</div><p class="audit">{audit}</p></section>'
    )


def gone(f: Findings) -> str:
    """Units that were merged or dropped on the way, and why."""
    kept = {unit.unit for unit in f.units}
    lines = [row for row in f.sorting.units if row.get("unit_id") not in kept]
    if not lines:
        return ""
    rows = "".join(
        f"<tr><td>{esc(row.get('unit_id'))}</td><td>{esc(row.get('state') or '')}</td>"
        f"<td>{esc('' if row.get('merged_into') is None else row['merged_into'])}</td>"
        f'<td class="words">{esc(row.get("origin") or "")}</td><td class="words">{esc(row.get("why") or "")}</td></tr>'
        for row in lines[:MOST_GONE]
    )
    return (
        f"<h2>Units that are no more</h2><details><summary>{len(lines):,} were merged or dropped</summary>"
        '<div class="wide"><table id="gone"><thead><tr><th>unit</th><th>state</th><th>into</th>'
        '<th class="words">began as</th><th class="words">why</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def run(f: Findings) -> str:
    """How long what took, and by what it was sorted."""
    seconds = {name: float(stage.get("seconds", 0)) for name, stage in f.stages.items()}
    most = max(seconds.values(), default=0.0) or 1.0
    rows = "".join(
        f'<tr data-stage="{esc(name)}"><td class="words">{esc(name)}</td><td>{seconds[name]:.2f}</td>'
        f"<td>{float(stage.get('peak_bytes', 0)) / 1e6:.0f}</td><td>{esc(stage.get('parts', ''))}</td>"
        f'<td class="fill"><span class="bar" style="width:{100 * seconds[name] / most:.1f}%"></span></td></tr>'
        for name, stage in f.stages.items()
    )
    stages = (
        '<h2>How it was sorted</h2><div class="wide"><table id="stages"><thead><tr><th class="words">stage</th>'
        "<th>seconds</th><th>peak MB</th><th>parts</th><th></th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )
    about = {key: value for key, value in f.metadata.items() if key != "stages"}
    listed = "\n".join(f"{key}: {value}" for key, value in about.items())
    details = [("Versions and machine", listed), ("Configuration", f.config.strip())]
    texts = "".join(
        f"<details open><summary>{title}</summary><pre>{esc(words)}</pre></details>"
        for title, words in details
        if words
    )
    return (stages if rows else "") + texts


def figure(drawing: str, caption: str) -> str:
    return f"<figure>{drawing}<figcaption>{caption}</figcaption></figure>"


def link(unit: int) -> str:
    return f'<a href="#unit-{unit}">{unit}</a>'


def number(value: float | None, form: str) -> tuple[Any, str]:
    """What a table sorts by, and what it shows."""
    return ("" if value is None else f"{value:.6g}", words_of(value, form))


def words_of(value: float | None, form: str) -> str:
    return "" if value is None or not math.isfinite(value) else form.format(value)


def percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def esc(value: Any) -> str:
    return html.escape(str(value))
