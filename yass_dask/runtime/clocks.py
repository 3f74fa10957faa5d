"""A clock that was put back: dask keeps its messages until it has caught up, and a sort would wait as long."""

from __future__ import annotations

import time

TOLD_FROM_S = 60.0
"""Clocks that are put right by seconds only delay a message by as much."""


class ClockError(RuntimeError):
    """The clock of this machine was put back while a cluster worked."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the clock of this machine was put back by {seconds:.0f} s, and no job ends: dask waits with its messages "
            "until the clock has caught up. What is finished is kept; the same command goes on"
        )


class Clock:
    """The clock of the day against one that only counts on."""

    def __init__(self) -> None:
        self._furthest = float("-inf")

    def put_back_s(self) -> float:
        """Seconds by which the clock stands behind the furthest that it stood at any call; never negative."""
        now = time.time() - time.monotonic()
        self._furthest = max(self._furthest, now)
        return self._furthest - now


CLOCK = Clock()
"""Of this process: a jump in one stage may be felt in the next"""
