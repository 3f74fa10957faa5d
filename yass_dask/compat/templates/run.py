"""`templates.run`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from yass_dask.compat.files import StepFiles, array_of, digest
from yass_dask.compat.settings import Settings, output_in, read_config
from yass_dask.compat.templates.estimate import Estimated, estimate, params_of
from yass_dask.compat.traces import Standardized
from yass_dask.errors import InputError

FILES = ("templates.npy", "spike_train.npy", "groups.json", "idx_good_templates.npy")


def run(
    spike_train: np.ndarray | str | Path, tmp_loc: np.ndarray | str | Path,
    recordings_filename: str = "standarized.bin", if_file_exists: str = "skip", save_results: bool = False,
    output_directory: str | Path | None = None,
) -> tuple[np.ndarray, np.ndarray, list[list[int]], np.ndarray]:  # fmt: skip
    """Average the units' waveforms, join duplicates, drop what is no unit.

    Parameters
    ----------
    spike_train : (n, 3) sample, unit, weight, or (n, 2) without weights; or a .npy file
    tmp_loc : (n_units,) main channel of each unit, or a .npy file
    recordings_filename : standardized recording in the output folder, or in its folder preprocess
    if_file_exists : "overwrite", "abort" or "skip"
        With "skip" files are used that were made of the same spikes and recording.
    save_results : write templates/{templates.npy, spike_train.npy, groups.json, idx_good_templates.npy}
    output_directory : in place of that of `set_config`

    Returns
    -------
    templates : (n_channels, 4 spike_size + 1, n_templates) float32, noise standard deviations; the extremum lies in
        the middle
    spike_train : (n_kept, 3) float64: sample, template, weight, in order of time; spikes of units that were joined
        are under the one template, those of units that were dropped are left out
    groups : for each template the units that were joined into it
    idx_good_templates : units that are in one of the groups, ascending

    Raises
    ------
    InputError
        No configuration, bad arguments, or a file is there and `if_file_exists` is "abort".
    """
    train, channels = as_weighted(spike_train), array_of(tmp_loc, "tmp_loc", 1).astype(np.int64)
    with output_in(output_directory):
        settings = read_config()
        check(train, channels, settings)
        file = Standardized.named(recordings_filename, settings)
        recipe = {"params": params_of(settings).model_dump(), "spike_train": digest(train), "tmp_loc": digest(channels)}
        files = StepFiles(settings.folder / "templates", FILES, recipe | file.identity())

        def compute() -> dict[str, object]:
            return dict(zip(FILES, documented(estimate(settings, file, train, channels), train), strict=True))

        values = files.results(compute, if_file_exists, save_results)
    return values[FILES[0]], values[FILES[1]], values[FILES[2]], values[FILES[3]]


def as_weighted(values: np.ndarray | str | Path) -> np.ndarray:
    """(n, 3) float64 of a spike train with or without weights, in order of time.

    Raises
    ------
    InputError
        Another shape.
    """
    array = array_of(values, "spike_train", 2).astype(np.float64)
    if array.shape[1] not in (2, 3):
        raise InputError(f"spike_train has shape {array.shape}; give (n, 3): sample, unit, weight")
    weighted = array if array.shape[1] == 3 else np.column_stack([array, np.ones(len(array))])
    return weighted[np.lexsort((weighted[:, 1], weighted[:, 0]))]


def check(train: np.ndarray, channels: np.ndarray, settings: Settings) -> None:
    """Refuse units without a channel, and channels that are not there.

    Raises
    ------
    InputError
    """
    units, n_channels = train[:, 1], settings.recordings.n_channels
    if len(train) and not ((units >= 0) & (units < len(channels))).all():
        raise InputError(f"spike_train has unit {int(units.max())}, but tmp_loc gives {len(channels)} channels")
    if not ((channels >= 0) & (channels < n_channels)).all():
        raise InputError(f"tmp_loc holds channels outside of 0 ... {n_channels - 1}")


def documented(found: Estimated, train: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[list[int]], np.ndarray]:
    """Units of the spikes as rows of the templates."""
    row = np.full(int(train[:, 1].max(initial=-1)) + 1, -1)
    for template, units in enumerate(found.groups):
        row[[u for u in units if u < len(row)]] = template
    template_of = row[train[:, 1].astype(np.int64)]
    kept = np.column_stack([train[:, 0], template_of, train[:, 2]])[template_of >= 0]
    order = np.lexsort((-kept[:, 2], kept[:, 1], kept[:, 0]))
    kept = kept[order]
    twice = np.zeros(len(kept), bool)
    twice[1:] = (kept[1:, :2] == kept[:-1, :2]).all(axis=1)  # one spike in two units that were joined
    good = np.array(sorted(unit for group in found.groups for unit in group), np.int64)
    return found.templates.transpose(2, 1, 0), kept[~twice], found.groups, good
