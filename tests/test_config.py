"""The configuration file: what is documented loads, and every bad input is told in words."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from yass_dask import config
from yass_dask.config.text import parse
from yass_dask.errors import InputError

# As in the documentation, down to the dash.
DOCUMENTED = """\
########################################################
# YASS configuration example (all sections and values) #
########################################################

data:
  # project's root folder, data will be loaded and saved here
  # can be an absolute or relative path
  root_folder: data/retina/
  # recordings filename (must be a binary file), details about the recordings
  # are specified in the recordings section
  recordings: data.bin
  # channel geometry filename , supports txt (one x, y pair per line,
  # separated by spaces) or a npy file with shape (n_channels, 2),
  # where every row contains a x, y pair. see yass.geometry.parse for details
  geometry: geometry.npy

resources:
  # maximum memory per batch allowed (only relevant for preprocess
  # and detection step, which perform batch processing)
  max_memory: 200MB
  # maximum memory per batch allowed (only relevant for detection step
  # which uses tensorflow GPU is available)
  max_memory_gpu: 1GB
  # number of processes to use for operations that support parallel execution,
  # 'max' will use all cores, if you as an int, it will use that many cores
  processes: max

recordings:
  # precision of the recording – must be a valid numpy dtype
  dtype: int16
  # recording rate (in Hz)
  sampling_rate: 20000
  # number of channels
  n_channels: 49
  # channels spatial radius to consider them neighbors, see
  # yass.geometry.find_channel_neighbors for details
  spatial_radius: 70
  # temporal length of waveforms in ms
  spike_size_ms: 1.5
  # recordings order, one of ('channels', 'samples'). In a dataset with k
  # observations per channel and j channels: 'channels' means first k
  # contiguous observations come from channel 0, then channel 1, and so on.
  # 'sample' means first j contiguous data are the first observations from
  # all channels, then the second observations from all channels and so on
  order: samples
"""  # noqa: RUF001

N_CHANNELS = 4


def write_files(folder: Path, n_channels: int = N_CHANNELS, n_samples: int = 100, dtype: str = "int16") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.arange(n_samples * n_channels).astype(dtype).tofile(folder / "data.bin")
    np.save(folder / "geometry.npy", 20.0 * np.arange(2 * n_channels).reshape(n_channels, 2))


@pytest.fixture
def raw(tmp_path: Path) -> dict[str, Any]:
    """A good configuration as a mapping, its files in tmp_path."""
    write_files(tmp_path)
    return {
        "data": {"root_folder": str(tmp_path), "recordings": "data.bin", "geometry": "geometry.npy"},
        "resources": {"max_memory": "200MB"},
        "recordings": {
            "dtype": "int16",
            "sampling_rate": 100,
            "n_channels": N_CHANNELS,
            "spatial_radius": 70,
            "spike_size_ms": 1.5,
            "order": "samples",
        },
    }


class DetectStub(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    threshold_sd: float = 5.0
    """threshold in standard deviations"""
    sign: str = "negative"
    """which extrema count"""


class SortParamsStub(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    detect: DetectStub = DetectStub()


@pytest.fixture
def stub_params(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small SortParams, so that these tests do not move with the science."""
    module = types.ModuleType("yass_dask.pipeline")
    module.SortParams = SortParamsStub  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "yass_dask.pipeline", module)


def error_of(raw: Any) -> str:
    with pytest.raises(InputError) as caught:
        config.load(raw)
    return str(caught.value)


def line_of(raw: Any, key: str) -> str:
    """The only line of the error; it is about `key`."""
    lines = error_of(raw).splitlines()[1:]
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"  - {key}: ")
    return lines[0]


