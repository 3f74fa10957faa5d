"""The `params` section and `--set`: stage parameters as nested mappings, checked against SortParams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from yass_dask.config import problems, text
from yass_dask.errors import InputError

if TYPE_CHECKING:
    from yass_dask.pipeline import SortParams


def find_problems(raw: Mapping[str, Any]) -> list[str]:
    """What is wrong with a `params` section, a line each."""
    from yass_dask.pipeline import SortParams

    try:
        SortParams.model_validate(raw)
    except ValidationError as error:
        return problems.describe(error, SortParams, ("params",))
    return []


def sort_params(raw: Mapping[str, Any], where: str = "params") -> SortParams:
    """SortParams out of nested mappings; `where` names their origin in the InputError that bad ones raise."""
    from yass_dask.pipeline import SortParams

    problems.raise_if_any(find_problems(raw), where)
    return SortParams.model_validate(raw)


def of_recordings(spatial_radius: float | None, spike_size_ms: float | None) -> dict[str, Any]:
    """What YASS's two keys about waveforms mean for the stages (None: nothing); the `params` section goes before them.

    `spatial_radius` is how far neighbours reach; a peak excludes others among the neighbours' neighbours, and features
    are taken there: half as far again.
    `spike_size_ms` is the length of the waveform that features describe; a template is twice as long (YASS: 4R + 1
    samples for features of 2R + 1). A third of either lies before the peak.
    """
    reach: dict[str, Any] = {} if spatial_radius is None else {"radius_um": 1.5 * spatial_radius}
    around: dict[str, Any] = {}
    length: dict[str, Any] = {}
    if spike_size_ms is not None:
        around = {"before_ms": spike_size_ms / 3, "after_ms": spike_size_ms * 2 / 3}
        length = {"before_ms": spike_size_ms * 2 / 3, "after_ms": spike_size_ms * 4 / 3}
    return {"detect": reach, "features": reach | around, "templates": length}


def layered(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings joined; where both have a value, `over` counts."""
    joined = text.plain(under)
    for key, value in over.items():
        below = joined.get(key)
        nested = isinstance(below, dict) and isinstance(value, Mapping)
        joined[key] = layered(below, value) if nested else text.plain(value)
    return joined


def override(raw: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Copy of nested mappings with `stage.key=value` assignments applied; values are read as YAML.

    Raises
    ------
    InputError
        An assignment is not of that form. Keys and types are checked later, by `sort_params`.
    """
    changed: dict[str, Any] = text.plain(raw)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        steps = key.strip().split(".")
        if not equals or not all(steps):
            raise InputError(f"--set {assignment}: must be stage.key=value, such as detect.threshold_sd=5")
        _assign(changed, steps, text.parse(value, f"--set {assignment}"))
    return changed


def _assign(nested: dict[str, Any], steps: list[str], value: Any) -> None:
    for step in steps[:-1]:
        inner = nested.get(step)
        nested[step] = inner if isinstance(inner, dict) else {}
        nested = nested[step]
    nested[steps[-1]] = value
