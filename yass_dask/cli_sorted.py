"""The commands of `yass` about a finished sort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from yass_dask import options as opt
from yass_dask.exits import run as _run

app = typer.Typer()


@app.command()
def compare(
    out: opt.Sorted,
    ground_truth: Annotated[
        Path, typer.Argument(metavar="GROUND_TRUTH", help="npz file with spike_times and spike_labels.")
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")] = False,
) -> None:
    """Compare a finished sort with the true spikes."""
    from yass_dask.commands import run_compare

    _run(lambda: run_compare(out, ground_truth, json))


@app.command()
def export(
    out: opt.Sorted,
    format: Annotated[str, typer.Option(metavar="phy|npz|nwb", help="What to write.")] = "phy",
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "--output_dir", "-o", help="Folder to write to [default: OUT/<format>]"),
    ] = None,
    session: Annotated[Path | None, typer.Option(help="nwb: YAML file with session_start and more.")] = None,
) -> None:
    """Write a finished sort in another program's format."""
    from yass_dask.commands import run_export

    _run(lambda: run_export(out, format, output_dir, session))


@app.command()
def curated(
    out: opt.Sorted,
    phy: Annotated[Path | None, typer.Option(help="Folder that was curated in phy [default: OUT/phy]")] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Folder to write into [default: OUT/curated]")
    ] = None,
) -> None:
    """Read back what was merged, split and labelled in phy, as a sorting of its own."""
    from yass_dask.commands import run_curated

    _run(lambda: run_curated(out, phy, output_dir))


@app.command()
def stability(
    out: opt.Sorted,
    rate: Annotated[float, typer.Option(min=0.01, max=1.0, help="Spikes added, as a share of a unit's own.")] = 0.25,
    moved: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the units whose added spikes are put elsewhere.")
    ] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Of the new times and places.")] = 0,
    workers: opt.Workers = None,
    scheduler: opt.Scheduler = None,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="Show no progress.")] = False,
) -> None:
    """Perturb the recording by its own units, sort it again, and tell which units are found again."""
    from yass_dask.commands import run_stability

    _run(
        lambda: run_stability(
            out, rate=rate, moved_share=moved, seed=seed, workers=workers, scheduler=scheduler, progress=not no_progress
        )
    )


@app.command()
def report(
    out: opt.Sorted,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write [default: OUT/report.html]")
    ] = None,
) -> None:
    """Write one HTML page about a finished sort: warnings, drift, residual, every unit."""
    from yass_dask.commands import run_report

    _run(lambda: run_report(out, output))