@pytest.mark.coverage_row("A1.1", "A1.2", "A1.4", "A1.5", "A1.8")
def test_documented_file_loads(tmp_path: Path) -> None:
    write_files(tmp_path / "data/retina", n_channels=49)
    (tmp_path / "config.yaml").write_text(DOCUMENTED, encoding="utf-8")
    loaded = config.load(tmp_path / "config.yaml")
    assert loaded.root == tmp_path / "data/retina"
    assert loaded.data.recordings == ("data.bin",)
    assert loaded.recording_paths == [tmp_path / "data/retina/data.bin"]
    assert loaded.geometry_path == tmp_path / "data/retina/geometry.npy"
    assert loaded.resources.max_memory == 200 * 1024**2
    assert loaded.resources.max_memory_gpu == 1024**3
    assert loaded.resources.processes >= 1
    assert loaded.resources.memory_limit is None
    assert loaded.recordings.dtype == "int16"
    assert loaded.recordings.sampling_rate == 20000
    assert loaded.recordings.n_channels == 49
    assert loaded.recordings.spatial_radius == 70
    assert loaded.recordings.spike_size_ms == 1.5
    assert loaded.recordings.order == "samples"
    assert loaded.cluster is None
    assert loaded.params == {}


@pytest.mark.coverage_row("A1.1")
def test_root_is_relative_to_the_file_not_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "project/data/retina", n_channels=49)
    (tmp_path / "project/config.yaml").write_text(DOCUMENTED, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert config.load("project/config.yaml").root == tmp_path / "project/data/retina"


@pytest.mark.coverage_row("A1.16")
def test_root_of_a_mapping_is_relative_to_the_working_directory(
    raw: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    raw["data"]["root_folder"] = "./here/"
    assert config.load(raw).root == tmp_path / "here"


def test_mapping_is_not_changed(raw: dict[str, Any]) -> None:
    before = yaml.safe_dump(raw)
    config.load(raw)
    assert yaml.safe_dump(raw) == before


@pytest.mark.coverage_row("A1.6")
def test_max_processes_are_the_cores(raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 5})
    assert config.load(raw).resources.processes == 3
    raw["resources"]["processes"] = "max"
    assert config.load(raw).resources.processes == 3
    raw["resources"]["processes"] = 7
    assert config.load(raw).resources.processes == 7


def test_optional_keys(raw: dict[str, Any]) -> None:
    raw["resources"]["memory_limit"] = "1.5GB"
    raw["recordings"] |= {
        "gain_to_uv": 0.195,
        "bad_channels": [3, 1, 3],
        "excluded_periods_s": [[0.5, 0.75], [0, 0.25]],
    }
    raw["cluster"] = {"scheduler": "tcp://10.0.0.1:8786", "workers": 4}
    loaded = config.load(raw)
    assert loaded.resources.memory_limit == 3 * 1024**3 // 2
    assert loaded.recordings.gain_to_uv == (0.195,)
    assert loaded.recordings.bad_channels == (1, 3)
    assert loaded.recordings.excluded_periods_s == ((0, 0.25), (0.5, 0.75))
    assert loaded.cluster is not None
    assert loaded.cluster.scheduler == "tcp://10.0.0.1:8786"
    assert loaded.cluster.workers == 4


def test_numpy_values_and_paths_in_a_mapping(raw: dict[str, Any], tmp_path: Path) -> None:
    raw["data"]["root_folder"] = tmp_path
    raw["recordings"] |= {
        "n_channels": np.int64(N_CHANNELS),
        "dtype": np.dtype("int16"),
        "gain_to_uv": np.full(N_CHANNELS, 0.5),
        "bad_channels": (np.int64(2),),
    }
    loaded = config.load(raw)
    assert loaded.recordings.n_channels == N_CHANNELS
    assert loaded.recordings.gain_to_uv == (0.5,) * N_CHANNELS
    assert loaded.recordings.bad_channels == (2,)


@pytest.mark.coverage_row("A1.7")
@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32", "float64", "<i2", ">i2"])
def test_any_real_dtype(raw: dict[str, Any], tmp_path: Path, dtype: str) -> None:
    write_files(tmp_path, dtype=dtype)
    raw["recordings"]["dtype"] = dtype
    assert config.load(raw).recordings.dtype == dtype


def test_nothing_can_be_assigned(raw: dict[str, Any]) -> None:
    loaded = config.load(raw)
    with pytest.raises(ValueError, match="frozen"):
        loaded.recordings.n_channels = 3
    with pytest.raises(ValueError, match="frozen"):
        loaded.params = {}


def test_dump_loads_again(raw: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw["recordings"] |= {"bad_channels": [1], "excluded_periods_s": [[0.25, 0.5]], "gain_to_uv": 0.195}
    raw["cluster"] = {"scheduler": "sync"}
    loaded = config.load(raw)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/config.yaml").write_text(loaded.dump(), encoding="utf-8")
    monkeypatch.chdir("/")
    assert config.load(tmp_path / "elsewhere/config.yaml") == loaded


# Recordings


def test_recording_has_what_the_file_says(raw: dict[str, Any]) -> None:
    raw["recordings"] |= {"gain_to_uv": 0.5, "bad_channels": [2]}
    recording = config.load(raw).recording()
    assert (recording.n_samples, recording.n_channels) == (100, N_CHANNELS)
    assert recording.sampling_rate == 100
    np.testing.assert_array_equal(recording.gain_to_uv, np.full(N_CHANNELS, 0.5))
    assert tuple(recording.bad_channels) == (2,)
    np.testing.assert_array_equal(recording.source.read(0, 2), np.arange(8).reshape(2, 4))


def test_several_files_follow_each_other(raw: dict[str, Any], tmp_path: Path) -> None:
    np.full((30, N_CHANNELS), 7, dtype=np.int16).tofile(tmp_path / "second.bin")
    raw["data"]["recordings"] = ["data.bin", "second.bin"]
    recording = config.load(raw).recording()
    assert recording.n_samples == 130
    np.testing.assert_array_equal(recording.source.read(99, 101)[:, 0], [99 * N_CHANNELS, 7])


@pytest.mark.coverage_row("A1.12")
def test_header_and_order_reach_the_reader(raw: dict[str, Any], tmp_path: Path) -> None:
    traces = np.arange(10 * N_CHANNELS, dtype=np.int16).reshape(10, N_CHANNELS)
    (tmp_path / "data.bin").write_bytes(b"x" * 24 + traces.T.tobytes())
    raw["recordings"] |= {"offset_bytes": 24, "order": "channels"}
    np.testing.assert_array_equal(config.load(raw).recording().source.read(0, 10), traces)


def test_excluded_periods_are_joined_and_cut(raw: dict[str, Any]) -> None:
    raw["recordings"]["excluded_periods_s"] = [[0.8, 50], [0.1, 0.3], [0.2, 0.25], [0.3, 0.4]]
    recording = config.load(raw).recording()
    assert tuple(recording.excluded_samples) == ((10, 40), (80, 100))


# Sizes


@pytest.mark.coverage_row("A1.4")
@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("200MB", 209715200),
        (209715200, 209715200),
        ("1.5GB", 1610612736),
        ("512KiB", 524288),
        ("2 GiB", 2147483648),
        ("1tb", 1024**4),
        (" 100 kb ", 102400),
        ("7B", 7),
        (1, 1),
    ],
)
def test_sizes(raw: dict[str, Any], text: str | int, n_bytes: int) -> None:
    assert config.parse_size(text) == n_bytes
    raw["resources"]["max_memory"] = text
    assert config.load(raw).resources.max_memory == n_bytes


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KB"),
        (3 * 1024**3 // 2, "1.5 GB"),
        (200 * 1024**2, "200 MB"),
    ],
)
def test_sizes_are_shown_in_the_same_units(n_bytes: int, text: str) -> None:
    assert config.format_size(n_bytes) == text


