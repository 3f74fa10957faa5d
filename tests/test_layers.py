"""The layers of the house, read off the imports of every file of the package; and how large its parts are."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import yass_dask
from yass_dask import pipeline

PACKAGE = Path(yass_dask.__file__).parent
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
KERNELS = [name for name in FILES if name.startswith("kernels/")]
STAGES = [
    "conditioning.py",
    "preprocess.py",
    "motion.py",
    "noise.py",
    "detect.py",
    "features.py",
    "cluster.py",
    "templates.py",
    "matching.py",
    "deconvolve.py",
    "unitfeatures.py",
    "merge.py",
    "verdicts.py",
    "refine.py",
    "sizes.py",
    "duplicates.py",
    "known.py",
    "sums.py",
]
"""Stages are files or, past 300 lines, folders of that name."""

TRAINING = "neuralnetwork/training_jax.py"
"""The only file beside the kernels that needs JAX."""

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
NAMELESS = {"utils", "util", "core", "base", "helpers", "helper", "common", "misc"}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((PACKAGE / name).read_text(encoding="utf-8"))


@cache
def imports(name: str) -> frozenset[str]:
    """Full names of all that a file imports, wherever in it: functions and TYPE_CHECKING blocks too."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def importers(*packages: str) -> set[str]:
    """Files that import any of these packages or something in them."""
    return {name for name in FILES if any(is_in(module, package) for module in imports(name) for package in packages)}


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def stage_files() -> list[str]:
    return [name for name in FILES if name in STAGES or f"{name.split('/')[0]}.py" in STAGES]


def test_the_files_are_found():
    assert len(FILES) > 50
    assert len(KERNELS) > 10
    stems = {stage.removesuffix(".py") for stage in STAGES}
    assert {name.split("/")[0].removesuffix(".py") for name in stage_files()} == stems


def test_the_list_of_stages_is_the_pipelines():
    """Every module of the package whose functions make something lazy for the pipeline is in STAGES."""
    makers = {
        value.__module__.split(".")[1]
        for value in vars(pipeline).values()
        if getattr(value, "__annotations__", {}).get("return") in ("LazyParts", "LazyTraces")
    }
    assert {f"{name}.py" for name in makers} <= set(STAGES)


def test_imports_are_read():
    assert "numpy" in imports("kernels/bank.py")
    assert "typing.NamedTuple" in imports("kernels/bank.py")


# --- doors --------------------------------------------------------------------------------------------------


def test_numba_is_imported_by_its_kernels_and_the_loops_they_share_only():
    kernels, shared = {name for name in KERNELS if name.endswith("_numba.py")}, importers("numba")
    shared -= kernels
    assert shared == {"kernels/loops.py", "kernels/pursuit_state.py"}
    for name in shared:
        assert importers(f"yass_dask.kernels.{Path(name).stem}") <= kernels | shared
    assert kernels <= importers("numba")


def test_no_gpu_library_is_imported_but_by_its_kernels_and_what_they_share():
    for library, suffix, shared in [
        ("jax", "_jax.py", {"kernels/xla.py"}),
        ("cupy", "_cupy.py", {"kernels/cuda.py"}),
    ]:
        found = importers(library, f"{library}lib", f"{library}x")
        assert found - {TRAINING} <= set(KERNELS), library
        assert {name for name in found if not name.endswith(suffix)} == shared, library
        for name in shared:
            users = importers(f"yass_dask.kernels.{Path(name).stem}")
            assert {user for user in users if not user.endswith(suffix)} == set(), library


def test_only_training_imports_what_needs_jax_and_only_when_it_begins():
    """A sort runs networks without JAX: the training's file is imported inside the function that trains."""
    module = f"yass_dask.{TRAINING.removesuffix('.py').replace('/', '.')}"
    inside = {
        name
        for name in importers(module)
        if not any(isinstance(node, ast.ImportFrom) and node.module == module for node in tree(name).body)
    }
    assert importers(module) == inside == {"neuralnetwork/waveforms.py"}


def test_zarr_is_behind_the_store_and_its_source():
    allowed = {name for name in FILES if name.startswith("store/")} | {"sources/zarr_array.py"}
    assert importers("zarr", "numcodecs") - allowed == set()


def test_kernels_know_only_kernels_and_shifts():
    for name in KERNELS:
        own = {module for module in imports(name) if is_in(module, "yass_dask")}
        allowed = ("yass_dask.kernels", "yass_dask.subsample")
        assert {module for module in own if not any(is_in(module, door) for door in allowed)} == set(), name


def test_kernels_know_no_dask_disk_or_params():
    for package in ("dask", "distributed", "zarr", "pydantic", "os", "pathlib", "random", "numpy.random"):
        assert importers(package) & set(KERNELS) == set(), package


def test_kernels_draw_no_random_numbers():
    for name in KERNELS:
        names = {node.attr for node in ast.walk(tree(name)) if isinstance(node, ast.Attribute)}
        assert "random" not in names, name


@pytest.mark.parametrize("package", ["distributed", "yass_dask.runtime", "yass_dask.store", "yass_dask.session"])
def test_stages_do_not_know_where_they_run_or_are_kept(package):
    assert importers(package) & set(stage_files()) == set()


def test_stages_do_not_import_the_pipeline():
    assert importers("yass_dask.pipeline", "yass_dask.cli", "yass_dask.commands") & set(stage_files()) == set()


def test_only_halos_in_chunked_are_cut_into_blocks():
    """`map_overlap` of dask copies blocks between tasks; the recording reads its halos instead."""
    allowed = {"recording/overlap.py", "recording/recording.py"}
    calls = {
        name
        for name in FILES
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Attribute) and node.attr in ("map_overlap", "overlap") and name not in allowed
    }
    assert calls == set()


# --- sizes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_files_are_small(name):
    lines = (PACKAGE / name).read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_FILE_LINES, f"{name} has {lines} lines: make a folder of it, and name its parts"


@pytest.mark.parametrize("name", FILES)
def test_functions_are_small(name):
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{name}:{node.lineno} {node.name} has {length} lines"


def test_files_are_named_for_what_is_in_them():
    assert {
        name for name in FILES if NAMELESS & {part.strip("_") for part in Path(name).with_suffix("").parts}
    } == set()


def test_nothing_prints_but_the_command_line():
    printers = {
        name
        for name in FILES
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printers <= {"cli.py"}
