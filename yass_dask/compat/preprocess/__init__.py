"""Step 1: filter, standardize, and measure the whitening matrix."""

from yass_dask.compat.preprocess import batch, experimental, filter
from yass_dask.compat.preprocess.run import run

__all__ = ["batch", "experimental", "filter", "run"]