BAD_SIZES = [
    "200",
    "MB",
    "",
    "-5MB",
    "1e3MB",
    "1.MB",
    "200 XB",
    "0MB",
    "0.1B",
    "٣MB",
    0,
    -1,
    1.5,
    True,
    None,
    [1],
]


@pytest.mark.coverage_row("A1.4")
@pytest.mark.parametrize("value", BAD_SIZES)
def test_bad_sizes(raw: dict[str, Any], value: Any) -> None:
    raw["resources"]["max_memory"] = value
    line = line_of(raw, "resources.max_memory")
    assert f"found {value!r}" in line
    assert "200MB, 1.5GB or 512KiB" in line


@given(number=st.integers(1, 10**6), prefix=st.sampled_from(" KMGT"), form=st.sampled_from(["B", "iB", "b"]))
def test_size_is_its_number_times_a_power_of_1024(number: int, prefix: str, form: str) -> None:
    power = " KMGT".index(prefix)
    assert config.parse_size(f"{number}{prefix}{form}") == number * 1024**power
    assert config.parse_size(number * 1024**power) == number * 1024**power


@given(halves=st.integers(2, 10**6), prefix=st.sampled_from("KMGT"))
def test_fractions_of_a_unit_are_exact(halves: int, prefix: str) -> None:
    text = f"{halves // 2}.{5 * (halves % 2)}{prefix}B"
    assert config.parse_size(text) == halves * 1024 ** " KMGT".index(prefix) // 2


