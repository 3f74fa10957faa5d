"""Whether a stage is what was written; marks of what is not are withdrawn, so that a sort makes it again."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.sources.checksums import MISSING, WRONG
from yass_dask.store import parts, traces, zarrays
from yass_dask.store.recipe import hash_of
from yass_dask.store.stage import UNSTORED, Stage

_READERS = 4
_UNREADABLE = "its mark cannot be read"
OLD = "it was made before checksums were kept; sort again with --clean to have them"


@dataclass(frozen=True)
class Damage:
    """What is not as it was written."""

    stage: str
    """Empty for the files of the result."""
    array: str
    """Or the file's name; empty where it is the stage as a whole."""
    chunk: int | None
    why: str

    def __str__(self) -> str:
        place = [self.stage, self.array, "" if self.chunk is None else f"chunk {self.chunk}"]
        return f"{', '.join(word for word in place if word)}: {self.why}"


@dataclass
class Looked:
    """What was found in one stage."""

    n_chunks: int = 0
    n_bytes: int = 0
    damages: list[Damage] = field(default_factory=list)
    unfinished: bool = False

    def add(self, *place: Any) -> None:
        self.damages.append(Damage(*place))


def look_at(stage: Stage) -> Looked:
    """Compute the checksums of all that a stage has stored."""
    looked, attributes = Looked(), stage.attributes()
    complete = attributes.get("complete")
    if "recipe" not in attributes:
        looked.add(stage.name, "", None, _UNREADABLE)
    elif UNSTORED in attributes:
        pass  # its traces were made whenever they were read
    elif complete is None:
        looked.unfinished = True
        _look_at_parts(stage, looked)
    elif "checksums" not in complete:
        looked.add(stage.name, "", None, OLD)
    elif hash_of(attributes["recipe"]) != complete["recipe"]:
        looked.add(stage.name, "", None, "its recipe is not the one it was made by")
    elif not complete.get("deleted"):
        for name, checksum in complete["checksums"].items():
            _look_at_array(stage, name, _layout(complete, name), checksum, looked)
    return looked


def _layout(complete: Mapping[str, Any], name: str) -> zarrays.Layout:
    shape, chunk_rows, dtype = complete["layouts"][name]
    return zarrays.Layout(tuple(shape), chunk_rows, dtype)


def _look_at_array(stage: Stage, name: str, layout: zarrays.Layout, checksum: int, looked: Looked) -> None:
    folder = stage.path / name
    expected = zarrays.read_checksums(folder, checksum)
    if expected is None or len(expected) != layout.n_chunks + 1:
        looked.add(stage.name, name, None, "its file of checksums is missing or damaged")
        return
    files = [folder / zarrays.ARRAY_FILE, *(zarrays.chunk_file(folder, layout, i) for i in range(layout.n_chunks))]
    for row, (size, why) in enumerate(_checked(files, expected)):
        looked.n_bytes += size
        looked.n_chunks += row > 0
        if why and row:
            looked.add(stage.name, name, row - 1, why)
        elif why:
            looked.add(stage.name, name, None, f"{zarrays.ARRAY_FILE}: {why}")


def _checked(files: Sequence[Path], expected: Iterable[int]) -> Iterable[tuple[int, str]]:
    """Bytes of each file, and what is wrong with it."""

    def check(file: Path, checksum: int) -> tuple[int, str]:
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return 0, MISSING
        except OSError as error:
            return 0, f"it cannot be read ({error.strerror})"
        return len(data), "" if zlib.crc32(data) == checksum else WRONG

    with ThreadPoolExecutor(_READERS) as readers:
        yield from readers.map(check, files, expected)


def _look_at_parts(stage: Stage, looked: Looked) -> None:
    """Of an unfinished stage: its part files, and the chunks that its marks tell of."""
    for path in sorted(stage.scratch.glob(f"*{parts.SUFFIX}")):
        looked.n_chunks += 1
        looked.n_bytes += path.stat().st_size
        if not parts.is_sound(path):
            looked.add(stage.name, path.name, None, WRONG)
    layout = zarrays.read_layout(stage.path / traces.ARRAY)
    if layout is not None:
        n_marked, sound = traces.marked(stage, layout)
        looked.n_chunks += n_marked
        if len(sound) < n_marked:
            looked.add(stage.name, traces.ARRAY, None, f"{n_marked - len(sound)} finished chunks are damaged")


