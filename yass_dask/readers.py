"""Readers: from files, arrays and SpikeInterface to a Recording. None of them reads the traces."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.errors import InputError
from yass_dask.geometry import Probe, as_probe
from yass_dask.recording import Recording
from yass_dask.sources import (
    ArraySource,
    BinarySource,
    ConcatSource,
    DaskSource,
    Source,
    SpikeInterfaceSource,
    ZarrSource,
    check_dtype,
)

if TYPE_CHECKING:
    from yass_dask.config.reading import Reading

PathLike = str | os.PathLike[str]
__all__ = ["ZarrSource", "from_array", "from_config", "from_spikeinterface", "read_binary", "read_zarr"]


def read_binary(
    path: PathLike | Sequence[PathLike],
    *,
    sampling_rate: float,
    n_channels: int,
    dtype: Any,
    order: str = "samples",
    geometry: Any = None,
    offset: int = 0,
    gain_to_uv: Any = None,
) -> Recording:
    """Open one flat binary file, or several as one recording (one after the other).

    Parameters
    ----------
    path : file, or a list of files
    sampling_rate : Hz
    n_channels : int
    dtype : integer or float numpy type of the file; a name may hold the byte order (">i2")
    order : "samples" (all channels of a sample lie together) or "channels" (all samples of a channel do)
    geometry : Probe, file (.txt, .npy, probeinterface .json), (n_channels, 2) array in um, or None
        None stands for a column of contacts.
    offset : bytes of header in each file
    gain_to_uv : microvolts per count, one number or one per channel, optional

    Raises
    ------
    InputError
        For a missing, empty or truncated file, a size that is not a multiple of the channels, an unknown
        dtype or order, a geometry that does not fit.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not paths:
        raise InputError("read_binary: no file given")
    file_dtype = check_dtype(dtype, "read_binary")
    sources = [BinarySource(os.fspath(p), file_dtype, n_channels, order, offset) for p in paths]
    source: Source = sources[0] if len(sources) == 1 else ConcatSource(tuple(sources))
    return Recording(source, sampling_rate, as_probe(geometry, n_channels), gain_to_uv)


def read_zarr(path: PathLike, sampling_rate: float, geometry: Any = None, gain_to_uv: Any = None) -> Recording:
    """Open a zarr array (n_samples, n_channels), of zarr format 2 (or 3, where zarr 3 is installed).

    Other parameters are those of `read_binary`.

    Raises
    ------
    InputError
        Where there is no such array.
    """
    return _with_probe(ZarrSource(os.fspath(path)), sampling_rate, geometry, gain_to_uv)


def from_array(array: Any, sampling_rate: float, geometry: Any = None, gain_to_uv: Any = None) -> Recording:
    """Make a recording of a numpy or dask array (n_samples, n_channels).

    A dask array stays a graph; a numpy array is sent to workers as it is, so use a file for what is large.
    Other parameters are those of `read_binary`.

    Raises
    ------
    InputError
        For another type, another number of dimensions, an empty array, unknown chunk sizes.
    """
    if isinstance(array, np.ndarray):
        return _with_probe(ArraySource(array), sampling_rate, geometry, gain_to_uv)
    import dask.array as da

    if not isinstance(array, da.Array):
        raise InputError(f"from_array: expected a numpy or dask array, found {type(array).__name__}")
    return _with_probe(DaskSource(array), sampling_rate, geometry, gain_to_uv)


def from_config(config: PathLike | Mapping[str, Any]) -> Recording:
    """Open the recording that a YASS configuration (a YAML file's path, or a mapping) describes."""
    from yass_dask.config import load

    return load(os.fspath(config) if isinstance(config, os.PathLike) else config).recording()


def from_spikeinterface(recording: Any) -> Recording:
    """Make a recording of a SpikeInterface recording; its segments follow one another.

    Plain binary data are read from the file itself, everything else by `get_traces`, chunk by chunk.
    Gains, contact locations, groups (as shanks), sample shifts and channel ids are taken over.
    """
    segments = range(recording.get_num_segments())
    binary = _binary_sources(recording) if recording.is_binary_compatible() else None
    sources = binary or [SpikeInterfaceSource(recording, segment) for segment in segments]
    source: Source = sources[0] if len(sources) == 1 else ConcatSource(tuple(sources))
    gains = recording.get_channel_gains()
    return Recording(
        source,
        float(recording.get_sampling_frequency()),
        _spikeinterface_probe(recording),
        None if gains is None else np.asarray(gains, dtype=np.float64),
        np.asarray(recording.get_channel_ids()),
    )


def read_by_spikeinterface(reading: Reading, geometry: Any = None) -> Recording:
    """Open whatever SpikeInterface opens, see `spikeinterface.reading`.

    Raises
    ------
    InputError
        SpikeInterface is not installed, or cannot open it.
    """
    try:
        from yass_dask.spikeinterface.reading import open_reading
    except ImportError as error:
        raise InputError(
            f"{reading.format}:{reading.path} is opened by SpikeInterface, which cannot be imported ({error}); "
            "pip install 'yass-dask[spikeinterface]'"
        ) from error
    return open_reading(reading, geometry)


def _with_probe(source: Source, sampling_rate: float, geometry: Any, gain_to_uv: Any) -> Recording:
    return Recording(source, sampling_rate, as_probe(geometry, source.shape[1]), gain_to_uv)


def _binary_sources(recording: Any) -> list[Source]:
    about = recording.get_binary_description()
    order = "samples" if about["time_axis"] == 0 else "channels"
    dtype, offset = np.dtype(about["dtype"]), int(about["file_offset"])
    n_channels = int(about["num_channels"])
    return [BinarySource(os.fspath(path), dtype, n_channels, order, offset) for path in about["file_paths"]]


def _spikeinterface_probe(recording: Any) -> Probe:
    n_channels = int(recording.get_num_channels())
    groups = recording.get_property("group")
    shanks = np.zeros(n_channels) if groups is None else np.unique(groups, return_inverse=True)[1]
    if recording.has_channel_location():
        locations = np.asarray(recording.get_channel_locations(), dtype=np.float64)
    else:
        locations = as_probe(None, n_channels).positions
    return Probe(locations, shanks, recording.get_property("inter_sample_shift"))