@given(st.text(max_size=8))
def test_any_text_is_a_size_or_an_error(text: str) -> None:
    try:
        assert config.parse_size(text) >= 1
    except ValueError as error:
        assert "200MB" in str(error)


# Bad values, one at a time

BAD_VALUES = [
    ("data.root_folder", 5, "string"),
    ("data.root_folder", "", "at least 1"),
    ("data.root_folder", "nowhere/at/all", "no such folder"),
    ("data.recordings", "dat.bin", "did you mean data.bin?"),
    ("data.recordings", "qqq", "no such file"),
    ("data.recordings", ".", "is a folder"),
    ("data.recordings", [], "at least 1"),
    ("data.recordings[1]", ["data.bin", 3], "string"),
    ("data.recordings", ["data.bin", "second.bin"], "no such file"),
    ("data.geometry", "geometri.npy", "did you mean geometry.npy?"),
    ("data.geometry", None, "string"),
    ("resources.max_memory_gpu", "1 giga", "512KiB"),
    ("resources.memory_limit", "a lot", "512KiB"),
    ("resources.processes", "all", "'max' or a whole number"),
    ("resources.processes", 0, "greater than or equal to 1"),
    ("resources.processes", 1.5, "integer"),
    ("resources.processes", True, "integer"),
    ("recordings.dtype", "int17", "int16, uint16"),
    ("recordings.dtype", "int1 6", "int16, uint16"),
    ("recordings.dtype", "complex64", "real numbers"),
    ("recordings.dtype", "object", "real numbers"),
    ("recordings.dtype", 16, "string"),
    ("recordings.sampling_rate", 0, "greater than 0"),
    ("recordings.sampling_rate", -20000, "greater than 0"),
    ("recordings.sampling_rate", "20000", "number"),
    ("recordings.sampling_rate", float("nan"), "finite"),
    ("recordings.sampling_rate", True, "number"),
    ("recordings.n_channels", 0, "greater than or equal to 1"),
    ("recordings.n_channels", 4.0, "integer"),
    ("recordings.n_channels", "4", "integer"),
    ("recordings.spatial_radius", "70 um", "number"),
    ("recordings.spatial_radius", -1, "greater than 0"),
    ("recordings.spike_size_ms", 0, "greater than 0"),
    ("recordings.spike_size_ms", float("inf"), "finite"),
    ("recordings.order", "sample", "'channels' or 'samples'"),
    ("recordings.gain_to_uv[0]", 0, "greater than 0"),
    ("recordings.gain_to_uv", [1.0, 2.0], "2 gains for 4 channels"),
    ("recordings.gain_to_uv[0]", "0.2", "number"),
    ("recordings.offset_bytes", -1, "greater than or equal to 0"),
    ("recordings.bad_channels", 3, "must be a list"),
    ("recordings.bad_channels", [1, 4], "channel 4 is not in 0 ... 3"),
    ("recordings.bad_channels[0]", [-1], "greater than or equal to 0"),
    ("recordings.excluded_periods_s", [[0.5, 0.25]], "ends before it begins"),
    ("recordings.excluded_periods_s", [[3, 4]], "the recording ends at 1 s"),
    ("recordings.excluded_periods_s[0][0]", [[-1, 4]], "greater than or equal to 0"),
    ("cluster", "slurm", "dictionary"),
    ("cluster.scheduler", "slum", "threads, sync, local"),
    ("cluster.workers", 0, "greater than or equal to 1"),
    ("cluster.walltime", 43200, "in quotes"),
    ("params", 3, "dictionary"),
]


