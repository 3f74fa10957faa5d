"""The output folder: whose it is, which recording's, and what of it may be deleted."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from yass_dask.errors import InputError
from yass_dask.monitor.progress import Progress, SilentProgress
from yass_dask.store import traces, zarrays
from yass_dask.store.disk import read_json, readable_errors, write_json
from yass_dask.store.exports import checksums_of, delete, delete_exports
from yass_dask.store.keep import Keep, Run, Runs
from yass_dask.store.lock import folder_lock
from yass_dask.store.recipe import differences, hash_of, plain
from yass_dask.store.space import check_space, written_bytes
from yass_dask.store.stage import UNSTORED, Stage
from yass_dask.store.table import Table

if TYPE_CHECKING:
    from yass_dask.recording import Recording
    from yass_dask.store.verify import Verified

_log = logging.getLogger("yass_dask")

IfExists = Literal["skip", "overwrite", "abort"]

ZARR = "yass.zarr"
MARKER = "yass.json"
RESULT = "result"
LOCK = "yass.lock"
_MADE_BY = "yass_dask"


class Store:
    """Results of a sort in one folder, each with the recipe that made it.

    Parameters
    ----------
    path : str or Path
        The output folder. It must be new, empty, or made by an earlier sort.
    if_exists : {"skip", "overwrite", "abort"}
        What to do with results that are there: use those whose recipe is the same and compute the rest;
        delete them; or refuse to start.
    store_traces : bool
        False stores no preprocessed traces, the largest of all results: they are made anew whenever they are read.
        The spikes are the same, and later sorts may go on with the other choice.
    """

    def __init__(self, path: str | Path, if_exists: IfExists = "skip", *, store_traces: bool = True) -> None:
        if if_exists not in get_args(IfExists):
            raise InputError(f"if_exists is {if_exists!r}; allowed are {', '.join(get_args(IfExists))}.")
        self.path = Path(path).expanduser().absolute()
        self.if_exists = if_exists
        self.store_traces = store_traces
        self._held = 0

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, stages={self.stages()})"

    @property
    def zarr_path(self) -> Path:
        """The zarr group with one group per stage."""
        return self.path / ZARR

    def stages(self) -> list[str]:
        """Names of the complete stages, in the order in which they were finished."""
        return [name for name in self.timings() if Stage(self.zarr_path / name, "").is_complete()]

    def timings(self) -> dict[str, dict[str, Any]]:
        """For every stage: `seconds` and `peak_bytes` of the run that finished it, its number of `parts`."""
        return dict(self._marker().get("stages", {}))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Claim the folder for this process; InputError where it is not ours or another sort holds it."""
        if self._held:
            self._held += 1
            try:
                yield
            finally:
                self._held -= 1
            return
        self._claim()
        with readable_errors(self.path), contextlib.ExitStack() as stack:
            stack.enter_context(folder_lock(self.path / LOCK))
            self._held = 1
            stack.callback(setattr, self, "_held", 0)
            yield

    def run(
        self, recording: Recording, *, backend: str, seed: int, executor: Runs, progress: Progress | None = None
    ) -> Keep:
        """Begin a sort, or go on with one; call it inside `with store.lock():`.

        Returns
        -------
        Keep
            Call it with a stage's name and its lazy result; it remembers the chain of recipes.

        Raises
        ------
        InputError
            The folder holds another recording's result, or any result with `if_exists="abort"`.
        """
        if not self._held:
            raise RuntimeError("call store.run inside `with store.lock():`")
        identity = plain(recording.identity())
        self._admit(identity)
        with readable_errors(self.path):
            self._sweep()
            kept = {name: value for name, value in self._marker().items() if name != RESULT}
            self._write_marker({**kept, "recording": identity})
            zarrays.make_group(self.zarr_path)
        shown = SilentProgress() if progress is None else progress
        run = Run(
            folder=self.zarr_path,
            block_samples=recording.block_samples,
            duration_s=recording.duration_s,
            backend=backend,
            seed=seed,
            executor=executor,
            progress=shown,
            record=self._record,
            stores_traces=self.store_traces,
        )
        return Keep(run, hash_of(identity))

    def open(self, name: str) -> Any:
        """The result of a complete stage: a Table, or a ZarrSource for traces.

        Raises
        ------
        InputError
            No such stage, not complete, or its traces were deleted.
        """
        attributes = Stage(self.zarr_path / name, "").attributes()
        complete = attributes.get("complete")
        if not complete:
            there = ", ".join(self.stages()) or "none"
            if attributes.get(UNSTORED):
                raise InputError(
                    f"The traces of stage {name!r} in {self.path} were not stored (--recompute-traces), and are needed "
                    "for this; sort again with --store-traces: only they are computed."
                )
            raise InputError(
                f"{self.path} has no complete stage {name!r} (complete: {there}). Run the sort to its end."
            )
        if complete.get("deleted"):
            raise InputError(
                f"The traces of stage {name!r} in {self.path} were deleted (--delete-traces); sort again with --clean."
            )
        if complete.get("traces"):
            from yass_dask.sources import ZarrSource

            return ZarrSource(str(self.zarr_path / name / traces.ARRAY))
        fields = tuple(sorted(complete["arrays"]))
        return Table(str(self.zarr_path / name), hash_of(attributes["recipe"]), fields)

    def recording(self) -> dict[str, Any]:
        """Identity of the recording that was sorted into it; empty where there is none."""
        return dict(self._marker().get("recording") or {})

    def params_of(self, name: str) -> dict[str, Any]:
        """Params of a stage, complete or not, as JSON; empty where there are none."""
        recipe = Stage(self.zarr_path / name, "").attributes().get("recipe", {})
        return dict(recipe.get("params") or {})

    def drop_traces(self) -> None:
        """Delete the traces of complete stages; these stay complete, but reading them is an InputError."""
        for path in self._stage_folders():
            stage = Stage(path, "")
            attributes = stage.attributes()
            if not attributes.get("complete", {}).get("traces"):
                continue
            attributes["complete"]["deleted"] = True
            with readable_errors(path):
                write_json(path / zarrays.ATTRIBUTES_FILE, attributes, durable=True)
                shutil.rmtree(path / traces.ARRAY, ignore_errors=True)
            _log.info("%s: traces deleted", stage.name)

    def clean(self) -> None:
        """Delete every result and export, and nothing that a sort did not write.

        Raises
        ------
        InputError
            The folder has no marker of ours, or another sort is writing to it.
        """
        if not self.path.exists():
            return
        if any(self._entries()) and not self._is_ours():
            raise InputError(f"{self.path} was not made by yass ({MARKER} is missing), so --clean does not touch it.")
        with self.lock(), readable_errors(self.path):
            self._write_marker({})
            delete(self.path / ZARR)
            delete_exports(self.path)

    def check_space(self, needed_bytes: int, apart: Iterable[str] = ()) -> int:
        """Check that what a sort needs, less what it has written already (`apart` from some stages, which are not part
        of that), is free; return the free bytes.

        Raises
        ------
        InputError
            Not enough; the message tells both numbers.
        """
        return check_space(self.path, needed_bytes, written_bytes(self.zarr_path, self._stage_folders(), apart))

    def seal(self, recipes: Mapping[str, str]) -> None:
        """Remember what a sort that has ended was made of (stage -> hash of its recipe), and its files' checksums."""
        result = {"stages": dict(recipes), "files": checksums_of(self.path)}
        self._write_marker({**self._marker(), RESULT: result})

    def verify(self) -> Verified:
        """Compute all checksums anew; marks of what is damaged are withdrawn, so that the next sort makes it again.

        InputError where it is no output folder, or a sort is writing to it.
        """
        from yass_dask.store.verify import verify

        return verify(self)

    def _claim(self) -> None:
        """Make the folder ours if it is new or empty; refuse any other that lacks our marker."""
        with readable_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            if self._is_ours():
                return
            if (self.path / MARKER).exists() and self.zarr_path.exists():
                raise InputError(f"{self.path / MARKER} is damaged; `yass verify {self.path}` mends it.")
            stranger = next(self._entries(), None)
            if stranger is not None:
                raise InputError(
                    f"The output folder {self.path} is not empty and was not made by yass "
                    f"(it holds {stranger!r}). Choose a new or an empty folder."
                )
            self._write_marker({})

    def _admit(self, identity: Any) -> None:
        """Let a recording in, or refuse it because of what the folder holds."""
        before = self._marker().get("recording")
        if before is None:
            return
        if self.if_exists == "overwrite":
            with readable_errors(self.path):
                self._write_marker({})
                delete(self.zarr_path)
        elif self.if_exists == "abort":
            raise InputError(f"{self.path} holds results already, and if_exists is 'abort'.")
        elif _source(before) != _source(identity):
            changed = "; ".join(differences(_source(before), _source(identity)))
            raise InputError(
                f"The output folder {self.path} holds the result of another recording ({changed}). "
                "Choose another folder, or start over with --clean."
            )

    def _entries(self) -> Iterator[str]:
        """Names in the folder, without the temporary files that a killed process leaves."""
        return (entry.name for entry in self.path.iterdir() if not entry.match(".*.tmp"))

    def _stage_folders(self) -> list[Path]:
        return sorted(path.parent for path in self.zarr_path.glob(f"*/{zarrays.ATTRIBUTES_FILE}"))

    def _sweep(self) -> None:
        for pattern in (".*.tmp", f"{ZARR}/.*.tmp", f"{ZARR}/*/.*.tmp", f"{ZARR}/*/*/.*.tmp"):
            for path in self.path.glob(pattern):
                delete(path)

    def _is_ours(self) -> bool:
        return self._marker().get("made_by") == _MADE_BY

    def _marker(self) -> dict[str, Any]:
        return read_json(self.path / MARKER)

    def _write_marker(self, content: dict[str, Any]) -> None:
        write_json(self.path / MARKER, {**content, "made_by": _MADE_BY}, durable=True)

    def _record(self, name: str, timing: dict[str, Any]) -> None:
        content = self._marker()
        write = {**content.get("stages", {})}
        write.pop(name, None)
        self._write_marker({**content, "stages": {**write, name: timing}})


def store_of(path: Path | None) -> Store | None:
    """Store of the sort whose sorting lies in a folder: that one or, of a sorting that was curated, the one above."""
    found = [folder for folder in ((path, path.parent) if path else ()) if (folder / MARKER).is_file()]
    return Store(found[0]) if found else None


def _source(identity: Any) -> Any:
    """The part of an identity that says which recording it is; the rest only changes what is computed."""
    return identity.get("source", identity) if isinstance(identity, dict) else identity
