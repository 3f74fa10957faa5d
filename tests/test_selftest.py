"""`yass selftest`, run on a cluster as a user would; and that it notices what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hosts import cluster, two_addresses
from labs import Ran, yass
from typer.testing import CliRunner

from yass_dask import Sorting, cli, selftest
from yass_dask.simulate import Scene, plan


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ran, Path]]:
    folder = tmp_path_factory.mktemp("selftest")
    first, second = two_addresses()
    with cluster(folder / "cluster", first, [first, second]) as running:
        yield yass("selftest", "--scheduler", running.address, "--folder", folder / "kept"), folder / "kept"


@pytest.fixture(scope="module")
def scene() -> Scene:
    whole = plan(selftest.N_CHANNELS, selftest.SECONDS, selftest.N_UNITS, selftest.SEED, snr=selftest.SNR)
    return selftest.with_border_spikes(whole)


@pytest.fixture
def sorting(ran: tuple[Ran, Path]) -> Sorting:
    return Sorting.open(ran[1] / f"chunks-of-{selftest.SHORT}")


def test_all_is_well_on_a_cluster(ran: tuple[Ran, Path]) -> None:
    done, _ = ran
    assert done.code == 0, done.out + done.err
    assert "145 of 145 spikes at chunk borders found, 0 of them twice" in done.out
    assert "the same bytes" in done.out
    assert done.out.count(" ok") == 4
    assert done.out.endswith("All is well.\n")


def test_every_neuron_fires_at_every_border(scene: Scene) -> None:
    borders = selftest.border_times(scene)
    assert len(borders) == 29
    near = np.abs(scene.spike_times[:, None] - borders) <= 0.01 * scene.sampling_rate
    assert (near.sum(axis=0) == selftest.N_UNITS).all()
    offsets = (scene.spike_times[:, None] - borders)[near]
    assert len(np.unique(offsets)) > 100, "at all offsets"
    assert (np.abs(offsets) <= 3).any()


def test_a_lost_spike_is_noticed(scene: Scene, sorting: Sorting) -> None:
    border = selftest.border_times(scene)[7]
    kept = np.ones(sorting.n_spikes, bool)
    kept[np.abs(sorting.sample_index - border).argmin()] = False
    fields = {name: getattr(sorting, name)[kept] for name in ("sample_index", "unit_index", "amplitudes")}
    check = selftest.borders(scene, replace(sorting, **fields))
    assert not check.is_well
    assert "144 of 145" in check.found
    assert str(check).endswith("NOT WELL")


def test_a_doubled_spike_is_noticed(scene: Scene, sorting: Sorting) -> None:
    at = np.abs(sorting.sample_index - selftest.border_times(scene)[7]).argmin()
    fields = {
        name: np.append(getattr(sorting, name), getattr(sorting, name)[at] + (3 if name == "sample_index" else 0))
        for name in ("sample_index", "unit_index", "amplitudes")
    }
    check = selftest.borders(scene, replace(sorting, **fields))
    assert not check.is_well
    assert "1 of them twice" in check.found


def test_another_answer_and_a_bad_one_are_noticed(scene: Scene, sorting: Sorting) -> None:
    other = replace(sorting, amplitudes=sorting.amplitudes * np.float32(1 + 1e-6))
    assert selftest.same_bytes(sorting, sorting).is_well
    assert "differ in amplitudes" in selftest.same_bytes(sorting, other).found
    merged = replace(
        sorting, unit_index=np.where(sorting.unit_index == sorting.unit_ids[0], sorting.unit_ids[1], sorting.unit_index)
    )
    assert not selftest.accuracy(selftest.agreement_of(scene, merged)).is_well


def test_exit_code_where_something_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    check = selftest.Check("borders", "144 of 145 spikes at chunk borders found", False)
    monkeypatch.setattr(selftest, "run", lambda executor, folder: ([check], 1.0))
    done = CliRunner().invoke(cli.app, ["selftest"])
    assert done.exit_code == 1
    assert "NOT all is well" in done.output