@pytest.mark.coverage_row("A1.7", "A1.8", "A1.14")
@pytest.mark.parametrize(("key", "value", "allowed"), BAD_VALUES)
def test_bad_value_is_told(raw: dict[str, Any], key: str, value: Any, allowed: str) -> None:
    section, _, name = key.partition("[")[0].partition(".")
    if name:
        raw.setdefault(section, {})[name] = value
    else:
        raw[section] = value
    line = line_of(raw, key)
    assert allowed in line


@pytest.mark.coverage_row("A1.2", "A1.14")
@pytest.mark.parametrize(
    "key",
    [
        "data.root_folder",
        "data.recordings",
        "data.geometry",
        "resources.max_memory",
        "recordings.dtype",
        "recordings.sampling_rate",
        "recordings.n_channels",
        "recordings.spatial_radius",
        "recordings.spike_size_ms",
        "recordings.order",
    ],
)
def test_missing_key_is_told(raw: dict[str, Any], key: str) -> None:
    section, name = key.split(".")
    del raw[section][name]
    assert ": missing" in line_of(raw, key)


@pytest.mark.parametrize("section", ["data", "resources", "recordings"])
@pytest.mark.parametrize("content", ["absent", None, [], "text"])
def test_section_that_is_none(raw: dict[str, Any], section: str, content: Any) -> None:
    raw[section] = content
    if content == "absent":
        del raw[section]
    assert line_of(raw, section)


@pytest.mark.coverage_row("A1.14")
@pytest.mark.parametrize(
    ("section", "name", "hint"),
    [
        (None, "recording", "did you mean recordings?"),
        (None, "qqqq", "allowed here: data, resources, recordings, cluster, templates, params"),
        (None, "dtype", "dtype belongs to the section recordings"),
        ("recordings", "spike_size", "did you mean spike_size_ms?"),
        ("recordings", "max_memory", "max_memory belongs to the section resources"),
        ("data", "Geometry", "did you mean geometry?"),
        ("resources", "qqqq", "allowed here: max_memory, max_memory_gpu, processes, memory_limit"),
        ("cluster", "worker", "did you mean workers?"),
    ],
)
def test_unknown_key_gets_a_suggestion(raw: dict[str, Any], section: str | None, name: str, hint: str) -> None:
    place = raw if section is None else raw.setdefault(section, {})
    place[name] = 12
    line = line_of(raw, name if section is None else f"{section}.{name}")
    assert "unknown key (value 12)" in line
    assert hint in line


def test_key_that_is_no_text(raw: dict[str, Any]) -> None:
    raw["recordings"][5] = 1
    assert "keys should be strings" in line_of(raw, "recordings[5]")


def test_long_values_are_cut(raw: dict[str, Any]) -> None:
    raw["recordings"]["order"] = "x" * 10_000
    assert len(line_of(raw, "recordings.order")) < 400


def test_all_problems_at_once(raw: dict[str, Any], tmp_path: Path, stub_params: None) -> None:
    np.save(tmp_path / "geometry.npy", np.zeros((3, 2)))
    raw["data"]["recordings"] = ["data.bin", "absent.bin"]
    raw["resources"] = {"max_memory": "many", "procesess": 2}
    raw["params"] = {"detect": {"threshold_sd": "high"}}
    raw["cluster"] = {"workers": -1}
    lines = error_of(raw).splitlines()
    assert lines[0].endswith("6 problems in the configuration")
    keys = sorted(line.split(":")[0].removeprefix("  - ") for line in lines[1:])
    assert keys == [
        "cluster.workers",
        "data.geometry",
        "data.recordings",
        "params.detect.threshold_sd",
        "resources.max_memory",
        "resources.procesess",
    ]


