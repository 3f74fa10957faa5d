"""Write the phy folder of a finished sort, from what lies in its output folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yass_dask.errors import InputError
from yass_dask.phy.export import export
from yass_dask.sorting import Sorting

if TYPE_CHECKING:
    from yass_dask.recording import Recording

STAGES = Path("yass.zarr")
CONFIG_FILE = "config.yaml"


def export_output(out: str | Path, folder: str | Path | None = None) -> Path:
    """Write the sort in an output folder as a phy folder, by default `<out>/phy`.

    Returns
    -------
    Path of params.py, for `phy template-gui`.

    Raises
    ------
    InputError
        `out` holds no finished sort, or its clean traces were not kept.
    """
    out = Path(out)
    sorting = Sorting.open(out)
    target = out / "phy" if folder is None else folder
    return export(sorting, _clean_recording(sorting, out), target, raw=_raw_recording(out))


def _clean_recording(sorting: Sorting, out: Path) -> Recording:
    from yass_dask.readers import read_zarr

    path = out / STAGES / stage_of_traces(out) / "traces"
    if not path.exists() or sorting.trace_gain is None:
        raise InputError(
            f"{path}: the clean traces were not kept, and phy's features are computed from them; "
            "sort again with --store-traces --keep-traces"
        )
    recording = read_zarr(path, sorting.sampling_rate, sorting.probe, sorting.trace_gain)
    return recording.with_chunks(1)


def stage_of_traces(out: Path) -> str:
    """The stage whose traces the spikes were found in: held still where motion was followed."""
    from yass_dask.motion.displacement import Motion
    from yass_dask.results import MOTION_FOLDER

    folder = out / MOTION_FOLDER
    return "still" if folder.is_dir() and not Motion.load(folder).is_none else "preprocess"


def _raw_recording(out: Path) -> Recording | None:
    """Recording that the sort's configuration names; None where it was sorted without one or is gone."""
    from yass_dask.config import load

    path = out / CONFIG_FILE
    if not path.is_file():
        return None
    try:
        return load(path).recording()
    except InputError:
        # the sort is whole without it: phy is shown the clean traces
        return None
