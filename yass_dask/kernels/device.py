"""What the kernels for devices share: what is sent once, and the few lengths that arrays are filled up to."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

UNITS, EVENTS = 32, 256
"""Shortest lengths of arrays of units, and of events: few of these, whose number differs from block to block."""

FINE = 2.0**16
"""Spikes are summed in whole numbers, this many per unit of the traces: in floating point the sum would depend on the
order in which the device's threads come to it."""


def few_lengths(n: int, least: int = UNITS) -> int:
    """The smallest of 1, 2, 4, 8 ... times `least` that is at least n."""
    while least < n:
        least *= 2
    return least


def filled(array: np.ndarray, length: int, value: float = 0) -> np.ndarray:
    """The array with its first axis filled up to a length."""
    array = np.asarray(array)
    rest = np.full((length - len(array), *array.shape[1:]), value, array.dtype)
    return np.concatenate([array, rest])


class Latest(threading.local):
    """Remembers what `make` gave for a thread's latest object: what all blocks of a task share is sent once."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._latest: tuple[Any, Any] | None = None

    def __call__(self, source: Any) -> Any:
        if self._latest is None or self._latest[0] is not source:
            self._latest = source, self._make(source)
        return self._latest[1]