@pytest.mark.coverage_row("A1.2")
def test_files_are_checked_though_other_keys_are_wrong(raw: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"x" * 801)
    del raw["data"]["geometry"]
    raw["data"]["geometri"] = "geometry.npy"
    raw["recordings"] |= {"order": "up", "qqq": 1, "sampling_rate": "x", "excluded_periods_s": [[900, 901]]}
    keys = sorted(line.split(":")[0].removeprefix("  - ") for line in error_of(raw).splitlines()[1:])
    assert keys == [
        "data.geometri",
        "data.geometry",
        "recordings.n_channels",
        "recordings.order",
        "recordings.qqq",
        "recordings.sampling_rate",
    ]


def test_wrong_header_does_not_make_the_size_wrong(raw: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"x" * 803)
    raw["recordings"]["offset_bytes"] = "3"
    assert "integer" in line_of(raw, "recordings.offset_bytes")


def test_error_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("data: {}\n")
    assert error_of(tmp_path / "bad.yaml").startswith(f"{tmp_path / 'bad.yaml'}: ")


# Files that do not fit


@pytest.mark.coverage_row("A1.3", "A1.9")
def test_geometry_of_another_probe(raw: dict[str, Any], tmp_path: Path) -> None:
    np.save(tmp_path / "geometry.npy", 20.0 * np.arange(12).reshape(6, 2))
    line = line_of(raw, "data.geometry")
    assert "6" in line
    assert "recordings.n_channels is 4" in line


@pytest.mark.coverage_row("A1.9")
def test_size_is_no_multiple_of_the_channels(raw: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"x" * 803)
    line = line_of(raw, "recordings.n_channels")
    assert "found 4: a sample is 8 bytes in int16" in line
    assert "803 bytes" in line
    assert "3 left over" in line


def test_header_counts_for_the_size(raw: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"x" * 803)
    raw["recordings"]["offset_bytes"] = 3
    assert config.load(raw).recordings.offset_bytes == 3


@pytest.mark.parametrize(("n_bytes", "offset"), [(0, 0), (16, 16), (16, 100)])
def test_nothing_in_the_file(raw: dict[str, Any], tmp_path: Path, n_bytes: int, offset: int) -> None:
    (tmp_path / "data.bin").write_bytes(b"x" * n_bytes)
    raw["recordings"]["offset_bytes"] = offset
    line = line_of(raw, "data.recordings")
    assert f"{n_bytes} bytes" in line
    assert f"header of {offset} bytes" in line


# The file itself


def write_yaml(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds nothing"),
        ("# only a comment\n", "holds nothing"),
        ("- data\n- resources\n", "holds a list"),
        ("data", "holds a str"),
        ("data: {a: 1, a: 2}\n", "line 1, column 14: not valid YAML: key 'a' is there twice"),
        ("data: 1\nresources: 2\n\ndata: 3\n", "line 4, column 1: not valid YAML: key 'data' is there twice"),
        ("data: [1, 2\n", "not valid YAML"),
        ("data: {a: *nobody}\n", "not valid YAML"),
        ("data: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        ("data: !!python/name:os.system\n", "not valid YAML"),
        ("? [1, 2]\n: 3\n", "not valid YAML"),
        ("data: 2020-99-99\n", "not valid YAML"),
        ("\tdata: 1\n", "not valid YAML"),
        (b"data: \x00\n", "not valid YAML"),
        (b"\xff\xfe\x00\x01", "not a text file in UTF-8"),
        ("[" * 100_000, "not valid YAML"),
    ],
)
def test_file_that_is_no_mapping(tmp_path: Path, text: str | bytes, told: str) -> None:
    path = write_yaml(tmp_path, text)
    message = error_of(path)
    assert message.startswith(str(path))
    assert told in message
    assert len(message) < 1000


