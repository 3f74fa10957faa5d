"""Files of others are data: what would run code when it is read is refused, and nothing in the source could run it."""

from __future__ import annotations

import ast
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import yaml
from labs import recorded
from typer.testing import CliRunner

import yass_dask
from yass_dask import Sorting, config, read_zarr
from yass_dask.augment.standardized import check_spike_train
from yass_dask.cli import app
from yass_dask.commands.training import read_spike_train, train_params
from yass_dask.errors import InputError
from yass_dask.evaluate import compare_files
from yass_dask.geometry.files import read_probe
from yass_dask.motion.displacement import Motion
from yass_dask.neuralnetwork import files
from yass_dask.neuralnetwork.models import SHIPPED
from yass_dask.store.zarrays import open_array

PACKAGE = Path(yass_dask.__file__).parent
SOURCES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}

OWN_PICKLES = {"jobs.py", "runtime/shared.py", "runtime/executor.py", "runtime/versions.py"}
"""Only these know pickles, of what this user's own processes hand to each other (docs/security.md)."""
ARRAY_DOOR, YAML_DOOR = "arrayfiles.py", "config/text.py"


def calls(name: str) -> set[str]:
    """Full names of what a file calls, as they stand there."""
    return {ast.unparse(node.func) for node in ast.walk(SOURCES[name]) if isinstance(node, ast.Call)}


def imports(name: str) -> set[str]:
    nodes = list(ast.walk(SOURCES[name]))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}


# The source


