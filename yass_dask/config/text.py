"""YAML in and out: plain data only, and no key twice."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from yass_dask.errors import InputError


class _StrictLoader(yaml.SafeLoader):
    """YAML would silently let the last of two equal keys win; here that is an error."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Checked here, before `<<` merges put inherited keys beside the ones that override them.
        node = super().compose_mapping_node(anchor)
        seen: set[Hashable] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                problem = f"key {key.value!r} is there twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return node


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises
    ------
    InputError
        The file cannot be read, is not plain YAML (tags that build objects are refused), repeats a key, or
        holds something else than a mapping.
    """
    value = parse(_read_text(path), str(path))
    if not isinstance(value, dict):
        found = "nothing" if value is None else f"a {type(value).__name__}"
        raise InputError(f"{path}: must hold the sections data, resources and recordings, but holds {found}")
    return value


def _read_text(path: Path) -> str:
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the path of the configuration file in it")
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such configuration file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file in UTF-8; a YAML configuration file is needed") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def parse(text: str, where: str) -> Any:
    """Value of a YAML text; `where` names its origin in the InputError that bad YAML raises."""
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InputError(f"{where}{line}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a date such as 2020-99-99; RecursionError: brackets nested without end.
        raise InputError(f"{where}: not valid YAML: {error}") from None


def dump(value: Mapping[str, Any]) -> str:
    """YAML text of plain data, keys in their order."""
    return yaml.safe_dump(plain(value), sort_keys=False, allow_unicode=True, default_flow_style=None)


def plain(value: Any) -> Any:
    """Copy of nested data with NumPy values, paths, tuples and mappings turned into what YAML knows."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, np.dtype):
        return value.name
    return str(value) if isinstance(value, Path) else value
