"""The other commands of `yass`: simulate, compare, export, info."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from yass_dask.commands.sorting import CONFIG_FILE, METADATA_FILE, describe_plan, plan_of, stretch
from yass_dask.errors import InputError

if TYPE_CHECKING:
    from yass_dask.recording import Recording


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
    from yass_dask.phy.output import stage_of_traces
    from yass_dask.preprocess import measure_scale, preprocess
    from yass_dask.store import Store

    loaded = config.load(out / CONFIG_FILE)
    ran = config.text.read_mapping(out / METADATA_FILE)["options"]
    raw = stretch(loaded.recording(), ran.get("start_s"), ran.get("end_s"))
    params, store = config.sort_params(loaded.params).preprocess, Store(out)
    backend = "numba"
    # Nothing is computed: the lazy stages are only asked to open what they made.
    scale = measure_scale(raw, params, backend).open(store.open("scale"))
    return preprocess(raw, scale, params, backend).open(store.open(stage_of_traces(out))).recording, raw


def run_info(config: Path) -> str:
    """What a configuration file says, its recording, and what sorting it takes."""
    from yass_dask.config import choose_cluster, load

    loaded = load(config)
    recording = loaded.recording()
    plan = plan_of(loaded, recording, choose_cluster(loaded))
    paths = [f"file: {path}" for path in loaded.recording_paths]
    return "\n".join([*paths, repr(recording.with_chunks(plan.chunk_blocks)), describe_plan(plan)])
