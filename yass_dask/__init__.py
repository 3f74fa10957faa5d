"""Spike sorting by triage, clustering and pursuit, as chunked array computing on Dask."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yass_dask.errors import InputError
    from yass_dask.pipeline import SortParams, sort
    from yass_dask.readers import from_array, from_config, from_spikeinterface, read_binary, read_zarr
    from yass_dask.recording import Recording
    from yass_dask.simulate import simulate
    from yass_dask.sorting import Sorting
    from yass_dask.store import Store

_HOMES = {
    "InputError": "errors",
    "Recording": "recording",
    "SortParams": "pipeline",
    "Sorting": "sorting",
    "Store": "store",
    "from_array": "readers",
    "from_config": "readers",
    "from_spikeinterface": "readers",
    "read_binary": "readers",
    "read_zarr": "readers",
    "simulate": "simulate",
    "sort": "pipeline",
}

__all__ = [
    "InputError",
    "Recording",
    "SortParams",
    "Sorting",
    "Store",
    "from_array",
    "from_config",
    "from_spikeinterface",
    "read_binary",
    "read_zarr",
    "simulate",
    "sort",
]


def __getattr__(name: str) -> Any:
    """Import public names when they are first asked for: `import yass_dask` stays quick."""
    if name == "__version__":
        return version("yass-dask")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    # `import yass_dask.simulate` makes the name mean the module; the public name is the function.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
