"""The configuration that all steps read, set once by `set_config`: the only thing here that is global."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask import geometry
from yass_dask.config import Config, load, sort_params
from yass_dask.config.models import Data, Recordings, Resources, Templates
from yass_dask.config.reading import refuse_unknown_waveforms
from yass_dask.errors import InputError
from yass_dask.pipeline import SortParams
from yass_dask.recording import Recording

_log = logging.getLogger("yass_dask")


@dataclass(frozen=True)
class Settings:
    """YASS's CONFIG: the sections of the configuration, and what follows from them. It cannot be changed."""

    config: Config
    output_directory: str

    @property
    def data(self) -> Data:
        """Section data."""
        return self.config.data

    @property
    def resources(self) -> Resources:
        """Section resources."""
        return self.config.resources

    @property
    def recordings(self) -> Recordings:
        """Section recordings."""
        return self.config.recordings

    @property
    def templates(self) -> Templates:
        """Section templates, the defaults where there is none."""
        return self.config.templates or Templates()

    @property
    def path_to_output_directory(self) -> str:
        """Absolute path of the results: within the root folder, unless it was given absolute."""
        return str(self.folder)

    @property
    def folder(self) -> Path:
        """The same as a Path."""
        return self.config.root / Path(self.output_directory).expanduser()

    @cached_property
    def recording(self) -> Recording:
        """The raw recording, lazy."""
        return self.config.recording()

    @property
    def geom(self) -> np.ndarray:
        """(n_channels, 2) positions."""
        return self.recording.probe.positions

    @cached_property
    def neigh_channels(self) -> np.ndarray:
        """(n_channels, n_channels) bool: within spatial_radius of each other."""
        return self.recording.neighbors(self.recordings.spatial_radius)

    @cached_property
    def channel_groups(self) -> list[np.ndarray]:
        """Channels in groups of neighbours, each in one of them."""
        return geometry.make_channel_groups(self.recordings.n_channels, self.neigh_channels, self.geom)

    @cached_property
    def channel_index(self) -> np.ndarray:
        """(n_channels, max_neighbors) neighbours of neighbours by distance, padded with n_channels."""
        return geometry.make_channel_index(self.neigh_channels, self.geom, steps=2)

    @property
    def spike_size(self) -> int:
        """Half the length of a waveform in samples: the waveform has 2 spike_size + 1."""
        return round(self.recordings.spike_size_ms * self.recordings.sampling_rate / 2000)

    @property
    def params(self) -> SortParams:
        """Parameters of the stages: what the configuration means, and its `params` section."""
        return sort_params(self.config.stage_params())


_current: Settings | None = None


def set_config(config: str | Path | Mapping[str, Any], output_dir: str | Path) -> None:
    """Set the configuration that all steps use from now on.

    Parameters
    ----------
    config : path of a YAML file, or a mapping with the same sections
    output_dir : folder for the results, within `data.root_folder` unless absolute

    Raises
    ------
    InputError
        Bad configuration.
    """
    global _current
    loaded = load(config)
    refuse_unknown_waveforms(loaded)
    _current = Settings(loaded, str(output_dir))
    if _current.templates.merge_threshold != Templates().merge_threshold:
        _log.warning("templates.merge_threshold is without effect: see params.templates.duplicate_sd")


def read_config() -> Settings:
    """The configuration that was set.

    Raises
    ------
    InputError
        None was.
    """
    if _current is None:
        raise InputError("no configuration was set: call set_config('config.yaml', 'output folder') first")
    return _current


def reset_config() -> None:
    """Forget the configuration."""
    global _current
    _current = None


@contextlib.contextmanager
def output_in(output_dir: str | Path | None) -> Iterator[None]:
    """Read another output folder from the configuration for a while; None: the same."""
    global _current
    before = read_config()
    _current = before if output_dir is None else Settings(before.config, str(output_dir))
    try:
        yield
    finally:
        _current = before
