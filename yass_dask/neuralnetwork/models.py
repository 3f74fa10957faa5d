"""Which networks a sort takes: a folder that `yass train` wrote, or those of the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yass_dask.errors import InputError
from yass_dask.neuralnetwork import files
from yass_dask.neuralnetwork.files import Card

SHIPPED = Path(__file__).parent / "weights"


def chosen_model(model: str | Path | None, kind: str) -> tuple[Any, Card]:
    """Weights and card of a kind (detect, triage or denoise) of network.

    Parameters
    ----------
    model : folder with detect.npz, triage.npz, denoise.npz and their cards; None: the package's

    Raises
    ------
    InputError
        There is no such folder or file, or it is damaged.
    """
    folder = SHIPPED if model is None else Path(model).expanduser()
    if not folder.is_dir():
        problem = "a file, not a folder" if folder.exists() else "no such folder"
        raise InputError(f"model {folder}: {problem}; give a folder that `yass train` has written, or leave it out")
    return files.load(folder / kind, kind)
