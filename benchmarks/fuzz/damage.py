"""How good input comes to harm, as values that Hypothesis can draw, shrink and print."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st


class Wound(NamedTuple):
    """Harm to bytes at a place (taken modulo their length)."""

    kind: str
    where: int
    what: bytes


class Change(NamedTuple):
    """Harm to nested mappings and lists at one of their places (taken modulo their number)."""

    kind: str
    where: int
    value: Any


ODD_TEXTS = (
    "", " ", "\x00", "~nobody/x", "~", "..", "../..", "/", "/dev/null", "/dev/zero", "nul\x00byte", "a" * 5000, "nan",
    "inf", "-1", "1e400", "0x10", "1_000", "max", "200MB", "-5MB", "1e3GB", "int17", "float16", "complex64", "object",
    "i2,i2", "M8[s]", "${HOME}", "`id`", "$(id)", "; rm -r x", "%s%s%n", "{0.__class__}", "!!python/object:os.system",
    "\ud7ff", "\u202e", "📈", "tcp://127.0.0.1:1", "tls://", "scheduler.json", "slurm", "local", "config.yaml",
    "recording.bin", "None", "true", "2026-13-45",
)  # fmt: skip
ODD_NUMBERS = (0, -1, 1, 2, 3, 2**31, -(2**31) - 1, 2**63, 2**64, 10**30, 10**400, 1e-320, 1e-9, 0.1, 1e9, 1e300, -0.0)

odd_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(ODD_NUMBERS),
    st.integers(),
    st.floats(),
    st.sampled_from(ODD_TEXTS),
    st.text(max_size=12),
    st.dates(min_value=date(1, 1, 1)),
)
odd_values = st.recursive(
    odd_scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3),
    max_leaves=4,
)
wounds = st.lists(
    st.builds(
        Wound,
        st.sampled_from(("cut", "write", "insert", "remove", "zero", "flip")),
        st.integers(0, 2**31),
        st.binary(min_size=1, max_size=6) | st.sampled_from((b"\n", b"  ", b":", b"-", b"9" * 20, b"{", b'"', b"NaN")),
    ),
    min_size=1,
    max_size=3,
)
changes = st.lists(
    st.builds(Change, st.sampled_from(("drop", "put", "put", "rename", "add")), st.integers(0, 2**31), odd_values),
    min_size=1,
    max_size=3,
)


def hurt(good: bytes, wounds: Sequence[Wound]) -> bytes:
    """Bytes with these wounds."""
    data = bytearray(good)
    for kind, where, what in wounds:
        at = where % max(len(data), 1)
        if kind == "cut":
            del data[at:]
        elif kind == "write":
            data[at : at + len(what)] = what
        elif kind == "insert":
            data[at:at] = what
        elif kind == "remove":
            del data[at : at + 16 * len(what)]
        elif kind == "zero":
            data[at : at + 16 * len(what)] = bytes(len(data[at : at + 16 * len(what)]))
        elif data:
            data[at] ^= what[0] or 1
    return bytes(data)


def changed(good: Any, changes: Sequence[Change]) -> Any:
    """A structure with these changes."""
    root = [copy.deepcopy(good)]
    for kind, where, value in changes:
        places = [place for place in _places(root) if len(place) > 1] or [(0,)]
        *above, step = places[where % len(places)]
        parent: Any = root
        for inner in above:
            parent = parent[inner]
        if kind == "put" or parent is root:
            parent[step] = value
        elif kind == "drop":
            del parent[step]
        elif kind == "rename" and isinstance(parent, dict):
            parent[str(value)[:20]] = parent.pop(step)
        elif isinstance(parent, dict):
            parent[f"{step}_"] = value
        else:
            parent.append(value)
    return root[0]


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps: list[tuple[Any, Any]] = list(value.items()) if isinstance(value, dict) else []
    steps += enumerate(value) if isinstance(value, list) else ()
    return [place for step, inner in steps for place in [(*at, step), *_places(inner, (*at, step))]]


@st.composite
def odd_arrays(draw: st.DrawFn, good: np.ndarray) -> np.ndarray:
    """An array that differs from a good one in its type, its shape, or some values."""
    array = good.copy()
    kind = draw(st.sampled_from(("type", "shape", "rows", "values", "values")))
    if kind == "type":
        names = ("int8", "uint64", ">i4", "float16", "float32", "complex64", "bool", "U3", "S2", "M8[s]", "i4,f4", "V4")
        small = np.resize(np.frombuffer(array.tobytes(), np.uint8), array.shape)
        return small.astype(draw(st.sampled_from(names)), casting="unsafe")
    if kind == "shape":
        shape = draw(st.lists(st.integers(0, 5), max_size=4))
        return np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)
    if kind == "rows":
        return np.resize(array, (draw(st.integers(0, 2 * len(array) + 2)), *array.shape[1:]))
    array = array.astype(np.float64) if draw(st.booleans()) else array
    odd = st.sampled_from((0, -1, 1, 2**31 - 1, 2**62, np.nan, np.inf, -np.inf, 1e300, 0.5))
    for where, value in draw(st.lists(st.tuples(st.integers(0, 2**31), odd), min_size=1, max_size=4)):
        if array.size and (array.dtype.kind == "f" or np.isfinite(value)):
            limits = None if array.dtype.kind == "f" else np.iinfo(array.dtype)
            fits = value if limits is None else max(int(limits.min), min(int(limits.max), int(value)))
            array.flat[where % array.size] = fits
    return array
