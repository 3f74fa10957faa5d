"""What the commands of `yass` do; each gives the text to print."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yass_dask import backends
from yass_dask.errors import InputError

if TYPE_CHECKING:
    from yass_dask.config import Cluster, Config
    from yass_dask.monitor.progress import Progress
    from yass_dask.pipeline import SortParams
    from yass_dask.recording import Recording
    from yass_dask.runtime import Plan
    from yass_dask.sorting import Sorting
    from yass_dask.store import Store

logger = logging.getLogger(__name__)

CONFIG_FILE, METADATA_FILE = "config.yaml", "metadata.yaml"
RECORDED_OPTIONS = ("backend", "seed", "start_s", "end_s")


@dataclass(frozen=True)
class SortOptions:
    """What `yass sort` was asked for; None stands for what the configuration says."""

    config: Path | Mapping[str, Any]
    output_dir: Path = Path("tmp/")
    clean: bool = False
    workers: int | None = None
    scheduler: str | None = None
    backend: str = "auto"
    seed: int = 0
    overrides: tuple[str, ...] = ()
    """`stage.key=value` assignments."""
    start_s: float | None = None
    end_s: float | None = None
    keep_traces: bool = True
    logger_level: str = "INFO"
    progress: bool = True
    profile: bool = False


@dataclass(frozen=True)
class _Job:
    """A sort with everything checked and decided."""

    options: SortOptions
    config: Config
    params: SortParams
    recording: Recording
    cluster: Cluster


def run_sort(options: SortOptions) -> str:
    """Sort as the options say, into the output folder.

    Raises
    ------
    InputError
        Bad configuration, options, recording or output folder.
    """
    from yass_dask.logs import logging_to
    from yass_dask.store import Store

    job = _check(options)
    store = Store(output_folder(job.config, options.output_dir))
    with store.lock():
        if options.clean:
            store.clean()
        with logging_to(store.path, options.logger_level):
            return _sort(job, store)


def _check(options: SortOptions) -> _Job:
    from yass_dask import config
    from yass_dask.logs import check_level

    check_level(options.logger_level)
    backends.resolve(options.backend)
    loaded = config.load(options.config)
    params = config.sort_params(config.override(loaded.stage_params(), options.overrides), "params and --set")
    return _Job(
        options=options,
        config=loaded,
        params=params,
        recording=_stretch(loaded.recording(), options.start_s, options.end_s),
        cluster=config.choose_cluster(loaded, options.scheduler, options.workers),
    )


def _stretch(recording: Recording, start_s: float | None, end_s: float | None) -> Recording:
    if start_s is None and end_s is None:
        return recording
    return recording.slice_time(start_s or 0.0, end_s)


def output_folder(config: Config, output_dir: Path) -> Path:
    """Absolute path of the results: within the root folder, unless `output_dir` is absolute."""
    return Path(os.path.abspath(config.root / output_dir.expanduser()))


def _sort(job: _Job, store: Store) -> str:
    from yass_dask.config import format_size
    from yass_dask.monitor import progress
    from yass_dask.store.disk import readable_errors

    plan = _plan(job.config, job.recording, job.cluster)
    free = store.check_space(plan.disk_bytes)
    logger.info("%s (%s free)", describe_plan(plan), format_size(free))
    shown = progress.choose(silent=not job.options.progress)
    try:
        sorting = _call_sort(job, store, plan, shown)
    finally:
        shown.close()
    with readable_errors(store.path):
        _write_what_ran(job, store.path)
    if not job.options.keep_traces:
        store.drop_traces()
    return (
        f"{sorting.n_units} units, {sorting.n_spikes} spikes in {job.recording.duration_s:g} s of recording: "
        f"{store.path}"
    )


def _call_sort(job: _Job, store: Store, plan: Plan, progress: Progress) -> Sorting:
    from yass_dask.pipeline import sort
    from yass_dask.runtime import Executor
    from yass_dask.store.folder import PROFILE

    profile = store.path / PROFILE if job.options.profile else None
    limit = job.config.resources.memory_limit
    executor = Executor(job.cluster.scheduler, plan.n_workers, limit, profile=profile)
    with executor.open() as opened:
        return sort(
            job.recording.with_chunks(plan.chunk_blocks, plan.part_blocks),
            store,
            job.params,
            backend=job.options.backend,
            client=opened,
            seed=job.options.seed,
            progress=progress,
        )


def _plan(config: Config, recording: Recording, cluster: Cluster) -> Plan:
    from yass_dask.runtime import plan

    resources = config.resources
    workers = cluster.workers or resources.processes
    local = cluster.scheduler == "local"
    return plan(recording, resources.max_memory, resources.memory_limit, workers, processes=local)


def describe_plan(plan: Plan) -> str:
    """One line: what a sort will take."""
    from yass_dask.config import format_size

    task, peak, disk = (format_size(size) for size in (plan.bytes_per_task, plan.peak_bytes, plan.disk_bytes))
    return (
        f"{plan.n_workers} workers, chunks of {plan.chunk_blocks} blocks, {task} of arrays a task, "
        f"about {peak} of memory, at most {disk} of disk"
    )


def _write_what_ran(job: _Job, folder: Path) -> None:
    """config.yaml as resolved, and the options in metadata.yaml: together they give this result again."""
    from yass_dask.config import text

    resolved = job.config.with_params(job.params.model_dump(mode="json"))
    (folder / CONFIG_FILE).write_text(resolved.dump(), encoding="utf-8")
    options = {name: value for name, value in vars(job.options).items() if name in RECORDED_OPTIONS}
    metadata = text.read_mapping(folder / METADATA_FILE) | {"options": options}
    (folder / METADATA_FILE).write_text(text.dump(metadata), encoding="utf-8")


def run_simulate(out: Path, **scene: Any) -> str:
    """Write a simulated recording into `out`; keyword arguments are those of `simulate.plan`."""
    from yass_dask.simulate import plan, write

    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder to write the recording into")
    try:
        path = write(out, plan(**scene))
    except OSError as error:
        raise InputError(f"{out}: cannot write the recording there: {error}") from error
    return f"wrote {out}; sort it by: yass sort {path}"


def run_compare(out: Path, ground_truth: Path, as_json: bool) -> str:
    """Agreement of the sort in `out` with true spikes, as a table or JSON."""
    from yass_dask.evaluate import compare_files

    agreement = compare_files(out, ground_truth)
    return agreement.to_json() if as_json else agreement.table()


def run_export(out: Path, format: str, folder: Path | None) -> str:
    """Write the sort in `out` in another program's format, by default into `out/<format>`."""
    if format != "phy":
        raise InputError(f"--format is {format!r}: only phy can be written")
    from yass_dask import phy
    from yass_dask.sorting import Sorting

    sorting = Sorting.open(out)
    clean, raw = _recordings_of(out)
    params = phy.export(sorting, clean, folder or out / format, raw=raw)
    return f"wrote {params.parent}; look at it by: phy template-gui {params}"


