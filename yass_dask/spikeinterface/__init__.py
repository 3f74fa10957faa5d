"""The sorter in SpikeInterface: importing this makes `run_sorter("yass_dask", recording, folder=...)` work.

SpikeInterface has no entry point for sorters, so one that it does not ship is put into its list by hand. Processes that
`run_sorter_jobs` starts have lists of their own: use `engine="loop"` there, yass_dask has workers itself.
"""

from yass_dask.spikeinterface.convert import make_analyzer, make_recording, make_sorting
from yass_dask.spikeinterface.sorter import YassDaskSorter, register

register()

__all__ = ["YassDaskSorter", "make_analyzer", "make_recording", "make_sorting", "register"]
