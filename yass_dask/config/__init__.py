"""The YASS configuration file: read, checked at once and as a whole, frozen."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from yass_dask.config import files, problems, stage_params, text
from yass_dask.config.models import Cluster, Config, Data, Recordings, Resources
from yass_dask.config.reading import ReadConfig, filled_in
from yass_dask.config.sizes import format_size, parse_size
from yass_dask.config.stage_params import override, sort_params
from yass_dask.errors import InputError

__all__ = [
    "Cluster",
    "Config",
    "Data",
    "Recordings",
    "Resources",
    "choose_cluster",
    "format_size",
    "load",
    "override",
    "parse_size",
    "sort_params",
]


def load(config: str | Path | Mapping[str, Any]) -> Config:
    """Read and check a configuration.

    Parameters
    ----------
    config : path of a YAML file, or a mapping with the same sections
        A relative `data.root_folder` starts at the file's folder, for a mapping at the working directory.

    Raises
    ------
    InputError
        One error that lists all problems: unknown and missing keys, wrong values, missing files, files that
        do not fit the numbers, a recording that SpikeInterface cannot open (`data.read`).
    """
    if isinstance(config, Mapping):
        return _check(text.plain(config), Path.cwd(), "configuration")
    path = Path(config)
    return _check(text.read_mapping(path), path.absolute().parent, str(path))


def choose_cluster(config: Config, **given: Any) -> Cluster:
    """Where to run: what is given here (None: nothing) goes before the `cluster` section, that before
    `resources.processes`.

    Raises
    ------
    InputError
        The scheduler is of no known kind, or a value is wrong.
    """
    chosen = {} if config.cluster is None else config.cluster.model_dump()
    chosen |= {name: value for name, value in given.items() if value is not None}
    try:
        return Cluster(**{**chosen, "workers": chosen.get("workers") or config.resources.processes})
    except ValidationError as error:
        raise InputError("--" + "; --".join(problems.describe(error, Cluster))) from None


def _check(raw: dict[str, Any], folder: Path, where: str) -> Config:
    raw = _with_absolute_root(raw, folder)
    model: type[Config] = Config
    found: list[str] = []
    checked = None
    if isinstance(raw.get("data"), dict) and "read" in raw["data"]:
        model, (raw, found) = ReadConfig, filled_in(raw)
    try:
        checked = model.model_validate(raw)
    except ValidationError as error:
        found += problems.describe(error, model)
    if raw.get("params") and isinstance(raw["params"], dict):
        found += stage_params.find_problems(raw["params"])
    if model is Config:
        sections = (_good_values(Data, raw.get("data")), _good_values(Recordings, raw.get("recordings")))
        found += files.find_problems(*sections)
    problems.raise_if_any(found, where)
    assert checked is not None
    return checked


def _with_absolute_root(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    data = raw.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("root_folder"), str) or not data["root_folder"]:
        return raw
    # Symbolic links are kept: on a cluster their targets may differ from node to node.
    root = os.path.abspath(folder / os.path.expanduser(data["root_folder"]))
    return {**raw, "data": {**data, "root_folder": root}}


def _good_values(model: type[BaseModel], raw: Any) -> dict[str, Any]:
    """Values of a section less those that are wrong: files are checked though something else is wrong."""
    given = raw if isinstance(raw, dict) else {}
    try:
        return dict(model.model_validate(given))
    except ValidationError as error:
        wrong = {problem["loc"][0] for problem in error.errors() if problem["loc"]}
    values = {name: field.default for name, field in model.model_fields.items() if not field.is_required()}
    return {name: value for name, value in (values | given).items() if name not in wrong}
