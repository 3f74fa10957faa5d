"""`yass ...`: arguments in, one call, exit code out.

Exit codes: 0 done, 1 a fault (with the log's path), 2 bad input (with one readable message), 130 interrupted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from yass_dask import cli_sorted
from yass_dask import options as opt
from yass_dask.cli_checks import add_checks
from yass_dask.exits import run as _run

app = typer.Typer(
    help="Spike sorting by triage, clustering and pursuit, on Dask.",
    no_args_is_help=True,
    add_completion=False,
    # Plain help: no colour codes outside a terminal, and rich stays unimported.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line."""
    app(prog_name="yass")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"yass {version('yass-dask')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def sort(
    config: opt.OptionalConfigFile = None,
    read: opt.Read = None,
    probe: opt.ProbeFile = None,
    templates: opt.Templates = None,
    output_dir: opt.OutputDir = Path("tmp/"),
    clean: Annotated[bool, typer.Option("--clean", "-c", help="Delete earlier results there first.")] = False,
    workers: opt.Workers = None,
    scheduler: opt.Scheduler = None,
    jobs: opt.Jobs = None,
    queue: opt.Queue = None,
    walltime: opt.Walltime = None,
    gpus_per_job: opt.GpusPerJob = None,
    dry_run: opt.DryRun = False,
    detach: opt.Detach = False,
    backend: opt.Backend = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    detector: opt.Detector = None,
    model: opt.Model = None,
    overrides: opt.Overrides = None,
    start: Annotated[float | None, typer.Option(min=0, help="Sort from this second on.")] = None,
    end: Annotated[float | None, typer.Option(min=0, help="Sort up to this second.")] = None,
    keep_traces: opt.KeepTraces = True,
    store_traces: opt.StoreTraces = None,
    complete: opt.Complete = False,
    zero_seed: opt.ZeroSeed = False,
    global_gpu_memory: opt.GpuMemory = None,
    logger_level: opt.LoggerLevel = "INFO",
    no_progress: Annotated[bool, typer.Option("--no-progress", help="Show no progress.")] = False,
    profile: opt.Profile = False,
) -> None:
    """Sort the recording of a configuration file; run again after a stop, it goes on where it was."""
    from yass_dask.commands import SortOptions, detect_overrides, run_detached, run_dry, run_sort

    options = SortOptions(
        config=config, read=read, probe=probe, templates=templates, output_dir=output_dir, clean=clean,
        workers=workers, scheduler=scheduler, jobs=jobs, queue=queue, walltime=walltime, gpus_per_job=gpus_per_job,
        backend=backend, seed=0 if zero_seed else seed,
        overrides=(*detect_overrides(detector, model), *(overrides or ())), start_s=start, end_s=end,
        keep_traces=keep_traces or complete, store_traces=store_traces, complete=complete,
        gpu_memory=global_gpu_memory, logger_level=logger_level, progress=not no_progress, profile=profile,
    )  # fmt: skip
    command = run_dry if dry_run else run_detached if detach else run_sort
    _run(lambda: command(options))


@app.command("slurm-script", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def slurm_script(
    context: typer.Context,
    config: opt.ConfigFile,
    workers: Annotated[int | None, typer.Option(min=1, help="Workers of each job.")] = None,
    jobs: opt.Jobs = None,
    queue: opt.Queue = None,
    walltime: opt.Walltime = None,
    gpus_per_job: opt.GpusPerJob = None,
) -> None:
    """Print a script for sbatch that brings its own scheduler; further options go to `yass sort`."""
    from yass_dask.commands import SortOptions, run_slurm_script

    options = SortOptions(
        config=config, workers=workers, jobs=jobs, queue=queue, walltime=walltime, gpus_per_job=gpus_per_job
    )
    _run(lambda: run_slurm_script(options, [str(config.absolute()), *context.args]))


@app.command()
def train(
    files: Annotated[
        list[Path], typer.Argument(metavar="CONFIG", help="Configuration; or spike_train.npy config_train.yaml CONFIG.")
    ],
    output_dir: opt.OutputDir = Path("model/"),
    spike_train: Annotated[
        Path | None, typer.Option("--spike-train", help="npy file (n, 2): sample and unit [default: found by itself]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same weights.")] = 0,
    logger_level: opt.LoggerLevel = "INFO",
    no_progress: Annotated[bool, typer.Option("--no-progress", help="Show no progress.")] = False,
) -> None:
    """Train detector, triage and denoiser on a recording, for yass sort --detector nnet --model OUT."""
    from yass_dask.commands import TrainOptions, run_train

    options = TrainOptions(tuple(files), output_dir, spike_train, seed, logger_level, not no_progress)
    _run(lambda: run_train(options))


@app.command()
def jobs() -> None:
    """List the sorts that were started by --detach or sort(..., wait=False)."""
    from yass_dask.commands import run_jobs

    _run(run_jobs)


@app.command()
def status(
    job_id: opt.JobId, as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False
) -> None:
    """Tell how a job goes, and the end of its log."""
    from yass_dask.commands import run_status

    _run(lambda: run_status(job_id, as_json))


@app.command()
def cancel(job_id: opt.JobId) -> None:
    """Stop a job; what is finished is kept."""
    from yass_dask.commands import run_cancel

    _run(lambda: run_cancel(job_id))


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write the recording into.")],
    channels: Annotated[int, typer.Option(min=1, help="Number of channels.")] = 32,
    seconds: Annotated[float, typer.Option(min=0, help="Length of the recording.")] = 60.0,
    units: Annotated[int, typer.Option(min=0, help="Number of neurons.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another recording.")] = 0,
    rate: Annotated[float, typer.Option(help="Sampling rate in Hz.")] = 30000.0,
    snr: Annotated[tuple[float, float], typer.Option(metavar="LOW HIGH", help="Range of signal-to-noise ratios.")] = (
        3.0,
        30.0,
    ),
    geometry: Annotated[
        str, typer.Option(help="Probe: neuropixels, neuropixels2, grid, linear or tetrode.")
    ] = "neuropixels",
) -> None:
    """Write a small recording with true spikes, and the configuration file to sort it."""
    from yass_dask.commands import run_simulate

    scene = {"n_channels": channels, "seconds": seconds, "n_units": units, "seed": seed, "geometry": geometry}
    _run(lambda: run_simulate(out, **scene, sampling_rate=rate, snr=snr))


@app.command()
def info(config: opt.OptionalConfigFile = None, read: opt.Read = None, probe: opt.ProbeFile = None) -> None:
    """Check a configuration file, and tell what would be sorted and what that takes."""
    from yass_dask.commands import run_info

    _run(lambda: run_info(config, read, probe))


add_checks(app, _run)


@app.command(hidden=True)
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to work in.")] = Path("demo"),
    channels: Annotated[int, typer.Option(min=1)] = 32,
    seconds: Annotated[float, typer.Option(min=0)] = 60.0,
) -> None:
    """Simulate, sort and compare; what `make demo` runs."""
    from yass_dask.demo import run

    _run(lambda: run(folder, channels, seconds))


app.add_typer(cli_sorted.app)
