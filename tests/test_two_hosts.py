"""Workers on several hosts that share nothing but files: the same bytes as threads of one process."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import Host, cluster, two_addresses, two_namespaces
from labs import edit, found_chunks, simulated, yass

QUICK = ("--backend", "numba", "--set", "n_refinements=1")
COUNT = (
    "import distributed, json, sys\n"
    "with distributed.Client(sys.argv[1]) as client:\n"
    "    print(json.dumps(client.run(lambda dask_worker: dask_worker.state.executed_count)))"
)
EXPORTS = ("spike_train.npy", "templates.npy", "units.csv")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of ten chunks of one block."""
    path = simulated(tmp_path_factory.mktemp("hosts") / "recording", seconds=10)
    return edit(path, "resources", max_memory="6MB")


@pytest.fixture(scope="module")
def threaded(config: Path) -> dict[str, bytes]:
    """What two threads of one process write."""
    ran = yass("sort", config, *QUICK, "--scheduler", "threads", "--workers", 2, "--output-dir", "threads")
    assert ran.code == 0, ran.err
    return written(config.parent / "threads")


@pytest.fixture(scope="module")
def namespaces() -> Iterator[tuple[Host, Host]]:
    try:
        with two_namespaces() as both:
            yield both
    except PermissionError as error:
        pytest.skip(f"no network namespaces on this machine: {error}")


def written(folder: Path) -> dict[str, bytes]:
    """Every file of every stage, and the result's."""
    paths = [path for path in (folder / "yass.zarr").rglob("*") if path.is_file()]
    paths += [folder / name for name in EXPORTS]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def check_same(config: Path, threaded: dict[str, bytes], tmp_path: Path, first: Host, workers: list[Host]) -> None:
    """Sort on workers of a scheduler on the first host, from that host."""
    with cluster(tmp_path / "cluster", first, workers) as running:
        ran = first.yass("sort", config, *QUICK, "--scheduler", running.address, "--output-dir", tmp_path / "out")
        assert ran.code == 0, ran.err
        counted = first.run(sys.executable, "-c", COUNT, running.address)
    there = written(tmp_path / "out")
    assert sorted(there) == sorted(threaded)
    assert [name for name in there if there[name] != threaded[name]] == []
    executed = json.loads(counted.out)
    n_parts = sum(n for _, n in found_chunks((tmp_path / "out" / "yass.log").read_text()).values())
    assert sum(executed.values()) == n_parts, "every chunk ran once"
    assert {address.split("//")[1].split(":")[0] for address in executed} == {host.address for host in workers}
    assert min(executed.values()) >= n_parts // 4, "all had their share of the work"


def test_one_worker(config, threaded, tmp_path):
    first, second = two_addresses()
    check_same(config, threaded, tmp_path, first, [second])


def test_two_addresses_of_this_machine(config, threaded, tmp_path):
    first, second = two_addresses()
    check_same(config, threaded, tmp_path, first, [first, second])


def test_two_hosts_joined_by_a_cable(config, threaded, tmp_path, namespaces):
    first, second = namespaces
    assert [host.run("hostname").out.strip() for host in namespaces] == ["west", "east"]
    check_same(config, threaded, tmp_path, first, [first, second])


def test_a_host_that_does_not_see_the_recording_is_named(config, tmp_path, namespaces):
    """Before anything is computed."""
    first, second = namespaces
    with cluster(tmp_path / "cluster", first, [first, second.without(config.parent)]) as running:
        ran = first.yass("sort", config, *QUICK, "--scheduler", running.address, "--output-dir", tmp_path / "out")
    assert ran.code == 2
    assert f"host east: {config.parent / 'recording.bin'} is not there" in ran.err
    assert "host west" not in ran.err
    assert not list((tmp_path / "out" / "yass.zarr").glob("*/"))