@pytest.mark.parametrize("name", SOURCES)
def test_the_source_runs_no_data(name: str) -> None:
    called = calls(name)
    assert not called & {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
    pickles = imports(name) & {"pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib", "_pickle"}
    assert not pickles or name in OWN_PICKLES
    assert "np.load" not in called or name == ARRAY_DOOR
    assert not any(call.endswith(("yaml.load", "yaml.unsafe_load", "yaml.full_load")) for call in called if
                   name != YAML_DOOR)  # fmt: skip
    shells = [
        keyword
        for node in ast.walk(SOURCES[name])
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg in ("shell", "allow_pickle") and not (isinstance(keyword.value, ast.Constant) and
                                                             keyword.value.value is False)
    ]  # fmt: skip
    assert shells == []


def test_the_scan_sees_what_it_looks_for() -> None:
    assert "np.load" in calls(ARRAY_DOOR)
    assert "yaml.load" in calls(YAML_DOOR)
    assert "cloudpickle" in imports("jobs.py")


def test_the_one_yaml_loader_is_a_safe_one() -> None:
    assert issubclass(config.text._StrictLoader, yaml.SafeLoader)
    loads = [ast.unparse(node) for node in ast.walk(SOURCES[YAML_DOOR]) if isinstance(node, ast.Call)]
    assert [line for line in loads if "yaml.load" in line] == ["yaml.load(text, Loader=_StrictLoader)"]


# Hostile files: all of them would leave a mark if they ran


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


def test_the_bomb_works(mark: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.is_dir()


def objects(mark: Path) -> np.ndarray:
    array = np.empty((2, 2), object)
    array[:] = Bomb(mark)
    return array


def check_refused(call: Callable[[], object], mark: Path, *told: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    for part in told:
        assert part in str(caught.value)
    assert not mark.exists(), "it ran"


READERS: dict[str, Callable[[Path], object]] = {
    "geometry": lambda path: read_probe(path, 2),
    "spike train": lambda path: check_spike_train(read_spike_train(path), 100),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("form", ["array of objects", "bare pickle", "npz"])
def test_pickled_npy(tmp_path: Path, mark: Path, reader: str, form: str) -> None:
    path = tmp_path / "given.npy"
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(Bomb(mark)))
    elif form == "npz":
        np.savez(tmp_path / "given.npz", a=np.arange(3), b=objects(mark))
        (tmp_path / "given.npz").rename(path)
    else:
        np.save(path, objects(mark), allow_pickle=True)
    check_refused(lambda: READERS[reader](path), mark, "given.npy")


def test_pickled_ground_truth(tmp_path: Path, mark: Path) -> None:
    np.save(tmp_path / "spike_train.npy", np.zeros((0, 2), np.int64))
    np.savez(tmp_path / "truth.npz", spike_times=objects(mark), spike_labels=np.arange(2))
    check_refused(lambda: compare_files(tmp_path, tmp_path / "truth.npz"), mark, "truth.npz", "pickle")


def test_pickled_network(tmp_path: Path, mark: Path) -> None:
    layers = dict(np.load(SHIPPED / "detect.npz"))
    np.savez(tmp_path / "detect.npz", **(layers | {"mixed": objects(mark)}))
    (tmp_path / "detect.yaml").write_bytes((SHIPPED / "detect.yaml").read_bytes())
    check_refused(lambda: files.load(tmp_path / "detect", "detect"), mark, "detect.npz", "pickle")


def test_pickled_results(tmp_path: Path, mark: Path, small_sorted: Any) -> None:
    for name in ("spike_train.npy", "templates.npy", "sorting.npz"):
        out = tmp_path / name.replace(".", "-")
        out.mkdir()
        for path in small_sorted.folder.glob("*.np*"):
            (out / path.name).write_bytes(path.read_bytes())
        assert Sorting.open(out).n_units
        if name.endswith("npy"):
            np.save(out / name, objects(mark), allow_pickle=True)
        else:
            np.savez(out / name, **(dict(np.load(out / name)) | {"amplitudes": objects(mark)}))
        check_refused(lambda out=out: Sorting.open(out), mark, name)


def test_pickled_motion(tmp_path: Path, mark: Path) -> None:
    from yass_dask.motion.displacement import FILES, INFO_FILE

    for name in FILES.values():
        np.save(tmp_path / name, objects(mark), allow_pickle=True)
    (tmp_path / INFO_FILE).write_text(json.dumps({"why_none": ""}))
    check_refused(lambda: Motion.load(tmp_path), mark, "displacement")


TAGS = (
    "!!python/object/apply:os.mkdir ['MARK']", "!!python/object/new:os.mkdir ['MARK']",
    "!!python/name:os.mkdir", "!!python/module:os", "!!python/object:yass_dask.Sorting {}",
)  # fmt: skip


@pytest.mark.parametrize("tag", TAGS)
def test_yaml_that_builds_objects(tmp_path: Path, mark: Path, tag: str) -> None:
    path = tmp_path / "given.yaml"
    path.write_text(f"data: {tag.replace('MARK', str(mark))}\n")
    check_refused(lambda: config.load(path), mark, "given.yaml", "line 1")
    check_refused(lambda: train_params(path), mark, "given.yaml")
    check_refused(lambda: config.override({}, [f"detect.method={path.read_text()[6:]}"]), mark, "--set")
    ran = CliRunner().invoke(app, ["info", str(path)])
    assert ran.exit_code == 2, ran.output
    assert not mark.exists()


def test_yaml_that_grows_without_end(tmp_path: Path) -> None:
    """A billion laughs: references to references are not copied out before the file is refused."""
    lines = ["data: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"k{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    path = tmp_path / "given.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match="k1"):
        config.load(path)


def pickling_array(folder: Path, mark: Path, place: str, dtype: str = "<i2") -> Path:
    """A zarr array of format 2 whose only chunk is a pickle, under a number type that nothing shows it by."""
    folder.mkdir()
    about = {"zarr_format": 2, "shape": [4, 2], "chunks": [4, 2], "dtype": dtype, "order": "C", "fill_value": 0,
             "compressor": None, "filters": None}  # fmt: skip
    about[place] = {"id": "pickle"} if place == "compressor" else [{"id": "pickle", "protocol": 5}]
    (folder / ".zarray").write_text(json.dumps(about))
    (folder / "0.0").write_bytes(pickle.dumps(Bomb(mark)))
    return folder


@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_zarr_whose_chunks_are_pickles(tmp_path: Path, mark: Path, place: str) -> None:
    folder = pickling_array(tmp_path / "given.zarr", mark, place)
    check_refused(lambda: read_zarr(folder, 30000.0), mark, "given.zarr", "pickle")
    check_refused(lambda: open_array(folder), mark, "given.zarr", "pickle")


@pytest.mark.parametrize("codec", ["pickle", "numcodecs.pickle"])
def test_zarr_of_format_3_whose_chunks_are_pickles(tmp_path: Path, codec: str) -> None:
    """However deep: a codec of shards has codecs of its own."""
    inner = {"name": "sharding_indexed", "configuration": {"codecs": [{"name": codec}]}}
    (tmp_path / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "array", "codecs": [inner]}))
    with pytest.raises(InputError, match="pickle"):
        read_zarr(tmp_path, 30000.0)


def test_zarr_of_objects(tmp_path: Path, mark: Path) -> None:
    folder = pickling_array(tmp_path / "given.zarr", mark, "filters", "|O")
    check_refused(lambda: read_zarr(folder, 30000.0), mark, "given.zarr")


def test_damaged_chunks_do_not_end_the_process(tmp_path: Path) -> None:
    """Blosc believes the lengths in a chunk's header: one that was cut short made it read behind its end, and crash."""
    codec = numcodecs.Blosc(cname="lz4")
    rows = np.random.default_rng(0).integers(-30, 30, (30, 4)).astype("<i2")
    about = {"zarr_format": 2, "shape": [30, 4], "chunks": [30, 4], "dtype": "<i2", "order": "C", "fill_value": 0,
             "compressor": codec.get_config(), "filters": None}  # fmt: skip
    (tmp_path / ".zarray").write_text(json.dumps(about))
    whole = bytes(codec.encode(rows))
    recording = None
    for cut in (0, 3, 15, 16, 18, 24, len(whole) - 1):
        (tmp_path / "0.0").write_bytes(whole[:cut])
        recording = read_zarr(tmp_path, 30000.0)
        for span in ((0, 30), (3, 9)):
            with pytest.raises(InputError, match=r"0\.0: damaged"):
                recording.source.read(*span)
    (tmp_path / "0.0").write_bytes(whole)
    assert recording is not None
    np.testing.assert_array_equal(recording.source.read(3, 9), rows[3:9])


def test_names_are_no_commands(tmp_path: Path, mark: Path) -> None:
    """What a shell would run is a file's name here, and a word to SLURM's script is quoted."""
    path = recorded(tmp_path / f"$(touch {mark.name})", np.zeros((4000, 2), np.int16))
    from yass_dask.runtime.batch import Batch, sort_script

    script = sort_script(Batch(jobs=1, workers=1, memory=10**9), [str(path)])
    assert f"'{path}'" in script
    ran = CliRunner().invoke(app, ["info", str(path)])
    assert ran.exit_code == 0, ran.output
    assert not mark.exists()
