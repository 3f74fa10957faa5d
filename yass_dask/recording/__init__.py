"""Recording: lazy traces (samples, channels), their rate and probe, cut in chunks with a halo on demand."""

from yass_dask.recording.recording import Boundary, Recording

__all__ = ["Boundary", "Recording"]
