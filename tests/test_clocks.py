"""A clock that is put back while a cluster works: dask would wait until it has caught up."""

from __future__ import annotations

import time

import pytest
from dask.delayed import delayed

from yass_dask.runtime import Executor, clocks, pools

DAY_S = 86_400.0


@pytest.fixture
def offset(monkeypatch) -> list[float]:
    """Seconds by which the clock of this test is wrong."""
    wrong, right = [0.0], time.time
    monkeypatch.setattr(clocks.time, "time", lambda: right() + wrong[0])
    return wrong


def test_a_clock_is_compared_with_the_furthest_that_it_stood(offset):
    clock = clocks.Clock()
    assert clock.put_back_s() < 1
    offset[0] = DAY_S
    assert clock.put_back_s() < 1
    offset[0] = -DAY_S
    assert clock.put_back_s() == pytest.approx(2 * DAY_S, abs=1)


def test_a_sort_that_may_wait_for_its_clock_ends_and_says_so(monkeypatch):
    behind = iter([0.0, 2 * DAY_S])
    monkeypatch.setattr(pools, "_QUIET_S", 0.2)
    monkeypatch.setattr(pools.CLOCK, "put_back_s", lambda: next(behind))
    with (
        Executor("local", n_workers=1).open() as executor,
        pytest.raises(clocks.ClockError, match=r"put back by 172800 s.*the same command goes on"),
    ):
        executor.run({"slow": delayed(time.sleep)(1)}, pytest.fail)
