"""The result of a sort."""

from yass_dask.sorting.files import units_csv
from yass_dask.sorting.sorting import Sorting

__all__ = ["Sorting", "units_csv"]
