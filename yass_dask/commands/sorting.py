"""`yass sort`: options, checks, the plan, the sort."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yass_dask import backends
from yass_dask.commands.reading import configured

if TYPE_CHECKING:
    from yass_dask.config import Cluster, Config
    from yass_dask.monitor.progress import Progress
    from yass_dask.needs import Needs
    from yass_dask.pipeline import SortParams
    from yass_dask.recording import Recording
    from yass_dask.runtime import Plan
    from yass_dask.runtime.batch import Batch
    from yass_dask.sorting import Sorting
    from yass_dask.store import Store

logger = logging.getLogger(__name__)

CONFIG_FILE, METADATA_FILE = "config.yaml", "metadata.yaml"
CLUSTER_OPTIONS = ("scheduler", "workers", "jobs", "queue", "walltime", "gpus_per_job")
RECORDED_OPTIONS = ("backend", "seed", "start_s", "end_s", "templates")


@dataclass(frozen=True)
class SortOptions:
    """What `yass sort` was asked for; None stands for what the configuration says."""

    config: Path | Mapping[str, Any] | None = None
    read: str | None = None
    """FORMAT:PATH[#STREAM] of what SpikeInterface opens, in place of the configuration's recordings"""
    probe: Path | None = None
    """file of contact positions in place of the configuration's or the recording's"""
    templates: Path | None = None
    """folder of a sort, or of one curated, whose units are known"""
    output_dir: Path = Path("tmp/")
    clean: bool = False
    workers: int | None = None
    scheduler: str | None = None
    jobs: int | None = None
    queue: str | None = None
    walltime: str | None = None
    gpus_per_job: int | None = None
    backend: str = "auto"
    seed: int = 0
    overrides: tuple[str, ...] = ()
    """`stage.key=value` assignments."""
    start_s: float | None = None
    end_s: float | None = None
    keep_traces: bool = True
    store_traces: bool | None = None
    complete: bool = False
    """Also write the files of YASS's steps."""
    gpu_memory: float | None = None
    """Share of a GPU's memory that the networks may take; None: all."""
    logger_level: str = "INFO"
    progress: bool = True
    profile: bool = False


@dataclass(frozen=True)
class Checked:
    """A sort with everything checked and decided."""

    options: SortOptions
    config: Config
    params: SortParams
    recording: Recording
    cluster: Cluster

    @property
    def store_traces(self) -> bool:
        given = self.options.store_traces
        return self.config.resources.store_traces if given is None else given


def run_sort(options: SortOptions, shown: Progress | None = None) -> str:
    """Sort as the options say, into the output folder; `shown` in place of what fits the terminal.

    Raises
    ------
    InputError
        Bad configuration, options, recording or output folder.
    """
    from yass_dask.logs import logging_to
    from yass_dask.store import Store

    job = check(options)
    store = Store(output_folder(job.config, options.output_dir), store_traces=job.store_traces)
    with store.lock():
        if options.clean:
            store.clean()
        with logging_to(store.path, options.logger_level):
            return _sort(job, store, shown)


def check(options: SortOptions) -> Checked:
    from yass_dask import config
    from yass_dask.logs import check_level
    from yass_dask.runtime.devices import check_backend

    check_level(options.logger_level)
    if options.gpu_memory is not None:
        from yass_dask.compat.device import set_tensorflow_config

        set_tensorflow_config(options.gpu_memory)
    backends.checked(options.backend)
    loaded = config.load(configured(options.config, options.read, options.probe))
    if options.complete:
        from yass_dask.config.reading import refuse_unknown_waveforms

        refuse_unknown_waveforms(loaded)
    params = config.sort_params(config.override(loaded.stage_params(), options.overrides), "params and --set")
    cluster = config.choose_cluster(loaded, **{name: getattr(options, name) for name in CLUSTER_OPTIONS})
    if cluster.scheduler in ("threads", "sync") and options.backend != "auto":
        check_backend(options.backend, None)
    return Checked(
        options=options,
        config=loaded,
        params=params,
        recording=stretch(loaded.recording(), options.start_s, options.end_s),
        cluster=cluster,
    )


def detect_overrides(detector: str | None, model: Path | None) -> list[str]:
    """`--detector` and `--model` as assignments of parameters."""
    folder = None if model is None else json.dumps(os.path.abspath(model.expanduser()))
    given = {"detect.method": detector, "detect.model": folder}
    return [f"{key}={value}" for key, value in given.items() if value is not None]


def stretch(recording: Recording, start_s: float | None, end_s: float | None) -> Recording:
    if start_s is None and end_s is None:
        return recording
    return recording.slice_time(start_s or 0.0, end_s)


def output_folder(config: Config, output_dir: Path) -> Path:
    """Absolute path of the results: within the root folder, unless `output_dir` is absolute."""
    return Path(os.path.abspath(config.root / output_dir.expanduser()))


def _sort(job: Checked, store: Store, shown: Progress | None) -> str:
    from yass_dask.config import format_size
    from yass_dask.monitor import progress
    from yass_dask.needs import disk_bytes, left_of, memory_bytes, one_line, table
    from yass_dask.store.disk import readable_errors

    plan, needs = planned(job)
    logger.info("what it takes:\n%s", table(needs, plan), extra={"file_only": True})
    finished = store.stages()
    free = store.check_space(disk_bytes(left_of(needs, finished)), finished)
    logger.info("%s (%s free)", one_line(needs, plan), format_size(free))
    limit = job.config.resources.memory_limit
    if limit is not None and memory_bytes(needs, plan) > limit:
        logger.warning(
            "resources.memory_limit is %s; the end of the sort, where all spikes are in memory, may take %s",
            format_size(limit), format_size(memory_bytes(needs, plan)),
        )  # fmt: skip
    shown = shown or progress.choose(silent=not job.options.progress)
    try:
        sorting = call_sort(job, store, plan, shown)
    finally:
        shown.close()
    with readable_errors(store.path):
        _write_what_ran(job, store.path)
    if job.options.complete:
        from yass_dask.compat.documented import write_documented

        write_documented(store.path)
    if not job.options.keep_traces:
        store.drop_traces()
    return (
        f"{sorting.n_units} units, {sorting.n_spikes} spikes in {job.recording.duration_s:g} s of recording: "
        f"{store.path}"
    )


def call_sort(job: Checked, store: Store, plan: Plan, progress: Progress) -> Sorting:
    """Sort by the plan, on the workers that the options ask for."""
    from yass_dask.pipeline import sort
    from yass_dask.runtime import Executor
    from yass_dask.runtime.devices import visible_gpus
    from yass_dask.store.exports import PROFILE

    profile = store.path / PROFILE if job.options.profile else None
    limit = job.config.resources.memory_limit
    gpus = () if job.options.backend in backends.CPU else tuple(visible_gpus())
    executor = Executor(
        job.cluster.scheduler, plan.n_workers, limit, batch=batch_of(job.cluster, plan), profile=profile,
        gpu_memory=job.config.resources.max_memory_gpu, gpus=gpus,
    )  # fmt: skip
    with executor.open() as opened:
        return sort(
            job.recording.with_chunks(plan.chunk_blocks, plan.part_blocks),
            store,
            job.params,
            backend=job.options.backend,
            client=opened,
            seed=job.options.seed,
            progress=progress,
            templates=job.options.templates,
        )


def planned(job: Checked) -> tuple[Plan, list[Needs]]:
    """How the sort is cut, and what each step of it will take."""
    from yass_dask.needs import needs_of

    plan = plan_of(job.config, job.recording, job.cluster, job.store_traces)
    recording = job.recording.with_chunks(plan.chunk_blocks, plan.part_blocks)
    return plan, needs_of(recording, job.params, store_traces=job.store_traces)


def plan_of(config: Config, recording: Recording, cluster: Cluster, store_traces: bool = True) -> Plan:
    from yass_dask.runtime import plan

    resources, how = config.resources, {"store_traces": store_traces}
    workers = cluster.workers or resources.processes
    if cluster.scheduler == "slurm":  # each job has a memory of its own
        return plan(recording, resources.max_memory, None, workers * cluster.jobs, processes=True, **how)
    local = cluster.scheduler == "local"
    return plan(recording, resources.max_memory, resources.memory_limit, workers, processes=local, **how)


def batch_of(cluster: Cluster, plan: Plan) -> Batch | None:
    """What is asked of SLURM, if it is asked."""
    from yass_dask.runtime.batch import Batch, memory_of

    if cluster.scheduler != "slurm":
        return None
    workers = cluster.gpus_per_job or cluster.workers or 1
    return Batch(
        jobs=cluster.jobs, workers=workers, memory=cluster.memory_per_job or memory_of(plan.bytes_per_task, workers),
        queue=cluster.queue, account=cluster.account, walltime=cluster.walltime, gpus=cluster.gpus_per_job,
        directives=cluster.directives, prologue=cluster.prologue,
    )  # fmt: skip


def describe(job: Checked) -> str:
    """Lines of text: what each step of a sort will take."""
    from yass_dask.needs import table

    plan, needs = planned(job)
    traces = [] if job.store_traces else ["no preprocessed traces are stored: they are made whenever they are read"]
    return "\n".join([*traces, table(needs, plan)])


def _write_what_ran(job: Checked, folder: Path) -> None:
    """config.yaml as resolved, and the options in metadata.yaml: together they give this result again."""
    from yass_dask.config import text

    resolved = job.config.with_params(job.params.model_dump(mode="json"))
    (folder / CONFIG_FILE).write_text(resolved.dump(), encoding="utf-8")
    options = {name: value for name, value in vars(job.options).items() if name in RECORDED_OPTIONS}
    metadata = text.read_mapping(folder / METADATA_FILE) | {"options": options}
    (folder / METADATA_FILE).write_text(text.dump(metadata), encoding="utf-8")
