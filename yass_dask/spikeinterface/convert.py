"""Recordings and sortings of this package as SpikeInterface's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import spikeinterface.core as si
from probeinterface import Probe as ContactProbe
from probeinterface import ProbeGroup

from yass_dask.errors import InputError
from yass_dask.sources import BinarySource

if TYPE_CHECKING:
    from yass_dask.geometry import Probe
    from yass_dask.recording import Recording
    from yass_dask.sorting import Sorting

CONTACT_RADIUS_UM = 5.0
"""probeinterface wants a size of every contact; nothing depends on it."""
SPIKE_FIELDS = [("sample_index", "int64"), ("unit_index", "int64"), ("segment_index", "int64")]
"""Those of SpikeInterface's spike vector, which it names at another place in each version"""


class YassRecording(si.BaseRecording):
    """A recording of this package, read when it is asked for; of one segment."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(recording.sampling_rate, recording.channel_ids, recording.dtype)
        self._serializability["json"] = False
        self.add_recording_segment(_Segment(recording))
        self._kwargs = {"recording": recording}


class _Segment(si.BaseRecordingSegment):
    def __init__(self, recording: Recording) -> None:
        super().__init__(sampling_frequency=recording.sampling_rate)
        self.recording = recording

    def get_num_samples(self) -> int:
        return self.recording.n_samples

    def get_traces(
        self, start_frame: int | None = None, end_frame: int | None = None, channel_indices: Any = None
    ) -> np.ndarray:
        start = 0 if start_frame is None else int(start_frame)
        stop = self.recording.n_samples if end_frame is None else int(end_frame)
        traces = self.recording.source.read(start, stop)
        return traces if channel_indices is None else traces[:, channel_indices]


def make_recording(recording: Recording) -> si.BaseRecording:
    """A recording as SpikeInterface's, with its probe and gains.

    One plain binary file is opened as such, so that SpikeInterface can note it in JSON; anything else keeps this
    package's way of reading, which can be pickled only.
    """
    source = recording.source
    if isinstance(source, BinarySource):
        made: si.BaseRecording = si.BinaryRecordingExtractor(
            os.fspath(source.path), recording.sampling_rate, source.file_dtype, source.n_channels,
            channel_ids=recording.channel_ids.tolist(), time_axis=0 if source.order == "samples" else 1,
            file_offset=source.offset,
        )  # fmt: skip
    else:
        made = YassRecording(recording)
    if recording.gain_to_uv is not None:
        made.set_channel_gains(recording.gain_to_uv)
        made.set_channel_offsets(0.0)
    # Since 0.105 set_probegroup changes the recording it is called on, and refuses shanks within each other's outline.
    with_probes = getattr(made, "select_channels_with_probegroup", made.set_probegroup)
    made = with_probes(_probes(recording.probe), group_mode="by_probe")
    if recording.probe.sample_shifts is not None:
        made.set_property("inter_sample_shift", recording.probe.sample_shifts)
    return made


def _probes(probe: Probe) -> ProbeGroup:
    """A probe of probeinterface for each shank: contacts of two shanks may lie at one place."""
    group = ProbeGroup()
    for shank in np.unique(probe.shanks):
        channels = np.flatnonzero(probe.shanks == shank)
        one = ContactProbe(ndim=2, si_units="um")
        one.set_contacts(probe.positions[channels], shape_params={"radius": CONTACT_RADIUS_UM})
        one.set_device_channel_indices(channels)
        group.add_probe(one)
    return group


def make_sorting(sorting: Sorting, segment_samples: Sequence[int] | None = None) -> si.NumpySorting:
    """A sorting as SpikeInterface's, what its table says about the units as properties.

    Parameters
    ----------
    segment_samples : lengths of the segments that were sorted one after the other; by default one segment

    Raises
    ------
    InputError
        The segments are not as long as what was sorted.
    """
    lengths = [sorting.n_samples] if segment_samples is None else [int(length) for length in segment_samples]
    if sum(lengths) != sorting.n_samples:
        raise InputError(f"segments of {lengths} samples are not the {sorting.n_samples} samples that were sorted")
    starts = np.concatenate([[0], np.cumsum(lengths)])
    spikes = np.zeros(sorting.n_spikes, SPIKE_FIELDS)
    spikes["segment_index"] = np.searchsorted(starts[1:-1], sorting.sample_index, side="right")
    spikes["sample_index"] = sorting.sample_index - starts[spikes["segment_index"]]
    spikes["unit_index"] = sorting.unit_rows
    made = si.NumpySorting(spikes, sorting.sampling_rate, sorting.unit_ids)
    if sorting.n_units:
        made.set_property("unit_location", sorting.unit_locations)
    for name, values in _columns(sorting).items():
        made.set_property(name, values)
    return made


def _columns(sorting: Sorting) -> dict[str, np.ndarray]:
    """Columns of the audit table that have a value for a unit: numbers (NaN where there is none), or text."""
    rows = [sorting.about(unit) for unit in sorting.unit_ids.tolist()]
    names = dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if name == "unit_id":
            continue
        if all(value is None or isinstance(value, int | float | np.number) for value in values):
            columns[name] = np.array([np.nan if value is None else float(value) for value in values])
        else:
            columns[name] = np.array(["" if value is None else str(value) for value in values])
    return columns


def make_analyzer(
    sorting: Sorting, recording: Any = None, *, folder: str | Path | None = None, **options: Any
) -> si.SortingAnalyzer:
    """SpikeInterface's analyzer of a sorting: waveforms, quality metrics, its viewers.

    Parameters
    ----------
    recording : Recording of this package, or a recording of SpikeInterface, filtered, with as many segments; by default
        the sort's clean traces
    folder : where the analyzer is kept; by default in memory
    options : those of `spikeinterface.create_sorting_analyzer`

    Raises
    ------
    InputError
        No recording is given and the clean traces were not kept.
    """
    from yass_dask.recording import Recording

    if recording is None:
        recording = _clean_traces(sorting)
    source = make_recording(recording) if isinstance(recording, Recording) else recording
    lengths = [source.get_num_samples(segment) for segment in range(source.get_num_segments())]
    where = {"format": "memory"} if folder is None else {"format": "binary_folder", "folder": folder}
    return si.create_sorting_analyzer(make_sorting(sorting, lengths), source, **where, **options)


def _clean_traces(sorting: Sorting) -> Any:
    """The traces that the sort's last pursuit read."""
    from yass_dask.readers import read_zarr
    from yass_dask.report.sampled import traces_of
    from yass_dask.store import store_of

    store = store_of(sorting.path)
    if store is None or sorting.trace_gain is None:
        raise InputError("this sorting lies in no folder of a sort: give the recording")
    path = traces_of(store)[0].path
    made = make_recording(read_zarr(path, sorting.sampling_rate, sorting.probe, sorting.trace_gain))
    made.annotate(is_filtered=True)
    return made
