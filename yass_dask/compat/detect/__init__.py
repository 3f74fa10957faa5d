"""Step 2: find spikes."""

from yass_dask.compat.detect import nnet, nnet_experimental, threshold
from yass_dask.compat.detect.run import run

__all__ = ["nnet", "nnet_experimental", "run", "threshold"]
