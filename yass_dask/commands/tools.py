"""The other commands of `yass`: simulate, compare, export, curated, report, info."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from yass_dask.commands.sorting import CONFIG_FILE, METADATA_FILE, describe_plan, plan_of, stretch
from yass_dask.errors import InputError

if TYPE_CHECKING:
    from yass_dask.preprocess import Clean
    from yass_dask.recording import Recording


FORMATS = ("phy", "npz", "nwb")


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


def run_export(out: Path, format: str, folder: Path | None, session: Path | None = None) -> str:
    """Write the sort in `out` in another program's format, by default into `out/<format>`."""
    from yass_dask import phy
    from yass_dask.sorting import Sorting

    if format not in FORMATS:
        raise InputError(f"--format is {format!r}: allowed are {', '.join(FORMATS)}")
    sorting = Sorting.open(out)
    if format == "npz":
        path = sorting.to_npz((folder or out / format) / "sorting.npz")
        return f"wrote {path}; open it by: spikeinterface.extractors.read_npz_sorting"
    if format == "nwb":
        path = sorting.to_nwb((folder or out / format) / "sorting.nwb", **_session_of(session))
        return f"wrote {path}"
    clean, raw = clean_of_sort(out)
    params = phy.export(sorting, clean.recording, folder or out / format, raw=raw)
    return f"wrote {params.parent}; look at it by: phy template-gui {params}"


def run_curated(out: Path, phy_folder: Path | None, folder: Path | None) -> str:
    """Write the sort in `out`, as it was curated in phy, by default into `out/curated`."""
    from yass_dask import phy
    from yass_dask.sorting import Sorting

    before = Sorting.open(out)
    after = phy.read_curated(before, phy_folder or out / "phy")
    path = after.write(folder or out / "curated")
    ids = set(before.unit_ids.tolist())
    new = sum(unit not in ids for unit in after.unit_ids.tolist())
    return f"{after.n_units} units, {new} of them new (there were {before.n_units}): {path}"


def run_report(out: Path, output: Path | None) -> str:
    """Write the report of the sort in `out`."""
    from yass_dask.sorting import Sorting

    path = Sorting.open(out).report(output)
    return f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB); open it in a browser"


def clean_of_sort(out: Path) -> tuple[Clean, Recording]:
    """The clean traces of a finished sort, and its raw recording.

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
    raw = stretch(loaded.recording(), *_stretch_of(out))
    params, store = config.sort_params(loaded.params).preprocess, Store(out)
    backend = "numba"
    # Nothing is computed: the lazy stages are only asked to open what they made.
    scale = measure_scale(raw, params, backend).open(store.open("scale"))
    return preprocess(raw, scale, params, backend).open(store.open(stage_of_traces(out))), raw


def _stretch_of(out: Path) -> tuple[float | None, float | None]:
    """--start and --end of the sort, as its metadata.yaml tells."""
    from yass_dask.config import text

    ran = text.read_mapping(out / METADATA_FILE).get("options")
    ends: list[Any] = [ran.get(name) for name in ("start_s", "end_s")] if isinstance(ran, dict) else ["missing"]
    if not all(end is None or isinstance(end, int | float) for end in ends):
        raise InputError(f"{out / METADATA_FILE}: tells not how the sort was run (options); sort again")
    return ends[0], ends[1]


def _session_of(path: Path | None) -> dict[str, Any]:
    """Fields of the NWB file."""
    from yass_dask.config import text

    fields = {} if path is None else text.read_mapping(path)
    if "session_start" not in fields:
        raise InputError(
            "an NWB file needs the date of the recording: give --session FILE, a YAML file with session_start: "
            "'2026-05-01T14:30:00+02:00' and, if you like, subject: {subject_id: ..., species: ...} and other fields"
        )
    return fields


def run_info(config: Path) -> str:
    """What a configuration file says, its recording, and what sorting it takes."""
    from yass_dask.config import choose_cluster, load

    loaded = load(config)
    recording = loaded.recording()
    plan = plan_of(loaded, recording, choose_cluster(loaded))
    paths = [f"file: {path}" for path in loaded.recording_paths]
    return "\n".join([*paths, repr(recording.with_chunks(plan.chunk_blocks)), describe_plan(plan)])
