"""What is written beside the zarr group, and may be deleted with it."""

from __future__ import annotations

import contextlib
import shutil
import zlib
from pathlib import Path

PROFILE, WORK = "profile", "yass.work"
"""Reports of where the time went; stores of the steps of `yass_dask.compat`."""

EXPORTS = (
    "spike_train.npy",
    "templates.npy",
    "units.csv",
    "sorting.npz",
    "config.yaml",
    "metadata.yaml",
    "yass.log",
    "phy",
    "npz",
    "nwb",
    "report.html",
    "motion",
    "stability",
    "stability.csv",
    "stability.json",
    PROFILE,
    WORK,
)
STEPS = {
    "preprocess": ("filtered.bin", "filtered.yaml", "standarized.bin", "standarized.yaml", "whitening.npy"),
    "detect": ("spike_index_clear.npy", "spike_index_all.npy", "rotation.npy", "scores_clear.npy"),
    "cluster": ("spike_train_cluster.npy", "tmp_loc.npy", "vbPar.npz"),
    "templates": ("templates.npy", "spike_train.npy", "groups.json", "idx_good_templates.npy"),
}
"""Folders of YASS's steps, and the files in them."""


RESULTS = ("spike_train.npy", "templates.npy", "units.csv", "sorting.npz", "motion")
"""What a sort finds in the end, written anew by every sort."""


def checksums_of(folder: Path) -> dict[str, list[int]]:
    """Bytes and checksum of every file of the result, by its path in the folder."""
    found = [path for name in RESULTS for path in [folder / name, *sorted((folder / name).glob("*"))] if path.is_file()]
    contents = {str(path.relative_to(folder)): path.read_bytes() for path in found}
    return {name: [len(data), zlib.crc32(data)] for name, data in contents.items()}


def delete_exports(folder: Path) -> None:
    """Delete these and nothing else; a folder of a step goes when it is empty then."""
    for name in EXPORTS:
        delete(folder / name)
    for record in folder.glob(".*.made.json"):
        record.unlink()
    for step, names in STEPS.items():
        for path in [folder / step / name for name in names] + list((folder / step).glob(".*.made.json")):
            delete(path)
        with contextlib.suppress(OSError):  # it holds other files, or is not there
            (folder / step).rmdir()


def delete(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
