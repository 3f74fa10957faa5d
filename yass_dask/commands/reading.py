"""`--read` and `--probe`: a configuration of them, alone or over a file's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yass_dask.errors import InputError

MAX_MEMORY = "200MB"
"""Of a task, where no configuration says"""
TOLD = {"dtype", "sampling_rate", "n_channels", "order", "offset_bytes", "gain_to_uv"}
"""Keys of the section `recordings` that what is read says better"""


def configured(
    config: Path | Mapping[str, Any] | None, read: str | None, probe: Path | None
) -> Path | Mapping[str, Any]:
    """The configuration to load.

    Parameters
    ----------
    config : YAML file or mapping, None: none
    read : FORMAT:PATH[#STREAM], which goes before the configuration's recordings, None: nothing
    probe : file of contact positions, which goes before the configuration's, None: none

    Raises
    ------
    InputError
        There is nothing to sort.
    """
    from yass_dask.config import text
    from yass_dask.config.reading import Reading

    if config is None and read is None:
        raise InputError(
            "nothing to sort: give a configuration file, yass sort CONFIG, or what SpikeInterface opens, "
            "yass sort --read FORMAT:PATH, such as --read spikeglx:/data/run1_g0"
        )
    if read is None and probe is None:
        assert config is not None
        return config
    raw = _sections(config)
    data = dict(raw.get("data") or {})
    if read is not None:
        found = Reading.parse(read, Path.cwd())
        stream = "" if found.stream is None else f"#{found.stream}"
        data = {"root_folder": data.get("root_folder", os.getcwd()), "read": f"{found.format}:{found.path}{stream}"}
        raw["recordings"] = _not_told(raw.get("recordings"))
    if probe is not None:
        data["geometry"] = os.path.abspath(probe.expanduser())
    return text.plain({**raw, "data": data, "resources": raw.get("resources", {"max_memory": MAX_MEMORY})})


def _sections(config: Path | Mapping[str, Any] | None) -> dict[str, Any]:
    """Sections of a configuration, its root folder absolute: a mapping's would start at the working directory."""
    from yass_dask.config import text

    if config is None or isinstance(config, Mapping):
        return dict(config or {})
    raw = text.read_mapping(config)
    data = raw.get("data")
    if isinstance(data, dict) and isinstance(data.get("root_folder"), str):
        root = os.path.abspath(config.absolute().parent / os.path.expanduser(data["root_folder"]))
        raw["data"] = {**data, "root_folder": root}
    return raw


def _not_told(recordings: Any) -> dict[str, Any]:
    """What the section says that no recording says of itself."""
    given = recordings if isinstance(recordings, Mapping) else {}
    return {name: value for name, value in given.items() if name not in TOLD}
