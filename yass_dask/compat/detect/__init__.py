"""Step 2: find spikes."""

from yass_dask.compat.detect import threshold
from yass_dask.compat.detect.run import run

__all__ = ["run", "threshold"]
