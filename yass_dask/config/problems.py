"""What is wrong with a configuration, in words: the key, the value found, what is allowed."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from yass_dask.errors import InputError

Model = type[BaseModel]
_SECRET = re.compile(r"//[^/@\s]+@")
"""User and password in an address; messages end up in mails."""
Place = tuple[int | str, ...]


def raise_if_any(problems: list[str], where: str) -> None:
    """Raise one InputError that lists all problems of the configuration found at `where`."""
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise InputError("\n  - ".join([f"{where}: {count} in the configuration", *problems]))


def describe(error: ValidationError, model: Model, prefix: Place = ()) -> list[str]:
    """One line for every problem of a model; `prefix` is the model's own place in the file."""
    return [_describe_one(problem, model, prefix) for problem in error.errors(include_url=False)]


def in_one_line(error: ValidationError) -> str:
    """All problems of values that are in no configuration."""
    return "; ".join(
        f"{dotted(problem['loc'])} is {shown(problem['input'])}: {problem['msg']}"
        for problem in error.errors(include_url=False)
    )


def _describe_one(problem: Any, model: Model, prefix: Place) -> str:
    place, kind = problem["loc"], problem["type"]
    key = dotted(prefix + place)
    if kind == "extra_forbidden":
        parent = _model_at(model, place[:-1]) or model
        hint = suggestion(str(place[-1]), parent, model)
        return f"{key}: unknown key (value {shown(problem['input'])}); {hint}"
    field = _field_at(model, place)
    allowed = f" ({field.description})" if field and field.description else ""
    if kind == "missing":
        return f"{key}: missing{allowed}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key}: found {shown(problem['input'])}: {message[:1].lower()}{message[1:]}{allowed}"


def suggestion(key: str, model: Model, whole: Model) -> str:
    """What to write in place of an unknown key."""
    names = list(model.model_fields)
    close = get_close_matches(key.lower(), names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    homes = [name for name, section in _sections(whole) if key in section.model_fields]
    if homes:
        return f"{key} belongs to the section {homes[0]}"
    return f"allowed here: {', '.join(names)}"


def dotted(place: Iterable[int | str]) -> str:
    """A place in the file as `section.key[2]`."""
    name = ""
    for step in place:
        name += f"[{step}]" if isinstance(step, int) else f".{step}" if name else str(step)
    return name


_BOUNDED = reprlib.Repr()
"""YAML's references make a value of a few lines larger than any memory once it is written out."""
_BOUNDED.maxlevel = 3
_BOUNDED.maxdict = _BOUNDED.maxlist = _BOUNDED.maxtuple = _BOUNDED.maxset = 20
_BOUNDED.maxstring = _BOUNDED.maxlong = _BOUNDED.maxother = 200


def shown(value: Any) -> str:
    """A value as a short text."""
    words = _SECRET.sub("//***@", _BOUNDED.repr(dict(value) if isinstance(value, Mapping) else value))
    return words if len(words) <= 60 else words[:56] + " ..."


def _sections(model: Model) -> list[tuple[str, Model]]:
    found = [(name, _model_of(field)) for name, field in model.model_fields.items()]
    return [(name, section) for name, section in found if section is not None]


def _model_of(field: FieldInfo) -> Model | None:
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _model_at(model: Model, place: Place) -> Model | None:
    found: Model | None = model
    for step in place:
        field = found.model_fields.get(str(step)) if found else None
        found = _model_of(field) if field else None
    return found


def _field_at(model: Model, place: Place) -> FieldInfo | None:
    """The field of the longest part of `place` that names one: of a list's item, the list."""
    for end in range(len(place), 0, -1):
        parent = _model_at(model, place[: end - 1])
        if parent is not None and place[end - 1] in parent.model_fields:
            return parent.model_fields[str(place[end - 1])]
    return None
