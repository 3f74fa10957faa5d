"""YASS's files of every step, out of the store of a finished sort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from yass_dask import config
from yass_dask.commands.sorting import CONFIG_FILE
from yass_dask.commands.tools import clean_of_sort
from yass_dask.compat.batch.about import FileParams, write_params
from yass_dask.compat.cluster.legacy import as_train
from yass_dask.compat.files import save
from yass_dask.compat.scores import as_scores
from yass_dask.compat.templates.estimate import Estimated, groups_of
from yass_dask.compat.templates.run import FILES, documented
from yass_dask.compat.traces import RECORDINGS, WHITENING
from yass_dask.events import Events
from yass_dask.features import measure_basis
from yass_dask.noise import measure_noise
from yass_dask.preprocess import Clean
from yass_dask.refine import open_units
from yass_dask.store import Store
from yass_dask.store.disk import readable_errors


def write_documented(out: Path) -> None:
    """Write the files of YASS's steps into the folder of a finished sort, from what its stages kept.

    preprocess/, detect/, cluster/ and templates/ get the files that the steps of `yass_dask.compat` write. They show
    how the units were found at first; the final templates and spikes are in the folder itself. Of a long recording
    detection and clustering have seen some of the blocks only (`max_refining_s`).

    Raises
    ------
    InputError
        The sort is not finished, its recording is not where it was, or its traces were deleted.
    """
    store, clean = Store(out), clean_of_sort(out)[0]
    params = config.sort_params(config.load(out / CONFIG_FILE).params)
    noise = measure_noise(clean, params.preprocess, clean.backend).open(store.open("noise"))
    peaks = Events(store.open("detect"))
    basis = measure_basis(clean, noise, peaks, params.features, clean.backend).open(store.open("basis"))
    features, found = store.open("features"), peaks.load()
    train = np.stack([found["sample_index"], found["channel_index"].astype(np.int64)], axis=1)
    spikes, channels, posterior = as_train(store.open("cluster"), features)
    units = open_units(store.open("templates"))
    estimated = Estimated(units.templates.dense(), groups_of(units.templates.ids.tolist(), units.audit))
    of_templates = zip(FILES, documented(estimated, spikes), strict=True)
    values: dict[str, Any] = {
        f"preprocess/{WHITENING}": noise.matrix(),
        "detect/spike_index_all.npy": train,
        "detect/spike_index_clear.npy": train[found["is_clear"]],
        "detect/rotation.npy": basis.project,
        "detect/scores_clear.npy": as_scores(features),
        "cluster/spike_train_cluster.npy": spikes,
        "cluster/tmp_loc.npy": channels,
        "cluster/vbPar.npz": posterior,
        **{f"templates/{name}": value for name, value in of_templates},
    }
    with readable_errors(out):
        for name, value in values.items():
            save(out / name, value)
        _write_traces(out / "preprocess" / RECORDINGS, clean)


def _write_traces(path: Path, clean: Clean) -> None:
    """Standardized traces as a flat file of float32, chunk by chunk."""
    recording = clean.recording
    with open(path, "wb") as file:
        for chunk in recording.chunks:
            np.ascontiguousarray(clean.to_sd(recording.source.read(chunk.start, chunk.stop))).tofile(file)
    write_params(path, FileParams("float32", recording.n_channels, "samples"))
