"""Checkpoints on zarr: results of stages, the recipes that made them, and resuming after any interruption.

`folder` is the output folder, `keep` finds or computes a stage, `parts` and `traces` are the two kinds of
results, `stage` is one stage's folder, `recipe` what it was made of, `zarrays` and `disk` the files.
"""

from yass_dask.store.folder import IfExists, Store, store_of
from yass_dask.store.keep import Keep
from yass_dask.store.table import DeletedTraces, Table

__all__ = ["DeletedTraces", "IfExists", "Keep", "Store", "Table", "store_of"]
