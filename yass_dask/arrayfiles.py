"""Arrays in the files of numpy, read at this one place: never as pickles, and what is damaged is told in words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from yass_dask.errors import InputError

_ADDRESS = re.compile(r"<[^<>]* object at 0x[0-9a-f]+>")


def read_npy(path: str | os.PathLike[str], advice: str, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    """The array of a npy file.

    Parameters
    ----------
    advice : what to do where it cannot be read
    mmap_mode : "r" leaves the numbers on the disk

    Raises
    ------
    InputError
        The file is missing, damaged, of another kind, or holds objects, which only a pickle could restore.
    """
    try:
        found = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except Exception as error:  # the header is anybody's text: what numpy raises about it has no end
        raise _refusal(path, error, advice) from None
    if not isinstance(found, np.ndarray):
        found.close()
        raise InputError(f"{path}: holds several arrays (npz) where one is expected (npy); {advice}")
    return found


def read_npz(path: str | os.PathLike[str], advice: str, fields: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of a npz file by name: those of `fields`, or all.

    Raises
    ------
    InputError
        As `read_npy`; also where a field is missing.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            if isinstance(stored, np.ndarray):
                raise ValueError("one array (npy) where several are expected (npz)")
            wanted = list(stored.files if fields is None else fields)
            missing = [name for name in wanted if name not in stored.files]
            if missing:
                raise ValueError(f"no {', '.join(missing)} in it; it holds {', '.join(stored.files) or 'nothing'}")
            return {name: stored[name] for name in wanted}
    except Exception as error:
        raise _refusal(path, error, advice) from None


def _refusal(path: str | os.PathLike[str], error: Exception, advice: str) -> InputError:
    kind = Path(path).suffix.removeprefix(".") or "npy"
    if isinstance(error, FileNotFoundError):
        why = "no such file"
    elif "allow_pickle" in str(error) or "pickled" in str(error):
        why = f"not a {kind} file: damaged, or Python objects (a pickle), which are never loaded"
    elif isinstance(error, OSError) and error.strerror:
        why = error.strerror
    else:
        why = f"not a {kind} file, or damaged: {_ADDRESS.sub('', str(error)) or type(error).__name__}"
    return InputError(f"{path}: cannot be read ({why}); {advice}")
