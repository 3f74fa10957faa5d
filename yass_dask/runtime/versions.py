"""Whether the workers of a cluster have what this process has: asked before the first job.

Other versions may give other spikes, or fail in the middle of a sort.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cloudpickle

from yass_dask.errors import InputError

if TYPE_CHECKING:
    import distributed

PACKAGES = ("dask", "distributed", "numpy", "scipy", "numba", "numcodecs", "zarr")
"""What the spikes, or the files, depend on."""
SHOWN = 8


def check_versions(client: distributed.Client) -> None:
    """Compare the versions of every worker with those of this process.

    Raises
    ------
    InputError
        Names worker, host, package and both versions.
    """
    here = versions_here(PACKAGES)
    del here["host"]
    lines = []
    for address, there in client.run(pickle.loads, as_bytes(versions_here, PACKAGES)).items():
        wrong = [f"{name} {there.get(name)} (here {value})" for name, value in here.items() if there.get(name) != value]
        if wrong:
            lines.append(f"worker {address} on host {there['host']}: {', '.join(wrong)}")
    if lines:
        more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise InputError(
            "workers of the cluster have other versions than this process; install the same on all hosts, and start "
            "the workers again:\n  " + "\n  ".join([*lines[:SHOWN], *more])
        )


def versions_here(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions in this process, of Python and of yass_dask's own files too; and its host.

    It imports all it needs inside: it travels to workers as it is, which may have another yass_dask or none.
    """
    import hashlib
    import platform
    import socket
    from importlib import metadata, util
    from pathlib import Path

    def version(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return "missing"

    def own() -> str:
        spec = util.find_spec("yass_dask")
        if spec is None or not spec.submodule_search_locations:
            return "missing"
        folder, digest = Path(next(iter(spec.submodule_search_locations))), hashlib.sha256()
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
        return f"{version('yass-dask')} (code {digest.hexdigest()[:8]})"

    found = {"yass_dask": own(), "python": ".".join(platform.python_version_tuple()[:2])}
    return {**found, **{name: version(name) for name in packages}, "host": socket.gethostname()}


def as_bytes(function: Callable[..., Any], *args: Any) -> bytes:
    """A call that is made where these bytes are unpickled, with the function's own code in them."""
    module = sys.modules[function.__module__]
    cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(_Call(function, args)))
    finally:
        cloudpickle.unregister_pickle_by_value(module)


class _Call:
    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.args
