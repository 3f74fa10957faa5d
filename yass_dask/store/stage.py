"""The folder of one stage: its recipe, its mark "complete", its scratch for unfinished work.

A stage is a zarr group. Its attributes file holds the recipe from the first moment and the mark "complete"
from the last one, both replaced in one step; `.unfinished` holds part files and marks until then.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yass_dask.store import zarrays
from yass_dask.store.disk import read_json, write_json
from yass_dask.store.recipe import Recipe, hash_of

UNSTORED = "unstored"


def backend_of(folder: Path) -> str | None:
    """Backend by which the stage in a folder was begun; None where there is none."""
    found: str | None = read_json(folder / zarrays.ATTRIBUTES_FILE).get("recipe", {}).get("backend")
    return found


@dataclass(frozen=True)
class Stage:
    """A stage's folder together with the recipe it is being made by; tasks carry it."""

    path: Path
    recipe: str
    """Hash of the recipe."""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def scratch(self) -> Path:
        return self.path / ".unfinished"

    def attributes(self) -> dict[str, Any]:
        return read_json(self.path / zarrays.ATTRIBUTES_FILE)

    def check(self) -> None:
        """Refuse to write for a sort that is over: a cluster may still run tasks of a client that died."""
        found = self.attributes().get("recipe")
        if found is None or hash_of(found) != self.recipe:
            raise RuntimeError(f"stage {self.name} in {self.path} was started again with another recipe")

    def begin(self, recipe: Recipe) -> None:
        """Make the folder ready to compute: emptied where it holds another recipe's work."""
        found = self.attributes()
        if found.get("recipe") != recipe or found.keys() & {"complete", UNSTORED}:
            self.empty()
            zarrays.make_group(self.path)
            write_json(self.path / zarrays.ATTRIBUTES_FILE, {"recipe": recipe})
        self.scratch.mkdir(exist_ok=True)

    def leave_unstored(self, recipe: Recipe) -> None:
        """Note that a sort made these traces when it read them; what lay here is deleted, unless it says so already."""
        if self.attributes() != {"recipe": recipe, UNSTORED: True}:
            self.empty()
            zarrays.make_group(self.path)
            write_json(self.path / zarrays.ATTRIBUTES_FILE, {"recipe": recipe, UNSTORED: True})

    def empty(self) -> None:
        """Delete everything; the recipe goes first, so that a kill half-way leaves nothing to believe in."""
        (self.path / zarrays.ATTRIBUTES_FILE).unlink(missing_ok=True)
        self._drop(self.path)

    def is_complete(self) -> bool:
        return "complete" in self.attributes()

    def is_whole(self) -> bool:
        """Whether the stage is complete and its arrays still have the files and bytes they had then."""
        complete = self.attributes().get("complete")
        if not complete:
            return False
        return bool(complete.get("deleted")) or complete["arrays"] == self._footprints(complete["arrays"])

    def complete(self, checksums: Mapping[str, int], **record: Any) -> dict[str, Any]:
        """Write the last mark, then drop the scratch.

        Parameters
        ----------
        checksums : array's name -> checksum of its checksum file
        """
        known = {name: zarrays.read_layout(self.path / name) for name in checksums}
        complete = {
            **record,
            "recipe": self.recipe,
            "arrays": self._footprints(checksums),
            "checksums": dict(checksums),
            "layouts": {
                name: [layout.shape, layout.chunk_rows, layout.dtype] for name, layout in known.items() if layout
            },
        }
        content = {**self.attributes(), "complete": complete}
        write_json(self.path / zarrays.ATTRIBUTES_FILE, content, durable=True)
        self.tidy()
        return complete

    def reopen(self) -> None:
        """Take the last mark back; what the scratch holds counts as finished."""
        content = {name: value for name, value in self.attributes().items() if name != "complete"}
        write_json(self.path / zarrays.ATTRIBUTES_FILE, content, durable=True)

    def tidy(self) -> None:
        self._drop(self.scratch)

    def _drop(self, folder: Path) -> None:
        """Delete a folder, moved away first: a cluster may still run tasks of a client that died, which write there."""
        away = self.path.parent / f".{uuid.uuid4().hex}.tmp"
        with contextlib.suppress(FileNotFoundError):
            folder.rename(away)
            shutil.rmtree(away, ignore_errors=True)  # what is left is swept by the next sort

    def _footprints(self, names: Mapping[str, Any]) -> dict[str, list[int]]:
        return {name: list(zarrays.footprint(self.path / name)) for name in names}
