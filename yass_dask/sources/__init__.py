"""Sources: small picklable handles that read stretches of samples where the task runs.

A handle holds a path, never an open file: it is cheap to send to a worker, and `read` opens what it needs.
"""

from yass_dask.sources.arrays import ArraySource, DaskSource, SpikeInterfaceSource
from yass_dask.sources.binary import BinarySource
from yass_dask.sources.protocol import Source, check_dtype, fill
from yass_dask.sources.views import ConcatSource, SlicedSource, files_of, slice_source
from yass_dask.sources.zarr_array import ZarrSource

__all__ = [
    "ArraySource",
    "BinarySource",
    "ConcatSource",
    "DaskSource",
    "SlicedSource",
    "Source",
    "SpikeInterfaceSource",
    "ZarrSource",
    "check_dtype",
    "files_of",
    "fill",
    "slice_source",
]
