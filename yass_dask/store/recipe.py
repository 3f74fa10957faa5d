"""Recipes: what a stage's result was made of, and why it has to be made again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

Recipe = dict[str, Any]

INPUT_CHANGED = "its input changed"


def hash_of(content: Any) -> str:
    """sha256 of the content's canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays as JSON; anything else would hide a difference."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be part of a recipe")


def plain(content: Any) -> Any:
    """The content as it comes back from a JSON file (tuples are lists, NumPy numbers are numbers)."""
    return json.loads(json.dumps(content, default=_plain))


def params_of(params: Any) -> Any:
    """Params of a stage as plain JSON: a pydantic model, a dataclass, a mapping or None."""
    if hasattr(params, "model_dump"):
        return params.model_dump(mode="json")
    if dataclasses.is_dataclass(params) and not isinstance(params, type):
        return plain(dataclasses.asdict(params))
    return plain(params)


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Say in words how a recipe differs from the one that made the result on the disk."""
    reasons = []
    params = differences(old.get("params"), new["params"])
    if params:
        reasons.append("params changed: " + ", ".join(params))
    if old.get("version") != new["version"]:
        reasons.append(f"its code changed: version {old.get('version')} -> {new['version']}")
    for name in ("backend", "seed"):
        if old.get(name) != new[name]:
            reasons.append(f"{name} changed: {old.get(name)} -> {new[name]}")
    if old.get("previous") != new["previous"]:
        reasons.append(INPUT_CHANGED)
    return "; ".join(reasons) or "its recipe changed"


def differences(old: Any, new: Any) -> list[str]:
    """`name old -> new` for every leaf of two nested mappings that differs."""
    before, after = dict(_leaves(old, "")), dict(_leaves(new, ""))
    names = [*before, *(name for name in after if name not in before)]
    missing = "(none)"
    return [
        f"{name} {_short(before.get(name, missing))} -> {_short(after.get(name, missing))}".strip()
        for name in names
        if before.get(name, missing) != after.get(name, missing)
    ]


def _leaves(value: Any, prefix: str) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(prefix, value)]
    return [leaf for name, inner in value.items() for leaf in _leaves(inner, f"{prefix}.{name}".lstrip("."))]


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
