"""A folder that phy opens, for looking at a sorting and curating it by hand."""

from yass_dask.phy.curated import read_curated
from yass_dask.phy.export import export
from yass_dask.phy.output import export_output

__all__ = ["export", "export_output", "read_curated"]
