"""Write the whole folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yass_dask.errors import InputError
from yass_dask.phy.features import write_features
from yass_dask.phy.tables import write_tables
from yass_dask.phy.templates import PhyTemplates, phy_templates
from yass_dask.phy.trace_file import TraceFile, trace_file, write_traces

if TYPE_CHECKING:
    from yass_dask.recording import Recording
    from yass_dask.sorting import Sorting

CURATED_FILE = "cluster_info.tsv"
"""phy writes it when the user saves."""


def export(
    sorting: Sorting,
    recording_clean: Recording,
    folder: str | Path,
    *,
    raw: Recording | None = None,
    n_pcs: int = 3,
    n_local: int = 12,
) -> Path:
    """Write a sorting as a phy folder; memory is bounded by one chunk of the recording.

    Cluster k of phy is row k of the sorting's units (`cluster_unit_id.tsv` tells the unit's id). Templates
    are in uV and not whitened: both whitening matrices are the identity. `amplitudes.npy` holds the factor by
    which a spike is larger than its template.

    Parameters
    ----------
    recording_clean : filtered traces, whose `gain_to_uv` turns them into the templates' unit
    folder : made where it does not exist; phy's own files in it stay
    raw : the recording sorted. Where it is one or more plain binary files, samples first, phy shows them; if
        not, `recording_clean` is written into the folder as `recording.dat`
    n_pcs : principal components per channel
    n_local : channels per unit that features are kept of

    Returns
    -------
    Path of params.py, for `phy template-gui`.

    Raises
    ------
    InputError
        The recording is not the one sorted, or the folder holds a sorting curated and saved in phy.
    """
    folder = Path(folder).absolute()
    _check(sorting, recording_clean, folder)
    folder.mkdir(parents=True, exist_ok=True)
    templates = phy_templates(sorting, n_local)
    _write_spikes(sorting, folder)
    _write_templates(templates, folder)
    write_features(sorting, templates, recording_clean, folder, n_pcs)
    write_tables(sorting, folder)
    traces = trace_file(raw, sorting) or write_traces(recording_clean, folder / "recording.dat")
    _write_channels(sorting, traces, folder)
    params = folder / "params.py"
    params.write_text(traces.params_text(sorting.sampling_rate), encoding="utf-8")
    return params


def _check(sorting: Sorting, recording: Recording, folder: Path) -> None:
    if (folder / CURATED_FILE).exists():
        raise InputError(f"{folder} holds a sorting saved in phy ({CURATED_FILE}); give another folder")
    found, expected = recording.source.shape, (sorting.n_samples, sorting.n_channels)
    if tuple(found) != expected:
        raise InputError(
            f"clean traces have {found[0]} samples of {found[1]} channels, but the sorting is of "
            f"{expected[0]} samples of {expected[1]}; give the recording that was sorted"
        )


def _write_spikes(sorting: Sorting, folder: Path) -> None:
    rows = sorting.unit_rows.astype(np.int32)
    np.save(folder / "spike_times.npy", sorting.sample_index)
    np.save(folder / "spike_templates.npy", rows)
    np.save(folder / "spike_clusters.npy", rows)
    np.save(folder / "amplitudes.npy", _scales(sorting))


def _scales(sorting: Sorting) -> np.ndarray:
    """Size of each spike over that of its template's extremum, float64 as phy keeps it."""
    if not sorting.n_spikes:
        return np.zeros(0)
    extrema = np.abs(sorting.templates).max(axis=(1, 2)).astype(np.float64)
    extrema[extrema == 0] = 1.0
    scales: np.ndarray = np.abs(sorting.amplitudes) / extrema[sorting.unit_rows]
    return scales


def _write_templates(templates: PhyTemplates, folder: Path) -> None:
    n_units, _, n_channels = templates.waveforms.shape
    np.save(folder / "templates.npy", templates.waveforms)
    np.save(folder / "templates_ind.npy", np.tile(np.arange(n_channels), (n_units, 1)))
    np.save(folder / "similar_templates.npy", templates.similarity)
    np.save(folder / "pc_feature_ind.npy", templates.channels)
    np.save(folder / "template_feature_ind.npy", templates.similar)
    np.save(folder / "whitening_mat.npy", np.eye(n_channels))
    np.save(folder / "whitening_mat_inv.npy", np.eye(n_channels))


def _write_channels(sorting: Sorting, traces: TraceFile, folder: Path) -> None:
    np.save(folder / "channel_map.npy", np.asarray(traces.channels, dtype=np.int32))
    np.save(folder / "channel_positions.npy", sorting.probe.positions)
    np.save(folder / "channel_shanks.npy", sorting.probe.shanks)
