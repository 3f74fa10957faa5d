"""The experimental preprocessing: that of `batch`, in half the bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from yass_dask.compat.preprocess import batch
from yass_dask.compat.settings import Settings


def run(
    CONFIG: Settings, if_file_exists: str = "skip", output_dtype: str = "float32", **kwargs: Any
) -> tuple[str, dict[str, Any], np.ndarray]:
    """The same as `batch.run`, as float32 by default; parameters and results are its."""
    return batch.run(CONFIG, if_file_exists, output_dtype, function="preprocess.experimental.run", **kwargs)
