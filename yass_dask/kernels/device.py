"""What the kernels for devices share: what is sent once, and the few lengths that arrays are filled up to."""

from collections.abc import Callable
from typing import Any

import numpy as np

SHORTEST = 32


def few_lengths(n: int) -> int:
    """The smallest of 32, 48, 64, 96, 128, 192 ... that is at least n."""
    power = SHORTEST
    while power < n:
        power *= 2
    return power * 3 // 4 if power > SHORTEST and n <= power * 3 // 4 else power


def filled(array: np.ndarray, length: int, value: float = 0) -> np.ndarray:
    """The array with its first axis filled up to a length."""
    array = np.asarray(array)
    rest = np.full((length - len(array), *array.shape[1:]), value, array.dtype)
    return np.concatenate([array, rest])


class Latest:
    """Remembers what `make` gave for the latest object: what all blocks of a task share goes to the device once."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._latest: tuple[Any, Any] | None = None

    def __call__(self, source: Any) -> Any:
        latest = self._latest
        if latest is None or latest[0] is not source:
            latest = self._latest = source, self._make(source)
        return latest[1]
