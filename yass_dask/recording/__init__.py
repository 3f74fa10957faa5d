"""Recording: lazy traces (samples, channels), their rate and probe, cut in chunks with a halo on demand."""

from yass_dask.recording.computed import ComputedSource
from yass_dask.recording.overlap import Boundary
from yass_dask.recording.recording import Recording

__all__ = ["Boundary", "ComputedSource", "Recording"]
