"""The result of a sort."""

from yass_dask.sorting.files import read_templates, units_csv
from yass_dask.sorting.sorting import Sorting
from yass_dask.sorting.spread import SpreadTemplates

__all__ = ["Sorting", "SpreadTemplates", "read_templates", "units_csv"]