def withdraw(stage: Stage, damages: Sequence[Damage]) -> str:
    """Take back what a stage says of its damaged chunks, and of nothing else; say what that was.

    Traces keep their sound chunks, tables those parts that have no row in a damaged one. What was summed over all
    parts, and what no checksum tells of any more, is taken back as a whole.
    """
    complete = stage.attributes().get("complete")
    if complete is None or not damages or any(damage.why == OLD for damage in damages):
        return ""
    chunks: dict[str, set[int]] = {name: set() for name in complete.get("checksums", ())}
    for damage in damages:
        if damage.chunk is not None:
            chunks[damage.array].add(damage.chunk)
        elif not _mended(stage, damage, complete):
            stage.empty()
            return f"{stage.name}: all of it"
    if not any(chunks.values()):
        return f"{stage.name}: nothing, its metadata could be restored"
    if "rows" not in complete and not complete.get("traces"):
        stage.empty()
        return f"{stage.name}: all of it, as it sums up all chunks"
    stage.scratch.mkdir(exist_ok=True)
    cut = _withdraw_traces if complete.get("traces") else _withdraw_parts
    return f"{stage.name}: {cut(stage, complete, chunks)}"


def _mended(stage: Stage, damage: Damage, complete: Mapping[str, Any]) -> bool:
    """Whether only an array's metadata were damaged, which the stage's mark can restore."""
    if not damage.array or zarrays.ARRAY_FILE not in damage.why:
        return False
    folder = stage.path / damage.array
    zarrays.put_metadata(folder, _layout(complete, damage.array))
    expected = zarrays.read_checksums(folder, complete["checksums"][damage.array])
    return expected is not None and zlib.crc32((folder / zarrays.ARRAY_FILE).read_bytes()) == expected[0]


def _withdraw_traces(stage: Stage, complete: Mapping[str, Any], damaged: Mapping[str, set[int]]) -> str:
    folder, lost = stage.path / traces.ARRAY, damaged[traces.ARRAY]
    expected = zarrays.read_checksums(folder, complete["checksums"][traces.ARRAY])
    assert expected is not None  # or the array would be damaged as a whole
    traces.mark(stage, {block: int(value) for block, value in enumerate(expected[1:]) if block not in lost})
    _reopen(stage, [folder])
    return f"{len(lost)} of {len(expected) - 1} blocks"


def _withdraw_parts(stage: Stage, complete: Mapping[str, Any], damaged: Mapping[str, set[int]]) -> str:
    """Cut the arrays into the parts that they were joined of, without those that have rows in a damaged chunk."""
    names, folders = complete["parts"], {name: stage.path / name for name in damaged}
    edges = {name: np.concatenate([[0], np.cumsum(complete["rows"][name], dtype=np.int64)]) for name in damaged}
    sizes = {name: _layout(complete, name).chunk_rows for name in damaged}

    def is_sound(part: int) -> bool:
        return all(
            not chunks & set(range(edges[name][part] // sizes[name], -(-edges[name][part + 1] // sizes[name])))
            for name, chunks in damaged.items()
        )

    sound = [part for part in range(len(names)) if is_sound(part)]
    arrays = {name: zarrays.open_array(folder) for name, folder in folders.items()}
    for part in sound:
        rows = {name: np.asarray(array[edges[name][part] : edges[name][part + 1]]) for name, array in arrays.items()}
        parts.write_part(rows, stage, names[part])
    _reopen(stage, folders.values())
    return f"{len(names) - len(sound)} of {len(names)} parts"


def _reopen(stage: Stage, folders: Iterable[Path]) -> None:
    stage.reopen()
    for folder in folders:
        (folder / zarrays.CHECKSUMS_FILE).unlink(missing_ok=True)
