"""`yass verify`: whether an output folder holds what was written into it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yass_dask.errors import InputError
from yass_dask.sources.checksums import MISSING, WRONG
from yass_dask.store.damage import Damage, Looked, look_at, withdraw
from yass_dask.store.disk import read_json, readable_errors, write_json
from yass_dask.store.exports import checksums_of
from yass_dask.store.recipe import hash_of
from yass_dask.store.stage import Stage

if TYPE_CHECKING:
    from yass_dask.store.folder import Store

SHOWN = 20


@dataclass(frozen=True)
class Verified:
    """What `Store.verify` found.

    Attributes
    ----------
    path : Path
    n_stages, n_chunks, n_bytes : int
        What was looked at.
    damages : tuple of Damage
        What is not as it was written.
    unfinished : str
        Why there is no result to rely on though nothing is damaged; empty where there is one.
    withdrawn : tuple of str
        What the next sort makes again.
    """

    path: Path
    n_stages: int
    n_chunks: int
    n_bytes: int
    damages: tuple[Damage, ...]
    unfinished: str
    withdrawn: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether there is a result, and it and all it was made of are as they were written."""
        return not self.damages and not self.unfinished

    def __str__(self) -> str:
        size = f"{self.n_stages} stages, {self.n_chunks} chunks, {self.n_bytes / 2**20:.0f} MB"
        if self.is_whole:
            return f"{self.path} is whole: every checksum of {size} is that of what was written"
        lines = [str(damage) for damage in self.damages[:SHOWN]]
        if len(self.damages) > SHOWN:
            lines.append(f"and {len(self.damages) - SHOWN} more")
        head = f"{self.path} is damaged (looked at {size}):" if lines else f"{self.path}: {size}, nothing is damaged"
        again = [f"The same sort computes again: {'; '.join(self.withdrawn)}"] if self.withdrawn else []
        return "\n".join([head, *(f"  {line}" for line in lines), *again, *filter(None, [self.unfinished])])


def verify(store: Store) -> Verified:
    """See `Store.verify`."""
    from yass_dask.store.folder import MARKER, RESULT

    if not store.zarr_path.is_dir():
        raise InputError(f"{store.path} is not the output folder of a sort: it has no {store.zarr_path.name}")
    writable = os.access(store.path, os.W_OK)
    marker = store.path / MARKER
    mended = [] if _is_ours(marker) else [Damage("", MARKER, None, "it is missing or damaged")]
    if mended and writable:
        _write_marker(marker, store.zarr_path)
    with store.lock() if writable else contextlib.nullcontext():
        stages = {path.name: _stage(path) for path in sorted(store.zarr_path.glob("[!.]*"))}
        looked = {name: look_at(stage) for name, stage in stages.items()}
        about = read_json(marker)
        broken = [
            *mended,
            *_broken_links(about, stages, about.get(RESULT)),
            *_broken_files(store.path, about.get(RESULT)),
        ]
        with readable_errors(store.path):
            taken_back = [withdraw(stages[name], found.damages) for name, found in looked.items()] if writable else []
    if any(not damage.stage for damage in broken):
        taken_back.append("the files of the result")
    return Verified(
        store.path,
        n_stages=len(stages),
        n_chunks=sum(found.n_chunks for found in looked.values()),
        n_bytes=sum(found.n_bytes for found in looked.values()),
        damages=(*(damage for found in looked.values() for damage in found.damages), *broken),
        unfinished=_unfinished(about.get(RESULT), looked, writable),
        withdrawn=tuple(filter(None, taken_back)),
    )


def _stage(path: Path) -> Stage:
    """The stage in a folder, with the recipe that it was made by."""
    attributes = Stage(path, "").attributes()
    complete = attributes.get("complete", {})
    return Stage(path, complete.get("recipe") or hash_of(attributes.get("recipe")))


def _is_ours(marker: Path) -> bool:
    return read_json(marker).get("made_by") is not None


def _write_marker(marker: Path, group: Path) -> None:
    """What can be told again of a folder whose marker was lost; a sort that is run there fills in the rest."""
    complete = [path.parent.name for path in group.glob("*/.zattrs") if Stage(path.parent, "").is_complete()]
    with readable_errors(marker):
        write_json(marker, {"stages": {name: {} for name in complete}, "made_by": "yass_dask"}, durable=True)


def _broken_links(
    about: Mapping[str, Any], stages: Mapping[str, Stage], result: Mapping[str, Any] | None
) -> Iterator[Damage]:
    """Stages that are not what the result was made of, or not made of the one before."""
    previous = hash_of(about.get("recording"))
    for name, recipe in (result or {}).get("stages", {}).items():
        attributes = stages[name].attributes() if name in stages else {}
        if "recipe" not in attributes:
            yield Damage(name, "", None, MISSING)
        elif "complete" in attributes and hash_of(attributes["recipe"]) != recipe:
            yield Damage(name, "", None, "it is not what the result was made of")
        elif attributes["recipe"].get("previous") != previous:
            yield Damage(name, "", None, "it was not made of the stage before it")
        previous = recipe


def _broken_files(folder: Path, result: Mapping[str, Any] | None) -> Iterator[Damage]:
    there = checksums_of(folder)
    for name, expected in (result or {}).get("files", {}).items():
        if there.get(name) != expected:
            yield Damage("", name, None, WRONG if name in there else MISSING)


def _unfinished(result: Mapping[str, Any] | None, looked: Mapping[str, Looked], writable: bool) -> str:
    begun = [name for name, found in looked.items() if found.unfinished]
    if not writable and any(found.damages for found in looked.values()):
        return "The folder cannot be written, so nothing was withdrawn: run `yass verify` where it can be."
    if result is None or begun:
        at = f" ({', '.join(begun)} unfinished)" if begun else ""
        return f"The sort has not ended{at}: run it again, it goes on from what is finished."
    return ""
