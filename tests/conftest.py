"""One small recording, simulated and sorted once per test process, for all tests that need a sorted one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings

from yass_dask import Recording, Sorting, from_array, simulate, sort
from yass_dask.pipeline import SortParams
from yass_dask.runtime import Executor
from yass_dask.simulate import Simulation

pytest_plugins = ["zeros"]
# A busy machine is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


class Sorted(NamedTuple):
    """A sorted recording; `folder` is shared by the tests: copy it before writing into it."""

    simulation: Simulation
    recording: Recording
    folder: Path
    params: SortParams
    sorting: Sorting


@pytest.fixture(scope="session")
def simulation() -> Simulation:
    """Eight channels, ten seconds, four units that stand well above the noise."""
    return simulate(n_channels=8, seconds=10, n_units=4, seed=3, snr=(8, 20))


@pytest.fixture(scope="session")
def small_recording(simulation: Simulation) -> Recording:
    """The simulated recording, in four chunks of three blocks, the last one of one block."""
    recording = from_array(simulation.traces, simulation.sampling_rate, simulation.positions, simulation.gain_to_uv)
    return recording.with_chunks(3)


@pytest.fixture(scope="session")
def small_sorted(
    simulation: Simulation, small_recording: Recording, tmp_path_factory: pytest.TempPathFactory
) -> Sorted:
    """The recording sorted by default, but for one round of refinement: every stage has run."""
    folder = tmp_path_factory.mktemp("sorted") / "out"
    params = SortParams(n_refinements=1)
    sorting = sort(small_recording, folder, params, client=Executor("sync"))
    return Sorted(simulation, small_recording, folder, params, sorting)
