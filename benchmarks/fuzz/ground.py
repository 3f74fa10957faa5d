"""What is watched while bad input is handed in: the error, and every file around."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml
from hypothesis.strategies import SearchStrategy

from yass_dask import Sorting
from yass_dask.errors import InputError

INSIDES = re.compile(r"Traceback|object at 0x|<class |<function ")
LEAST_WORDS = 4


class Kind(Protocol):
    """A kind of input; made once, in a folder of its own."""

    def __init__(self, folder: Path) -> None: ...

    def cases(self) -> SearchStrategy[Any]:
        """What may be handed in."""

    def check(self, case: Any) -> bool:
        """Hand it in; whether it was taken. AssertionError, or whatever else comes, is a finding."""


def attempt(call: Callable[[], object]) -> bool:
    """Whether a call takes its input; it may refuse by an InputError that tells something, and by nothing else."""
    try:
        call()
    except InputError as error:
        check_message(str(error))
        return False
    return True


def check_message(message: str) -> None:
    """A message has some words, and none of our insides."""
    assert len(message.split()) >= LEAST_WORDS, f"says too little: {message!r}"
    assert not INSIDES.search(message), f"shows our insides: {message!r}"


def listing(folder: Path, but: Path | None = None) -> dict[str, str]:
    """Path -> what is there, of everything below a folder except below `but`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if but is not None and (path == but or but in path.parents):
            continue
        name = str(path.relative_to(folder))
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


@contextlib.contextmanager
def untouched(folder: Path, but: Path | None = None) -> Iterator[None]:
    """Nothing below a folder changes, except below `but`."""
    before = listing(folder, but)
    yield
    after = listing(folder, but)
    assert after == before, f"touched: {sorted(after.items() ^ before.items())[:4]}"


def opens(folder: Path) -> bool:
    """Whether a folder looks like that of a finished sort."""
    try:
        Sorting.open(folder)
    except InputError:
        return False
    return True


def npy(array: np.ndarray) -> bytes:
    """The bytes of a npy file; one of objects is a pickle."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    """The bytes of a npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def laboratory(folder: Path, n_samples: int = 3000, n_channels: int = 4) -> dict[str, Any]:
    """Write a short noisy recording and its probe; gives the sections of its configuration, which is written too."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(5).normal(0, 20, (n_samples, n_channels)).round().astype(np.int16)
    noise.tofile(folder / "recording.bin")
    np.save(folder / "geometry.npy", np.stack([np.zeros(n_channels), 20.0 * np.arange(n_channels)], axis=1))
    sections = {
        "data": {"root_folder": "./", "recordings": "recording.bin", "geometry": "geometry.npy"},
        "resources": {"max_memory": "200MB", "processes": 1},
        "recordings": {
            "dtype": "int16", "sampling_rate": 30000, "n_channels": n_channels, "spatial_radius": 70,
            "spike_size_ms": 1.5, "order": "samples", "gain_to_uv": 0.2, "offset_bytes": 0, "bad_channels": [1],
            "excluded_periods_s": [[0.01, 0.02]],
        },
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(sections), encoding="utf-8")
    return sections
