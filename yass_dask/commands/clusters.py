"""Commands that sort elsewhere or later: SLURM's scripts, and jobs that run on by themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from yass_dask.commands.sorting import SortOptions, batch_of, check, describe, output_folder, plan_of, run_sort


def run_dry(options: SortOptions) -> str:
    """The plan, and on SLURM the script of each batch job; sorts nothing."""
    from yass_dask.runtime.batch import job_script

    job = check(options)
    plan = plan_of(job.config, job.recording, job.cluster)
    batch = batch_of(job.cluster, plan)
    script = [] if batch is None else [f"{batch.jobs} jobs of this script:", job_script(batch).rstrip()]
    return "\n".join([describe(job), *script])


def run_slurm_script(options: SortOptions, arguments: Sequence[str]) -> str:
    """A script for sbatch that runs scheduler, workers and `yass sort` with these arguments."""
    from yass_dask.runtime.batch import sort_script

    job = check(replace(options, scheduler="slurm"))
    batch = batch_of(job.cluster, plan_of(job.config, job.recording, job.cluster))
    assert batch is not None
    return sort_script(batch, arguments).rstrip()


def run_detached(options: SortOptions) -> str:
    """Start the sort in a process of its own; what is wrong with the input is said at once."""
    from yass_dask import jobs

    out = output_folder(check(options).config, options.output_dir)
    job = jobs.start(partial(run_sort, replace(options, progress=False)), out)
    return f"job {job.id} sorts into {out}; look at it by: yass status {job.id}"


def run_jobs() -> str:
    """A line for each job."""
    from yass_dask import jobs

    found = [(job, job.status()) for job in jobs.all_jobs()]
    lines = [f"{job.id}  {facts['started']}  {facts['out']}  {jobs.describe(facts)}" for job, facts in found]
    return "\n".join(lines) or "no jobs; `yass sort --detach` starts one"


def run_status(job_id: str, as_json: bool) -> str:
    """How a job goes, and the end of its log."""
    from yass_dask import jobs

    job = jobs.find(job_id)
    facts = job.status()
    if as_json:
        return json.dumps(facts, indent=1)
    lines = [f"job {job.id} on {facts['host']}, started {facts['started']}: {jobs.describe(facts)}", f"{job.out}:"]
    if facts["state"] == "running" and facts.get("page"):
        lines.insert(1, f"watch it at {facts['page']}")
    return "\n".join([*lines, *(f"  {line}" for line in job.last_lines())])


def run_cancel(job_id: str) -> str:
    """Interrupt a job."""
    from yass_dask import jobs

    job = jobs.find(job_id)
    job.cancel()
    return f"job {job.id} was told to stop; the same sort goes on from what is finished"