def test_no_python_object_is_built(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    error_of(write_yaml(tmp_path, f"data: !!python/object/apply:os.mkdir ['{mark}']\n"))
    assert not mark.exists()


def test_merged_keys_may_be_overridden() -> None:
    text = "base: &base {a: 1, b: 2}\nother: {<<: *base, a: 3}\nthird: {<<: *base}\n"
    parsed = parse(text, "here")
    assert parsed["other"] == {"a": 3, "b": 2}
    assert parsed["third"] == {"a": 1, "b": 2}


@pytest.mark.parametrize("name", ["absent.yaml", "folder"])
def test_path_that_is_no_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    message = error_of(tmp_path / name)
    assert message.startswith(str(tmp_path / name))
    assert "configuration file" in message


# Parameters of the stages


def test_params_are_kept_and_typed(raw: dict[str, Any], stub_params: None) -> None:
    raw["params"] = {"detect": {"threshold_sd": 4}}
    loaded = config.load(raw)
    assert config.sort_params(loaded.params).detect.threshold_sd == 4.0


@pytest.mark.parametrize(
    ("params", "key", "told"),
    [
        ({"detect": {"threshold_sd": "high"}}, "params.detect.threshold_sd", "found 'high'"),
        (
            {"detect": {"threshold_sd": "high"}},
            "params.detect.threshold_sd",
            "threshold in standard deviations",
        ),
        ({"detect": {"treshold_sd": 4}}, "params.detect.treshold_sd", "did you mean threshold_sd?"),
        ({"threshold_sd": 4}, "params.threshold_sd", "threshold_sd belongs to the section detect"),
        ({"detekt": {}}, "params.detekt", "did you mean detect?"),
        ({"detect": 4}, "params.detect", "found 4"),
    ],
)
def test_bad_params(raw: dict[str, Any], stub_params: None, params: Any, key: str, told: str) -> None:
    raw["params"] = params
    assert told in line_of(raw, key)


def test_override_sets_typed_values(stub_params: None) -> None:
    base = {"detect": {"threshold_sd": 4}}
    changed = config.override(base, ["detect.threshold_sd=5.5", "detect.sign = both"])
    assert base == {"detect": {"threshold_sd": 4}}
    params = config.sort_params(changed)
    assert params.detect.threshold_sd == 5.5
    assert params.detect.sign == "both"


@pytest.mark.parametrize("assignment", ["detect.threshold_sd", "=5", "detect.=5", ".threshold_sd=5", ""])
def test_override_of_another_form(assignment: str) -> None:
    with pytest.raises(InputError, match=r"stage\.key=value"):
        config.override({}, [assignment])


@pytest.mark.parametrize("assignment", ["detect.threshold_sd=high", "detect.treshold_sd=5", "detekt.x=1", "detect=1"])
def test_override_with_a_bad_value(stub_params: None, assignment: str) -> None:
    with pytest.raises(InputError, match="params." + assignment.split("=")[0].removesuffix(".x")):
        config.sort_params(config.override({}, [assignment]))


def test_override_with_bad_yaml() -> None:
    with pytest.raises(InputError, match=r"--set detect\.threshold_sd=\["):
        config.override({}, ["detect.threshold_sd=["])


@pytest.mark.coverage_row("A1.10", "A1.11")
def test_waveform_keys_reach_the_stages_and_params_go_before_them():
    own = config.stage_params.of_recordings(spatial_radius=80, spike_size_ms=1.2)
    params = config.sort_params(config.stage_params.layered(own, {"detect": {"radius_um": 50.0}}))
    assert params.detect.radius_um == 50
    assert params.features.radius_um == pytest.approx(120)
    assert params.features.before_ms + params.features.after_ms == pytest.approx(1.2)
    assert params.templates.before_ms + params.templates.after_ms == pytest.approx(2.4)
