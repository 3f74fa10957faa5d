"""How good a sorting is: agreement with ground truth, and stability without one."""

from yass_dask.evaluate.agreement import compare, compare_files
from yass_dask.evaluate.matching import Spikes
from yass_dask.evaluate.scores import Agreement, UnitAgreement
from yass_dask.evaluate.stability import perturb, stability
from yass_dask.evaluate.stored import read_stability, write_stability

__all__ = [
    "Agreement",
    "Spikes",
    "UnitAgreement",
    "compare",
    "compare_files",
    "perturb",
    "read_stability",
    "stability",
    "write_stability",
]
