"""YASS's functions that make training data; those that take a configuration take that of `read_config` too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.augment import make
from yass_dask.augment.make import spikes, training_data_detect, training_data_triage
from yass_dask.compat.settings import Settings
from yass_dask.config import Config

__all__ = ["load_templates", "spikes", "training_data", "training_data_detect", "training_data_triage"]


def load_templates(
    data_folder: str | Path, spike_train: np.ndarray, CONFIG: Settings | Config, chosen_templates_indexes: Sequence[int]
) -> np.ndarray:
    """Templates for training, see `yass_dask.augment.load_templates`; a relative `data_folder` is in root_folder."""
    config = _config(CONFIG)
    templates: np.ndarray = make.load_templates(
        config.root / data_folder, spike_train, config, chosen_templates_indexes
    )
    return templates


def training_data(
    CONFIG: Settings | Config, templates_uncropped: np.ndarray, min_amp: float, max_amp: float, n_isolated_spikes: int,
    path_to_standarized: str | Path, *args: Any, **kwargs: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """Training sets, see `yass_dask.augment.training_data`; a relative `path_to_standarized` is in root_folder."""
    config = _config(CONFIG)
    folder = config.root / path_to_standarized
    sets: tuple[Any, ...] = make.training_data(
        config, templates_uncropped, min_amp, max_amp, n_isolated_spikes, folder, *args, **kwargs
    )
    return sets


def _config(given: Settings | Config) -> Config:
    return given.config if isinstance(given, Settings) else given
