"""What the commands of `yass` do; each gives the text to print."""

from yass_dask.commands.checks import run_selftest, run_verify
from yass_dask.commands.clusters import run_cancel, run_detached, run_dry, run_jobs, run_slurm_script, run_status
from yass_dask.commands.sorting import SortOptions, detect_overrides, output_folder, run_sort
from yass_dask.commands.stability import run_stability
from yass_dask.commands.tools import run_compare, run_curated, run_export, run_info, run_report, run_simulate
from yass_dask.commands.training import TrainOptions, run_train

__all__ = [
    "SortOptions",
    "TrainOptions",
    "detect_overrides",
    "output_folder",
    "run_cancel",
    "run_compare",
    "run_curated",
    "run_detached",
    "run_dry",
    "run_export",
    "run_info",
    "run_jobs",
    "run_report",
    "run_selftest",
    "run_simulate",
    "run_slurm_script",
    "run_sort",
    "run_stability",
    "run_status",
    "run_train",
    "run_verify",
]
