"""Step 3: spikes to units."""

from yass_dask.compat.cluster import legacy
from yass_dask.compat.cluster.run import run

__all__ = ["legacy", "run"]
