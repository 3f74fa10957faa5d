"""Training data out of templates and noise, under YASS's names."""

from yass_dask.compat.augment import make

__all__ = ["make"]
