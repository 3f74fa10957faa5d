"""Arrays that all jobs of a stage share: they travel to each worker once, not with every job.

A worker that joins later gets them before its first job, and none depends on another worker's memory.
"""

from __future__ import annotations

import contextlib
import io
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
from distributed import SchedulerPlugin, WorkerPlugin

if TYPE_CHECKING:
    import distributed

LARGE_BYTES = 256
"""Smaller arrays travel with the job."""

TRIES = 5
"""Times that arrays are handed out."""

_kept: dict[str, dict[int, np.ndarray]] = {}
"""In a worker: arrays by stage and number."""


class SharedArrays:
    """Packs the jobs of a stage without the arrays that the first one has, which the workers are given."""

    def __init__(self, client: distributed.Client, label: str) -> None:
        self.client, self.label = client, label
        self.name = f"{client.id}/{label}"
        self.arrays: dict[int, np.ndarray] | None = None

    def pack(self, job: Any) -> PackedJob:
        """The job, to be sent."""
        if self.arrays is None:
            self.arrays = {}
            _pack(job, self.arrays, new=True)
            self._hand_out(_Keeping(self.label, self.arrays))
            with contextlib.suppress(Exception):  # the scheduler may forbid plugins
                self.client.register_plugin(_Releasing())
        return PackedJob(self.label, _pack(job, self.arrays, new=False))

    def _hand_out(self, plugin: _Keeping) -> None:
        """Give the arrays to all workers; one that dies at that moment fails the call for all."""
        for attempt in range(TRIES):
            try:
                self.client.register_plugin(plugin, name=self.name)
                return
            except OSError:
                if attempt == TRIES - 1 or self.client.status != "running":
                    raise

    def close(self) -> None:
        """The workers may forget the arrays."""
        if self.arrays is not None:
            self.client.unregister_worker_plugin(self.name)


@dataclass(frozen=True)
class PackedJob:
    """A job in a worker's hands."""

    label: str
    packed: bytes

    def __call__(self) -> None:
        _Unpacker(io.BytesIO(self.packed), _kept[self.label]).load().on_cluster()


class _Keeping(WorkerPlugin):
    def __init__(self, label: str, arrays: dict[int, np.ndarray]) -> None:
        self.label, self.arrays = label, arrays

    def setup(self, worker: distributed.Worker) -> None:
        _kept[self.label] = self.arrays

    def teardown(self, worker: distributed.Worker) -> None:
        _kept.pop(self.label, None)


class _Releasing(SchedulerPlugin):
    """In the scheduler: the arrays of a client that died are no use to anyone."""

    name = "yass-shared-arrays"
    idempotent = True

    def remove_client(self, scheduler: distributed.Scheduler, client: str) -> None:
        for name in [name for name in scheduler.worker_plugins if name.startswith(f"{client}/")]:
            scheduler.loop.add_callback(scheduler.unregister_worker_plugin, comm=None, name=name)


def _pack(job: Any, arrays: dict[int, np.ndarray], *, new: bool) -> bytes:
    file = io.BytesIO()
    _Packer(file, arrays, new).dump(job)
    return file.getvalue()


class _Packer(cloudpickle.Pickler):
    """Writes an array's number in place of the array; with `new`, of any large one."""

    def __init__(self, file: io.BytesIO, arrays: dict[int, np.ndarray], new: bool) -> None:
        super().__init__(file)
        self._arrays, self._new = arrays, new

    def persistent_id(self, obj: Any) -> int | None:
        if type(obj) is not np.ndarray or obj.nbytes < LARGE_BYTES or obj.dtype.hasobject:
            return None
        if self._new:
            self._arrays[id(obj)] = obj
        return id(obj) if self._arrays.get(id(obj)) is obj else None


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, arrays: dict[int, np.ndarray]) -> None:
        super().__init__(file)
        self._arrays = arrays

    def persistent_load(self, number: int) -> np.ndarray:
        return self._arrays[number]
