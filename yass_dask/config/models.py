"""The sections of the configuration file as frozen models; the text under a field is its documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from yass_dask.config import stage_params, text
from yass_dask.config.sizes import parse_size

if TYPE_CHECKING:
    from yass_dask.recording import Recording


def _listed(value: Any) -> Any:
    """One value is a list of one; lists become tuples, so that the models stay frozen all through."""
    if isinstance(value, list | tuple):
        return tuple(_listed(item) if isinstance(item, list) else item for item in value)
    return value if value is None else (value,)


def _several(value: Any) -> Any:
    if value is not None and not isinstance(value, list | tuple):
        raise ValueError("must be a list")
    return _listed(value)


def _n_processes(value: Any) -> Any:
    if value == "max":
        from yass_dask.runtime import available_cores

        return available_cores()
    if isinstance(value, str):
        raise ValueError("must be 'max' or a whole number of at least 1")
    return value


def _real_dtype(name: str) -> str:
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, SyntaxError):
        raise ValueError("not a NumPy dtype; use a name such as int16, uint16, int32 or float32") from None
    if dtype.kind not in "iuf":
        raise ValueError("traces are real numbers: use an integer or floating dtype such as int16 or float32")
    return name


def _scheduler(name: str) -> str:
    if "://" in name and "@" in name:
        raise ValueError("a scheduler's address holds no user or password; see docs/security.md for TLS")
    if name in ("threads", "sync", "local", "slurm") or "://" in name or name.endswith(".json"):
        return name
    raise ValueError(
        "must be threads, sync, local, slurm, the address of a scheduler such as tcp://host:8786, or its file (.json)"
    )


def _quoted(value: Any) -> Any:
    if isinstance(value, int):
        raise ValueError('must be in quotes, such as "12:00:00": without them YAML reads a number')
    return value


def _walltime(text: str) -> str:
    if re.fullmatch(r"\d+|(\d+-)?\d+:\d+(:\d+)?|\d+-\d+", text):
        return text
    raise ValueError("must be minutes, hours:minutes:seconds or days-hours:minutes:seconds, such as 12:00:00")


Size = Annotated[int, BeforeValidator(parse_size)]
Name = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
Seconds = Annotated[float, Field(ge=0)]
Gains = tuple[Positive, ...] | None
Periods = tuple[tuple[Seconds, Seconds], ...]


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Data(_Section):
    """Where the input lies."""

    root_folder: Name
    """project's folder, where inputs lie and results go; if relative, to the configuration file's folder"""
    recordings: Annotated[tuple[Name, ...], BeforeValidator(_listed), Field(min_length=1)]
    """binary file, or list of files that follow each other in time, in the root folder"""
    geometry: Name
    """contact positions in um: txt (one x y pair per line), npy (n_channels, 2) or probeinterface json"""


class Resources(_Section):
    """What a sort may use of the machine; never changes the result."""

    max_memory: Size
    """most bytes of arrays alive in one task"""
    max_memory_gpu: Size = 1024**3
    """most bytes of arrays alive in one task on a GPU"""
    processes: Annotated[int, BeforeValidator(_n_processes), Field(ge=1, validate_default=True)] = "max"  # type: ignore[assignment]
    """number of workers, or max for one per core"""
    memory_limit: Size | None = None
    """most bytes that the whole sort, all its processes together, may take"""
    store_traces: bool = True
    """store the preprocessed traces; if not, they are made anew whenever they are read: much less disk, more time"""


class Recordings(_Section):
    """What the recording's files hold."""

    dtype: Annotated[str, AfterValidator(_real_dtype)]
    """precision of the recording, a real NumPy dtype"""
    sampling_rate: Positive
    """samples per second (Hz)"""
    n_channels: Annotated[int, Field(ge=1)]
    """number of channels in the file"""
    spatial_radius: Positive
    """channels up to this distance are neighbours, in the geometry's unit (um)"""
    spike_size_ms: Positive
    """temporal length of a waveform in ms"""
    order: Literal["channels", "samples"]
    """samples: all channels of one sample follow each other; channels: all samples of one channel do"""
    gain_to_uv: Annotated[Gains, BeforeValidator(_listed)] = None
    """uV per count: one number, or one for each channel"""
    offset_bytes: Annotated[int, Field(ge=0)] = 0
    """length of the header before the first sample of each file"""
    bad_channels: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_several)] = ()
    """channels to mask, counted from 0"""
    excluded_periods_s: Annotated[Periods, BeforeValidator(_several)] = ()
    """list of [start, stop] in seconds to leave out, 0 <= start < stop"""

    @field_validator("gain_to_uv")
    @classmethod
    def _one_gain_or_all(cls, gains: Gains, info: ValidationInfo) -> Gains:
        n_channels = info.data.get("n_channels")
        if gains is not None and n_channels is not None and len(gains) not in (1, n_channels):
            raise ValueError(f"{len(gains)} gains for {n_channels} channels; give one, or {n_channels}")
        return gains

    @field_validator("bad_channels")
    @classmethod
    def _channels_exist(cls, channels: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        n_channels = info.data.get("n_channels")
        if n_channels is not None and channels and max(channels) >= n_channels:
            raise ValueError(f"channel {max(channels)} is not in 0 ... {n_channels - 1}")
        return tuple(sorted(set(channels)))

    @field_validator("excluded_periods_s")
    @classmethod
    def _periods_have_length(cls, periods: Periods) -> Periods:
        for start, stop in periods:
            if start >= stop:
                raise ValueError(f"the period {start:g} ... {stop:g} s ends before it begins")
        return tuple(sorted(periods))


class Cluster(_Section):
    """Where the sort runs, unless the command line says otherwise."""

    scheduler: Annotated[str, AfterValidator(_scheduler)] = "threads"
    """threads, sync, local (one process per worker), slurm (batch jobs), or address or file of a Dask scheduler"""
    workers: Annotated[int, Field(ge=1)] | None = None
    """number of workers, on slurm of each job; resources.processes where it is not given"""
    jobs: Annotated[int, Field(ge=1)] = 1
    """slurm: number of batch jobs"""
    queue: Name | None = None
    """slurm: partition"""
    account: Name | None = None
    """slurm: account"""
    walltime: Annotated[str, BeforeValidator(_quoted), AfterValidator(_walltime)] = "1-00:00:00"
    """slurm: longest time of a job"""
    gpus_per_job: Annotated[int, Field(ge=0)] = 0
    """slurm: GPUs of each job; it then has as many workers"""
    memory_per_job: Size | None = None
    """slurm: memory of each job; a quarter more than the plan's where it is not given"""
    directives: Annotated[tuple[Name, ...], BeforeValidator(_listed)] = ()
    """slurm: more options of sbatch, such as --constraint=avx512"""
    prologue: Annotated[tuple[Name, ...], BeforeValidator(_listed)] = ()
    """slurm: lines of shell before the workers start, such as module load cuda"""


class Templates(_Section):
    """YASS's undocumented section; its API alone reads it."""

    save_results: bool = True
    """write the templates' files"""
    if_file_exists: Literal["overwrite", "abort", "skip"] = "skip"
    """what to do where they are there"""
    max_shift: Annotated[int, Field(ge=0)] = 3
    """samples by which a template may be moved to be aligned"""
    merge_threshold: tuple[float, float] = (0.85, 0.8)
    """without effect: templates are joined by their distance in noise, see params.templates.duplicate_sd"""

    _tuple = field_validator("merge_threshold", mode="before")(_listed)


class Config(_Section):
    """A checked configuration.

    Attributes
    ----------
    data, resources, recordings : the sections of the YASS configuration file
    templates : YASS's section of that name, or None
    cluster : where to run, or None
    params : parameters of the stages as given, already checked against `SortParams`
    """

    data: Data
    """where the input lies"""
    resources: Resources
    """what a sort may use of the machine"""
    recordings: Recordings
    """what the recording's files hold"""
    cluster: Cluster | None = None
    """where the sort runs"""
    templates: Templates | None = None
    """what YASS's API does with the templates"""
    params: dict[str, Any] = Field(default_factory=dict)
    """parameters of the stages, a mapping for each stage"""

    @property
    def root(self) -> Path:
        """Absolute path of the root folder."""
        return Path(self.data.root_folder)

    @property
    def recording_paths(self) -> list[Path]:
        """Absolute paths of the recording's files, in their order in time."""
        return [self.root / name for name in self.data.recordings]

    @property
    def geometry_path(self) -> Path:
        """Absolute path of the probe's file."""
        return self.root / self.data.geometry

    def recording(self) -> Recording:
        """Open the recording: nothing is read but the sizes of the files and the probe."""
        from yass_dask.config.files import open_recording

        return open_recording(self)

    def stage_params(self) -> dict[str, Any]:
        """What the recordings section means for the stages, and over it the `params` section."""
        own = stage_params.of_recordings(self.recordings.spatial_radius, self.recordings.spike_size_ms)
        return stage_params.layered(own, self.params)

    def with_params(self, params: dict[str, Any]) -> Config:
        """Copy with another `params` section, which must have been checked."""
        return self.model_copy(update={"params": params})

    def dump(self) -> str:
        """YAML text of the configuration as resolved: absolute root, bytes, defaults. It loads again."""
        return text.dump(self.model_dump(mode="json", exclude_none=True))
