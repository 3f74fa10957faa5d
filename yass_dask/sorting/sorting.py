"""The sorting itself."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.errors import InputError
from yass_dask.geometry import Probe
from yass_dask.recording.spans import len_of
from yass_dask.sorting.files import UNIT_COLUMNS, plain, read_sorting, write_sorting
from yass_dask.sorting.tables import spikes_table, units_table, write_npz

if TYPE_CHECKING:
    from yass_dask.store.verify import Verified


@dataclass(frozen=True, eq=False)
class Sorting:
    """Spikes and units of one recording. Spikes are put in order of sample, then of unit.

    Parameters
    ----------
    sample_index : (n_spikes,) int64, sample of each spike's peak
    unit_index : (n_spikes,) int64, id of each spike's unit, one of `unit_ids`
    amplitudes : (n_spikes,) float32, size of each spike at the template's peak, in the templates' unit
    templates : (n_units, n_template_samples, n_channels) float32, uV (raw counts where no gain is known)
    unit_ids : (n_units,) int64, ascending
    unit_locations : (n_units, 2) float64, um
    units : audit table, one mapping a unit: kept ones and those merged or dropped on the way, with the reason
    sampling_rate : Hz
    n_samples : length of the recording in samples
    template_peak : sample of a template that a spike's time refers to
    probe : contacts of the channels
    channel_ids : (n_channels,) names of the channels
    trace_gain : (n_channels,) float64, unit of the templates per count of the clean traces; None where these
        are not kept
    excluded_samples : [start, stop) pairs of samples that were left out of account
    path : folder it was opened from, None before it is written

    Raises
    ------
    InputError
        Where the parts do not fit together.
    """

    sample_index: np.ndarray
    unit_index: np.ndarray
    amplitudes: np.ndarray
    templates: np.ndarray
    unit_ids: np.ndarray
    unit_locations: np.ndarray
    units: list[dict[str, Any]]
    sampling_rate: float
    n_samples: int
    template_peak: int
    probe: Probe
    channel_ids: np.ndarray
    trace_gain: np.ndarray | None = None
    excluded_samples: tuple[tuple[int, int], ...] = ()
    path: Path | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.sample_index), len(self.unit_index), len(self.amplitudes)}
        if len(lengths) > 1:
            raise InputError(f"sorting: samples, units and amplitudes differ in length: {sorted(lengths)}")
        order = np.lexsort((self.unit_index, self.sample_index))
        fields = {
            "sample_index": np.asarray(self.sample_index, dtype=np.int64)[order],
            "unit_index": np.asarray(self.unit_index, dtype=np.int64)[order],
            "amplitudes": np.asarray(self.amplitudes, dtype=np.float32)[order],
            "unit_ids": np.asarray(self.unit_ids, dtype=np.int64),
            "unit_locations": np.asarray(self.unit_locations, dtype=np.float64).reshape(-1, 2),
            "channel_ids": np.asarray(self.channel_ids),
        }
        if self.trace_gain is not None:
            fields["trace_gain"] = np.asarray(self.trace_gain, dtype=np.float64)
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        _check_parts(self)

    @property
    def n_units(self) -> int:
        return len(self.unit_ids)

    @property
    def n_spikes(self) -> int:
        return len(self.sample_index)

    @property
    def n_channels(self) -> int:
        return self.probe.n_channels

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.sampling_rate

    @property
    def kept_s(self) -> float:
        """Seconds less what was left out of account: what rates refer to."""
        return (self.n_samples - len_of(self.excluded_samples, 0, self.n_samples)) / self.sampling_rate

    @property
    def spike_train(self) -> np.ndarray:
        """(n_spikes, 2) int64: sample and unit id, in order of sample, then of unit."""
        return np.stack([self.sample_index, self.unit_index], axis=1)

    @property
    def unit_rows(self) -> np.ndarray:
        """(n_spikes,) row of each spike's unit in `templates`, `unit_ids` and `unit_locations`."""
        return np.searchsorted(self.unit_ids, self.unit_index)

    def times_of(self, unit_id: int) -> np.ndarray:
        """Samples of one unit's spikes, ascending.

        Raises
        ------
        InputError
            No such unit.
        """
        if unit_id not in self.unit_ids:
            shown = ", ".join(map(str, self.unit_ids[:10])) + (", ..." if self.n_units > 10 else "")
            raise InputError(f"unit {unit_id} not found: the sorting's units are {shown or 'none'}")
        return self.sample_index[self.unit_index == unit_id]

    def about(self, unit_id: int) -> dict[str, Any]:
        """Row of the audit table about a unit, empty where there is none."""
        return next((row for row in self.units if row.get("unit_id") == unit_id), {})

    def write(self, folder: str | Path) -> Path:
        """Write spike_train.npy, templates.npy, units.csv, sorting.npz; each appears whole or not at all."""
        return write_sorting(self, Path(folder))

    def verify(self) -> Verified:
        """Check its folder against the checksums of what was written there, as `yass verify` does.

        Raises
        ------
        InputError
            It does not lie in the output folder of a sort, or a sort is writing there.
        """
        from yass_dask.store import store_of

        store = store_of(self.path)
        if store is None:
            raise InputError(f"{self.path or 'this sorting'}: not in the output folder of a sort; nothing to verify")
        return store.verify()

    def report(self, path: str | Path | None = None) -> Path:
        """Write one HTML page about it, by default report.html in its folder; see `yass_dask.report`."""
        from yass_dask.report import write_report

        return write_report(self, path)

    def to_npz(self, path: str | Path) -> Path:
        """Write spikes and units as the npz file that SpikeInterface's `read_npz_sorting` opens."""
        return write_npz(self, Path(path))

    def to_nwb(self, path: str | Path, session_start: str | datetime, **session: Any) -> Path:
        """Write an NWB file with the units, see `yass_dask.nwb.write_nwb`."""
        from yass_dask.nwb import write_nwb

        return write_nwb(self, path, session_start, **session)

    def spikes_table(self) -> Any:
        """Give a pandas data frame with a row for each spike: sample_index, time_s, unit_id, amplitude."""
        return spikes_table(self)

    def units_table(self) -> Any:
        """Give a pandas data frame with a row for each unit, by its id: what units.csv tells of those that stand."""
        return units_table(self)

    def to_spikeinterface(self, segment_samples: Sequence[int] | None = None) -> Any:
        """Give SpikeInterface's sorting, see `yass_dask.spikeinterface.make_sorting`."""
        from yass_dask.spikeinterface import make_sorting

        return make_sorting(self, segment_samples)

    def to_analyzer(self, recording: Any = None, *, folder: str | Path | None = None, **options: Any) -> Any:
        """Give SpikeInterface's analyzer, by default on the clean traces, see `spikeinterface.make_analyzer`."""
        from yass_dask.spikeinterface import make_analyzer

        return make_analyzer(self, recording, folder=folder, **options)

    @classmethod
    def open(cls, path: str | Path) -> Sorting:
        """Open the sorting in a folder that `write`, `sort` or `yass sort` wrote; templates stay on disk.

        Raises
        ------
        InputError
            A file is missing, or the files are not of one sort.
        """
        return cls(**read_sorting(Path(path)))

    def __repr__(self) -> str:
        labels = Counter(str(self.about(unit).get("label", "unlabelled")) for unit in self.unit_ids.tolist())
        shown = ", ".join(f"{count} {label}" for label, count in sorted(labels.items()))
        return (
            f"Sorting: {self.n_units} units{f' ({shown})' if shown else ''}, {self.n_spikes} spikes, "
            f"{self.duration_s:.1f} s, {self.n_channels} channels at {self.sampling_rate:g} Hz"
        )

    def _repr_html_(self) -> str:
        columns = [column for column in UNIT_COLUMNS if column != "why"]
        rows = [self.about(unit) or {"unit_id": unit} for unit in self.unit_ids.tolist()]
        cells = [[html.escape(_shown(row.get(column))) for column in columns] for row in rows]
        body = "".join(f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in cells)
        head = f"<tr><th>{'</th><th>'.join(columns)}</th></tr>"
        return f"<p>{html.escape(repr(self))}</p><table><thead>{head}</thead><tbody>{body}</tbody></table>"


def _check_parts(sorting: Sorting) -> None:
    """Refuse parts that do not fit together."""
    n_units, shape = sorting.n_units, sorting.templates.shape
    if len(shape) != 3 or (shape[0], shape[2]) != (n_units, sorting.n_channels):
        raise InputError(
            f"sorting: templates have shape {shape}; expected (units, samples, channels) = "
            f"({n_units}, any, {sorting.n_channels})"
        )
    if len(sorting.unit_locations) != n_units or len(sorting.channel_ids) != sorting.n_channels:
        raise InputError("sorting: give one location a unit and one id a channel")
    if sorting.trace_gain is not None and sorting.trace_gain.shape != (sorting.n_channels,):
        raise InputError(f"sorting: trace_gain has shape {sorting.trace_gain.shape}; give one a channel")
    if np.any(np.diff(sorting.unit_ids) <= 0):
        raise InputError(f"sorting: unit_ids must ascend without repeats, found {sorting.unit_ids.tolist()}")
    strangers = np.setdiff1d(sorting.unit_index, sorting.unit_ids)
    if len(strangers):
        raise InputError(f"sorting: spikes of units {strangers[:5].tolist()}, which unit_ids do not list")


def _shown(value: Any) -> str:
    value = plain(value)
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
