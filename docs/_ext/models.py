"""Directive `models`: a table of the fields of a pydantic model, made from the model itself, never typed by hand.

Its argument is the model's place; the option `prefix` is what stands before the keys.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
import typing
from importlib import import_module
from typing import Any, Literal, Union, get_args, get_origin

from docutils import nodes
from docutils.parsers.rst import directives
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from sphinx.util.docutils import SphinxDirective

from yass_dask.config import text
from yass_dask.config.sizes import parse_size

HEADER = "| key | value | default | what it does |\n|---|---|---|---|\n"
BOUNDS = {"gt": ">\u00a0{}", "ge": "≥\u00a0{}", "lt": "<\u00a0{}", "le": "≤\u00a0{}"}
UNITS = {"ms": "ms", "s": "s", "hz": "Hz", "um": "um", "sd": "noise sd", "uv": "uV", "bytes": "bytes"}
"""The last word of a key -> the unit it is in."""
SIZE = "bytes, or text such as `200MB`"
NAMES = {float: "number", int: "whole number", str: "text", bool: "true or false", type(None): "none"}


def described(model: type[BaseModel]) -> dict[str, str]:
    """The text under each field of a model."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            texts[ast.unparse(field.target)] = " ".join(str(below.value.value).split())
    return texts


def _sized(rules: typing.Iterable[Any]) -> bool:
    return any(getattr(rule, "func", None) is parse_size for rule in rules)


def kind(annotation: Any) -> str:
    """A type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(kind(one) for one in inner)
    if origin is typing.Annotated:
        return SIZE if _sized(inner[1:]) else kind(inner[0])
    if origin is tuple and inner[-1] is Ellipsis:
        return f"list of {kind(inner[0])}"
    if origin is tuple:
        return f"[{', '.join(kind(one) for one in inner)}]"
    return NAMES.get(annotation, getattr(origin or annotation, "__name__", str(annotation)))


def value_of(name: str, field: Any) -> str:
    """What may stand there: kind, unit, bounds."""
    bounds = [
        sign.format(bound)
        for rule in field.metadata
        for key, sign in BOUNDS.items()
        if (bound := getattr(rule, key, None)) is not None
    ]
    last = name.rsplit("_", 1)[-1] if "_" in name else ""
    shown = SIZE if _sized(field.metadata) else kind(field.annotation)
    return ", ".join([shown, *([UNITS[last]] if last in UNITS else []), *bounds])


def default_of(field: Any) -> str:
    """The default as YAML writes it."""
    if field.default is PydanticUndefined:
        return "required" if field.default_factory is None else "`{}`"
    if _sized(field.metadata) and isinstance(field.default, int):
        return f"`{field.default // 2**20}MB`"
    return f"`{text.dump({'': text.plain(field.default)}).removeprefix(chr(39) * 2 + ':').strip()}`"


def escaped(told: str) -> str:
    """Text in which no letter means anything to Markdown, but for code between backquotes."""
    parts = told.split("`")
    parts[::2] = [re.sub(r"([|*_<])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def rows(model: type[BaseModel]) -> list[tuple[str, str, str, str]]:
    """(key, value, default, text) of each field; fields that are models themselves have tables of their own."""
    texts = described(model)
    found = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            continue
        found.append((name, value_of(name, field), default_of(field), escaped(texts[name])))
    return found


class Models(SphinxDirective):
    """The table; its argument is the model's place, `prefix` what goes before the keys."""

    required_arguments = 1
    option_spec: typing.ClassVar = {"prefix": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].rpartition(".")
        prefix = self.options.get("prefix", "")
        lines = [
            f"| `{prefix}{key}` | {value} | {default} | {told} |"
            for key, value, default, told in rows(getattr(import_module(module), name))
        ]
        for source in (inspect.getsourcefile(import_module(module)) or "", __file__):
            self.env.note_dependency(source)
        made = self.parse_text_to_nodes(HEADER + "\n".join(lines) + "\n")
        for table in made:
            table["classes"].append("models")
        return made


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("models", Models)
    return {"parallel_read_safe": True}
