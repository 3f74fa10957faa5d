"""Step 5: every spike of the templates, overlapping ones too."""

from yass_dask.compat.deconvolute.legacy import legacy
from yass_dask.compat.deconvolute.run import run

__all__ = ["legacy", "run"]
