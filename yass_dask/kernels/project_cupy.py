"""Features of events straight from the traces with CuPy."""

from typing import Any

import cupy
import numpy as np

from yass_dask.kernels.cuda import as_float


def project(
    traces: np.ndarray,
    *,
    rows: np.ndarray,
    sites: np.ndarray,
    shifts: np.ndarray,
    gather: np.ndarray,
    mix: np.ndarray,
    bank: np.ndarray,
    before: int,
    memory: int = 2**28,
) -> np.ndarray:
    """See `project_numpy`; the result stays on the device. `memory` bytes hold the windows of a batch of events."""
    n_rows, n_channels = traces.shape
    padded = cupy.zeros((n_rows + 1, n_channels + 1), cupy.float32)  # a row and a channel of zeros for what is beyond
    padded[:n_rows, :n_channels] = as_float(traces)
    events = [cupy.asarray(array) for array in (rows, sites, shifts)]
    maps = [cupy.asarray(array) for array in (gather, mix, bank)]
    per_event = 8 * (bank.shape[1] * (gather.shape[1] + bank.shape[2]) + mix.shape[1] * mix.shape[2])
    batch = max(1, memory // max(per_event, 1))
    result = cupy.zeros((len(rows), mix.shape[1], bank.shape[2]), cupy.float32)
    for start in range(0, len(rows), batch):
        some = [part[start : start + batch] for part in events]
        result[start : start + batch] = _project(padded, some, maps, before)
    return result


def _project(padded: Any, events: list[Any], maps: list[Any], before: int) -> Any:
    (rows, sites, shifts), (gather, mix, bank) = events, maps
    n_rows = len(padded) - 1
    times = rows.astype(cupy.int64)[:, None] - before + cupy.arange(bank.shape[1])[None, :]
    times = cupy.where((times < 0) | (times >= n_rows), n_rows, times)
    windows = padded[times[:, None, :], gather[sites][:, :, None]]
    return mix[sites] @ (windows @ bank[shifts])
