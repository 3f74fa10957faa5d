"""Dask clients: the user's own, one for processes of this machine, one for a scheduler elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask

from yass_dask.errors import InputError
from yass_dask.runtime.batch import DASHBOARD, LOOPBACK, is_scheduler_file
from yass_dask.runtime.devices import RESOURCE
from yass_dask.runtime.plan import PROCESS_BYTES
from yass_dask.runtime.threads import KEEP_MEMORY, ONE_THREAD, WORKER_SETTINGS

if TYPE_CHECKING:
    import distributed

_CERTIFICATES = (
    "set distributed.comm.tls.ca-file, client.cert and client.key in dask's configuration (docs/security.md)"
)


def current_client() -> distributed.Client | None:
    """The dask client that the user opened, if any; does not import distributed for those who did not."""
    if "distributed" not in sys.modules:
        return None
    import distributed

    try:
        return distributed.get_client()
    except ValueError:
        return None


@contextlib.contextmanager
def local_client(
    n_workers: int, memory_limit: int | None, gpus: Sequence[str] = (), *, profiled: bool = False
) -> Iterator[distributed.Client]:
    """Processes of one thread each, told to stay single-threaded before they start; and one for each GPU.

    With `profiled`, dask samples what they do, for its performance reports.
    """
    import distributed

    settings: dict[str, Any] = {**WORKER_SETTINGS, "distributed.worker.profile.enabled": profiled}
    # Read when a process starts, so that `env` would come too late; dask's own has each freed array given back.
    settings["distributed.nanny.pre-spawn-environ"] = {**ONE_THREAD, **KEEP_MEMORY, "NUMBA_NUM_THREADS": "1"}
    limit = _share(memory_limit, n_workers + len(gpus))
    options = {"nthreads": 1, "memory_limit": limit, "silence_logs": logging.ERROR, "host": LOOPBACK}
    own: dict[Any, dict[str, Any]] = {i: {} for i in range(n_workers)}
    for gpu in gpus:
        own[f"gpu-{gpu}"] = {"env": {"CUDA_VISIBLE_DEVICES": gpu}, "resources": {RESOURCE: 1}}
    workers = {name: {"cls": distributed.Nanny, "options": options | more} for name, more in own.items()}
    scheduler = {
        "cls": distributed.Scheduler,
        "options": {"host": LOOPBACK, "port": 0, "dashboard": True, "dashboard_address": DASHBOARD},
    }
    with (
        dask.config.set(settings),
        distributed.SpecCluster(workers, scheduler, silence_logs=logging.ERROR) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _share(memory_limit: int | None, n_workers: int) -> int | str:
    """Bytes after which a worker is ended: an equal part of what this process leaves."""
    if memory_limit is None:
        return "auto"
    return max(1, memory_limit - PROCESS_BYTES) // n_workers


@contextlib.contextmanager
def remote_client(address: str) -> Iterator[distributed.Client]:
    """Client of a scheduler that runs already, given by its address or its file."""
    import distributed

    where = {"scheduler_file": address} if is_scheduler_file(address) else {"address": address}
    _check_certificates(address)
    try:
        client = distributed.Client(**where, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"The dask scheduler {address} cannot be reached: {error}. Start one there, or give the address of another"
        ) from error
    with client:
        yield client


def _check_certificates(address: str) -> None:
    """InputError where a scheduler speaks TLS and dask's settings name no certificates: dask itself fails half-way."""
    from distributed.security import Security

    from yass_dask.store.disk import read_json

    told = read_json(Path(address)).get("address") if is_scheduler_file(address) else address
    if not str(told).startswith("tls://"):
        return
    try:
        context = Security().get_connection_args("client").get("ssl_context")
    except OSError as error:
        raise InputError(f"The certificates for {told} cannot be read ({error}); {_CERTIFICATES}") from error
    if context is None:
        raise InputError(f"The dask scheduler {told} needs certificates, and there are none; {_CERTIFICATES}")
