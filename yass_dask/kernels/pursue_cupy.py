"""Matching pursuit on a block with CuPy: one CUDA kernel from the first spike to the last.

In every round all spikes at once are accepted that stand too far apart to change each other, see `pursue_jax`. The
blocks of threads wait for each other between the steps of a round, so the host is asked for nothing.
"""

from collections.abc import Iterable
from typing import Any

import cupy
import numpy as np

from yass_dask.kernels.bank import Bank, Spikes
from yass_dask.kernels.cuda import THREADS, as_float, as_int, compiled
from yass_dask.kernels.device import Latest
from yass_dask.kernels.pursuit_cuda import SOURCE

TILE = 64


def pursue(correlation: np.ndarray, *, bank: Bank, given: Spikes, first: int, stop: int, n_sweeps: int) -> Spikes:
    """See `pursue_numpy`; the spikes stay on the device."""
    n_rows, n_units = correlation.shape
    # A unit that has fired is closed around the spike: so there cannot be more, and as many again in every sweep.
    most = n_units * -(-n_rows // (bank.refractory + 1)) * (1 + n_sweeps)
    found = Spikes(*(cupy.zeros(most, kind) for kind in ("i4", "i4", "i4", "f4", "f4")))
    if most == 0:
        return found
    templates = _on_device(bank)
    reach = max(templates[5].shape[1] + templates[6].shape[1] - 1, bank.refractory) + 4
    n_tiles = -(-n_rows // TILE)
    state = cupy.array(correlation.T, dtype=cupy.float32, order="C"), cupy.zeros((n_units, n_rows), cupy.int32)
    there, rounds = cupy.zeros(most, cupy.int32), cupy.zeros(most + 2, cupy.int32)
    best = cupy.zeros(n_tiles, cupy.float32), cupy.zeros(n_tiles, cupy.int32), cupy.ones(n_tiles, cupy.int32)
    counters = cupy.zeros(2, cupy.uint32)
    standing = as_int(given.row), as_int(given.unit), as_int(given.shift), as_float(given.amplitude)
    integers = (n_rows, n_units, bank.temporal.shape[2], len(bank.filters), bank.filters.shape[1], len(given.row),
                first, min(stop, n_rows), bank.refractory, TILE, n_tiles, -(-reach // TILE), n_sweeps)  # fmt: skip
    limits = np.float32(bank.amplitude_low), np.float32(bank.amplitude_high)
    arguments = (*state, *templates, *standing, *found, there, rounds, *best, counters, *_as_int32(integers), *limits)
    kernel = compiled(SOURCE, "pursue", together=True)
    kernel((_blocks_at_once(),), (THREADS,), arguments)
    kept = Spikes(*(part[there > 0] for part in found))
    order = cupy.lexsort(cupy.stack([kept.unit, kept.row]))
    return Spikes(*(part[order] for part in kept))


def _as_int32(numbers: Iterable[int]) -> list[np.int32]:
    return [np.int32(number) for number in numbers]


def _blocks_at_once() -> int:
    """One block of threads a multiprocessor: they all run at the same time."""
    return int(cupy.cuda.Device().attributes["MultiProcessorCount"])


def _to_device(bank: Bank) -> tuple[Any, ...]:
    return (
        as_float(bank.norms), as_float(bank.thresholds), as_float(bank.precision), as_int(bank.pair_start),
        as_int(bank.pair_unit), as_float(bank.pair_overlap), as_float(bank.filters),
    )  # fmt: skip


_on_device = Latest(_to_device)
