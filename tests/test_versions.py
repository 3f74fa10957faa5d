"""Workers of other versions are refused by name, before anything is computed."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import distributed
import pytest

from yass_dask import InputError
from yass_dask.runtime import versions


@pytest.fixture(scope="module")
def client() -> Iterator[distributed.Client]:
    """Of a worker in this process."""
    with distributed.Client(processes=False, n_workers=1, dashboard_address=None, set_as_default=False) as client:
        yield client


def test_same_versions_pass(client: distributed.Client) -> None:
    versions.check_versions(client)


def test_another_version_is_refused_by_name(client: distributed.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    here = versions.versions_here(versions.PACKAGES)
    monkeypatch.setattr(versions, "versions_here", lambda names: here | {"numpy": "1.26.4", "yass_dask": "0.0.9"})
    monkeypatch.setattr(versions, "as_bytes", lambda function, names: pickle.dumps(here))
    message = rf"worker .* on host {here['host']}: yass_dask .* \(here 0.0.9\), numpy .* \(here 1.26.4\)"
    with pytest.raises(InputError, match=message):
        versions.check_versions(client)


def test_a_worker_without_yass_dask_can_be_asked(tmp_path: Path) -> None:
    """The question travels as it is: nothing of this package is imported to answer it."""
    (tmp_path / "call.pkl").write_bytes(versions.as_bytes(versions.versions_here, ("numpy", "no-such-package")))
    ask = (
        "import importlib.util, pickle, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'yass_dask' else find(name)\n"
        "print(pickle.load(open(sys.argv[1], 'rb')))\n"
        "assert 'yass_dask' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", ask, str(tmp_path / "call.pkl")], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "'yass_dask': 'missing'" in done.stdout
    assert "'no-such-package': 'missing'" in done.stdout