def _recordings_of(out: Path) -> tuple[Recording, Recording]:
    """The preprocessed and the raw recording of a finished sort.

    Raises
    ------
    InputError
        The input is not where it was, or the preprocessed traces were deleted.
    """
    from yass_dask import config
    from yass_dask.preprocess import measure_scale, preprocess
    from yass_dask.store import Store

    loaded = config.load(out / CONFIG_FILE)
    ran = config.text.read_mapping(out / METADATA_FILE)["options"]
    raw = _stretch(loaded.recording(), ran.get("start_s"), ran.get("end_s"))
    params, store = config.sort_params(loaded.params).preprocess, Store(out)
    backend = backends.resolve(ran["backend"])
    # Nothing is computed: the lazy stages are only asked to open what they made.
    scale = measure_scale(raw, params, backend).open(store.open("scale"))
    return preprocess(raw, scale, params, backend).open(store.open("preprocess")).recording, raw


def run_info(config: Path) -> str:
    """What a configuration file says, its recording, and what sorting it takes."""
    from yass_dask.config import choose_cluster, load

    loaded = load(config)
    recording = loaded.recording()
    plan = _plan(loaded, recording, choose_cluster(loaded, None, None))
    paths = [f"file: {path}" for path in loaded.recording_paths]
    return "\n".join([*paths, repr(recording.with_chunks(plan.chunk_blocks)), describe_plan(plan)])
