"""Which backend runs where: what the workers have, and the choice made of it, once a sort."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yass_dask.backends import CPU, GPU, Where, installed, on_gpu
from yass_dask.errors import InputError

if TYPE_CHECKING:
    import distributed

RESOURCE = "GPU"
"""What a worker offers that has a GPU to itself: `dask worker --resources GPU=1`."""
CPU_RESOURCE = "yass-cpu"
"""What the others offer once a sort by GPUs has begun."""
DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")

_log = logging.getLogger("yass_dask")


@dataclass(frozen=True)
class Workers:
    """Addresses of a cluster's workers: those that offer a GPU, and the others."""

    gpu: tuple[str, ...] = ()
    cpu: tuple[str, ...] = ()

    @classmethod
    def of(cls, client: distributed.Client | None) -> Workers:
        """Those of a cluster; none for this process."""
        if client is None:
            return cls()
        found = client.scheduler_info(n_workers=-1)["workers"]
        gpu = tuple(address for address, worker in found.items() if worker.get("resources", {}).get(RESOURCE))
        return cls(gpu, tuple(address for address in found if address not in gpu))

    def submission(self, where: Where) -> dict[str, Any]:
        """What `client.submit` is told, so that a task goes where its stage belongs."""
        if where == "gpu" and self.gpu:
            return {"resources": {RESOURCE: 1}}
        if where == "cpu" and self.gpu and self.cpu:
            return {"resources": {CPU_RESOURCE: 1}}
        return {}

    def said(self, backend: str) -> str:
        """In words: who does what."""
        if backend in CPU:
            n_workers = len(self.gpu + self.cpu)
            return f"backend {backend}" + (f" on {n_workers} workers" if n_workers else "")
        gpu = f" on {len(self.gpu)} GPU workers" if self.gpu else ""
        cpu = f" on {len(self.cpu)} CPU workers" if self.gpu and self.cpu else ""
        return (
            f"backend of stages that read traces (preprocess, detect, features, means, deconvolve, residual): "
            f"{backend}{gpu}; of all others (cluster, templates, merge): numba{cpu}"
        )


def choose_backend(asked: str, client: distributed.Client | None, begun_with: str | None) -> str:
    """The backend of a sort.

    Parameters
    ----------
    asked : a backend's name, or "auto": what the sort was begun with if the workers have that, else CuPy or JAX where
        every worker that offers a GPU has it and finds the GPU, else numba
    client : of the cluster; None for this process
    begun_with : backend of the stages that are in the folder already

    Raises
    ------
    InputError
        Workers lack the backend that was asked for.
    """
    workers = Workers.of(client)
    if asked != "auto":
        check_backend(asked, client)
        chosen = asked
    elif begun_with is not None and not _without(begun_with, client, workers):
        chosen = begun_with
    else:
        chosen = next((name for name in GPU if _all_find_gpu(name, client, workers)), "numba")
        if workers.gpu and chosen == "numba":
            _log.warning("%d workers offer a GPU, but neither CuPy nor JAX finds one on all of them", len(workers.gpu))
    if client is not None and chosen in GPU and workers.gpu and workers.cpu:
        from yass_dask.runtime.offers import offer_cpus

        offer_cpus(client, CPU_RESOURCE, RESOURCE)
    return chosen


def check_backend(backend: str, client: distributed.Client | None) -> None:
    """InputError where a worker that would run a backend, or this process, cannot."""
    lacking = _without(backend, client, Workers.of(client))
    if lacking:
        needs = "JAX: pip install 'yass-dask[jax]'" if backend == "jax" else "CuPy and a GPU that it finds"
        raise InputError(f"backend {backend!r} needs {needs}; missing on {', '.join(lacking)}")


def _without(backend: str, client: distributed.Client | None, workers: Workers) -> list[str]:
    """Workers that cannot run a backend: those that offer a GPU, or all if none does."""
    if backend in CPU:
        return []
    if client is None:
        return [] if installed(backend) else ["this machine"]
    answers = client.run(installed, backend, workers=list(workers.gpu or workers.cpu))
    return [address for address, can in answers.items() if not can]


def _all_find_gpu(backend: str, client: distributed.Client | None, workers: Workers) -> bool:
    if client is None:
        return has_driver() and on_gpu(backend)
    return bool(workers.gpu) and all(client.run(on_gpu, backend, workers=list(workers.gpu)).values())


def has_driver() -> bool:
    """Whether a GPU may be here: to ask JAX would cost a second of every sort."""
    return any(Path(driver).exists() for driver in DRIVERS)


def visible_gpus() -> list[str]:
    """NVIDIA GPUs of this machine that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is not None:
        return [name for name in asked.split(",") if name.strip() not in ("", "-1")]
    numbers = (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia*"))
    return sorted(number for number in numbers if number.isdecimal())
