"""Arguments and options of `yass ...` that commands share, or that would hide what a command does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YASS configuration file (YAML).")]
OptionalConfigFile = Annotated[
    Path | None, typer.Argument(metavar="CONFIG", help="YASS configuration file (YAML); optional with --read.")
]
Read = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT:PATH[#STREAM]",
        help="Sort what SpikeInterface opens: spikeglx, open-ephys, intan, nwb, mearec and more.",
    ),
]
ProbeFile = Annotated[
    Path | None,
    typer.Option("--probe", help="Contact positions: .txt, .npy or probeinterface .json [default: the recording's]"),
]
Templates = Annotated[
    Path | None, typer.Option(help="Folder of a sort, or of one curated, whose units are known: they keep their ids.")
]
OutputDir = Annotated[
    Path,
    typer.Option("--output-dir", "--output_dir", "-o", help="Where results go, within root_folder unless absolute."),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Number of workers, on slurm of each job [default: resources.processes]")
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="threads|sync|local|slurm|tcp://...|FILE.json", help="Where tasks run [default: threads]"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan, on slurm the jobs' script; sort nothing.")]
Detach = Annotated[
    bool, typer.Option("--detach", help="Sort in a process of its own that runs on; see yass jobs, status, cancel.")
]
Backend = Annotated[str, typer.Option(metavar="auto|numpy|numba|jax|cupy", help="What the kernels run on.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.KEY=VALUE", help="Set a parameter of a stage; may be repeated."),
]
Detector = Annotated[
    str | None,
    typer.Option(metavar="auto|threshold|nnet", help="How spikes are detected [default: params.detect.method]"),
]
Model = Annotated[Path | None, typer.Option(help="Folder of networks that yass train wrote [default: the package's]")]
KeepTraces = Annotated[
    bool, typer.Option("--keep-traces/--delete-traces", help="Keep the preprocessed traces at the end.")
]
StoreTraces = Annotated[
    bool | None,
    typer.Option(
        "--store-traces/--recompute-traces",
        help="Store preprocessed traces, or make them anew whenever they are read [default: resources.store_traces]",
    ),
]
Complete = Annotated[
    bool, typer.Option("--complete", "-cm", help="Also write the files of YASS 0.10's steps, and keep the traces.")
]
ZeroSeed = Annotated[bool, typer.Option("--zero_seed", "-z", help="The same as --seed 0.")]
GpuMemory = Annotated[
    float | None,
    typer.Option("--global_gpu_memory", "-g", metavar="SHARE", help="Share of GPU memory, at most [default: all]"),
]
LoggerLevel = Annotated[
    str, typer.Option("--logger-level", "--logger_level", "-l", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR.")
]
Profile = Annotated[bool, typer.Option("--profile", help="Write a performance report of every stage into OUT/profile.")]
Jobs = Annotated[int | None, typer.Option(min=1, help="slurm: number of batch jobs.")]
Queue = Annotated[str | None, typer.Option(help="slurm: partition.")]
Walltime = Annotated[str | None, typer.Option(metavar="[D-]HH:MM:SS", help="slurm: longest time of a job.")]
GpusPerJob = Annotated[int | None, typer.Option("--gpus-per-job", min=0, help="slurm: GPUs of each job.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, or its beginning.")]
Sorted = Annotated[Path, typer.Argument(metavar="OUT", help="Output folder of a finished sort.")]
