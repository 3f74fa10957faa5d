"""The road of the README on a small recording: simulate, sort, compare, export; and what a person finds there."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labs import yass
from phylib.io.model import load_model

from yass_dask import Sorting, SortParams, from_config
from yass_dask.pipeline import sort

SECONDS, N_UNITS = 20, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated and sorted by the two commands of the README."""
    made = tmp_path_factory.mktemp("accuracy") / "demo"
    words = ("--channels", 16, "--seconds", SECONDS, "--units", N_UNITS, "--seed", 4)
    assert yass("simulate", made, *words).code == 0
    ran = yass("sort", made / "config.yaml")
    assert ran.code == 0, ran.err
    assert f"in {SECONDS} s of recording: {made / 'tmp'}" in ran.out
    return made


@pytest.fixture(scope="module")
def agreement(folder: Path) -> dict[str, Any]:
    compared = yass("compare", folder / "tmp", folder / "ground_truth.npz", "--json")
    assert compared.code == 0, compared.err
    return json.loads(compared.out)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "tmp" / "units.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_accuracy(agreement: dict[str, Any]) -> None:
    """Matched in the sense of compare: each true unit with the one that agrees with it best."""
    clear = [unit for unit in agreement["units"] if unit["snr"] >= 5]
    assert len(clear) >= 4
    assert np.mean([unit["accuracy"] for unit in clear]) > 0.9
    assert {unit["offset_samples"] for unit in clear} == {0}
    assert min(unit["within_one_sample"] for unit in clear) >= 0.97


def test_no_large_false_unit(folder: Path, agreement: dict[str, Any]) -> None:
    sorting = Sorting.open(folder / "tmp")
    counts = Counter(sorting.unit_index.tolist())
    assert {unit: counts[int(unit)] for unit in agreement["false_units"]} == {
        unit: counts[int(unit)] for unit in agreement["false_units"] if counts[int(unit)] <= 0.01 * sorting.n_spikes
    }


def test_every_unit_has_its_reason(folder: Path, table: list[dict[str, str]]) -> None:
    """Kept, merged into another or dropped: nobody has to guess why."""
    sorting = Sorting.open(folder / "tmp")
    assert [int(row["unit_id"]) for row in table] == sorted({int(row["unit_id"]) for row in table})
    kept = [row for row in table if row["state"] == "kept"]
    assert [int(row["unit_id"]) for row in kept] == sorting.unit_ids.tolist()
    for row in table:
        assert row["state"] in ("kept", "merged", "dropped")
        assert row["why"]
        assert row["origin"]
        assert (row["label"] in ("good", "mua", "noise")) == (row["state"] == "kept")
        assert bool(row["merged_into"]) == (row["state"] == "merged")
    for row in kept:
        assert int(row["n_spikes"]) == len(sorting.times_of(int(row["unit_id"])))
        assert 0 <= float(row["contamination"]) <= 1


def test_files_and_object_say_the_same(folder: Path, table: list[dict[str, str]]) -> None:
    out = folder / "tmp"
    sorting = Sorting.open(out)
    train, templates = np.load(out / "spike_train.npy"), np.load(out / "templates.npy")
    assert train.dtype == np.int64
    assert train.tobytes() == sorting.spike_train.tobytes()
    assert np.array_equal(np.lexsort((train[:, 1], train[:, 0])), np.arange(len(train))), "sorted"
    assert templates.shape == (sorting.n_units, templates.shape[1], 16)
    assert np.array_equal(templates, sorting.templates)
    assert [row["unit_id"] for row in sorting.units] == [int(row["unit_id"]) for row in table]
    assert sorting.n_samples == SECONDS * 30000
    peaks = np.abs(templates).max(axis=(1, 2))[sorting.unit_rows]
    assert 0.8 < np.median(sorting.amplitudes / peaks) < 1.2, "amplitudes are in the templates' unit"


def test_python_gives_what_the_command_gives(folder: Path, tmp_path: Path) -> None:
    """`sort()` with the file's params is the same sort: spikes, templates, table and zarr store."""
    config = folder / "config.yaml"
    found = sort(from_config(config), tmp_path, SortParams.from_config(config))
    for name in ("spike_train.npy", "templates.npy", "units.csv"):
        assert (tmp_path / name).read_bytes() == (folder / "tmp" / name).read_bytes(), name
    assert found.path == tmp_path
    assert found.spike_train.tobytes() == Sorting.open(tmp_path).spike_train.tobytes()
    stages = [{path.name for path in (out / "yass.zarr").iterdir()} for out in (tmp_path, folder / "tmp")]
    assert stages[0] == stages[1]
    assert (tmp_path / "metadata.yaml").exists()


def test_phy_opens_it(folder: Path) -> None:
    exported = yass("export", folder / "tmp")
    assert exported.code == 0, exported.err
    params = folder / "tmp" / "phy" / "params.py"
    assert str(params) in exported.out
    model = load_model(params)
    sorting = Sorting.open(folder / "tmp")
    assert model.n_spikes == sorting.n_spikes
    assert model.n_templates == sorting.n_units
    assert np.array_equal(model.spike_samples, sorting.sample_index)
    assert np.array_equal(model.channel_positions, sorting.probe.positions)
    assert model.traces.shape == (SECONDS * 30000, 16)


def test_info_tells_what_will_be_sorted(folder: Path) -> None:
    told = yass("info", folder / "config.yaml")
    assert told.code == 0, told.err
    for part in ("recording.bin", f"duration: {SECONDS} s", "channels: 16", "of disk"):
        assert part in told.out
