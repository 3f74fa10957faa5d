"""`python -m benchmarks.trust.shuffled`: a sort with tasks in random order, and chunks of any length."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yass_dask import SortParams, from_config, sort
from yass_dask.logs import logging_to
from yass_dask.runtime import Executor
from yass_dask.store import Store


@dataclass(frozen=True)
class Shuffled(Executor):
    """An executor that begins with any task."""

    order: int = 0

    def run(self, tasks: Mapping[str, Any], on_done: Callable[[str], None], **told: Any) -> None:
        """See `Executor.run`."""
        names = sorted(tasks)
        random.Random(self.order).shuffle(names)
        super().run({name: tasks[name] for name in names}, on_done, **told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--chunk", type=int, default=1, help="blocks of a chunk")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--scheduler", default="threads")
    parser.add_argument("--order", type=int, default=0, help="seed of the order of the tasks")
    asked = parser.parse_args()
    executor = Shuffled(asked.scheduler, asked.workers, order=asked.order)
    store = Store(asked.out)
    with store.lock(), logging_to(store.path, "INFO"):
        recording = from_config(asked.config).with_chunks(asked.chunk)
        params = SortParams.from_config(asked.config).model_copy(update={"n_refinements": 1})
        sort(recording, store, params, backend="numba", client=executor)


if __name__ == "__main__":
    main()
