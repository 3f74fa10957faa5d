"""What RecordingsReader costs beside numpy.memmap, on which it is built: YASS's own was called its bottleneck.

    python -m benchmarks.reader [--megabytes 256] [--runs 5]

A line of JSON for each loader, order and way of reading: seconds of the best run, and memmap's for the same reads.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask.compat.batch import RecordingsReader

N_CHANNELS = 64
ORDERS = {"samples": "C", "channels": "F"}
LOADERS = ("memmap", "array", "python")


def written(path: Path, n_samples: int, order: str) -> np.ndarray:
    """A file of counts, and what it holds."""
    traces = np.random.default_rng(0).integers(-500, 500, (n_samples, N_CHANNELS)).astype(np.int16)
    path.write_bytes(traces.tobytes(order=ORDERS[order]))  # type: ignore[arg-type]
    return traces


def reads(n_samples: int) -> dict[str, Callable[[Any], Iterator[np.ndarray]]]:
    """Ways of reading a whole file: batches of all channels, of three of them, some channels one by one."""
    step = max(1, n_samples // 16)
    starts = range(0, n_samples, step)
    return {
        "batches": lambda file: (np.array(file[s : min(s + step, n_samples), :]) for s in starts),
        "three channels": lambda file: (np.array(file[s : min(s + step, n_samples), 0:3]) for s in starts),
        "single channels": lambda file: (np.array(file[:n_samples, c : c + 1]) for c in range(4)),
    }


def fastest(read: Callable[[Any], Iterator[np.ndarray]], file: Any, runs: int) -> tuple[float, int]:
    """Seconds of the best run, and the sum of all that was read."""
    best, total = np.inf, 0
    for _ in range(runs):
        began = time.perf_counter()
        pieces = list(read(file))
        best = min(best, time.perf_counter() - began)
        total = sum(int(piece.sum(dtype=np.int64)) for piece in pieces)
    return best, total


def measure(folder: Path, n_samples: int, runs: int) -> Iterator[dict[str, Any]]:
    """Reader beside memmap, each on the same file; what they read is the same, or it is no comparison."""
    for order in ORDERS:
        path = folder / f"{order}.bin"
        written(path, n_samples, order)
        plain = np.memmap(path, np.int16, "r", shape=(n_samples, N_CHANNELS), order=ORDERS[order])  # type: ignore[call-overload]
        for loader in LOADERS:
            reader = RecordingsReader(path, "int16", N_CHANNELS, order, loader=loader)
            for way, read in reads(n_samples).items():
                seconds, total = fastest(read, reader, runs)
                bare, expected = fastest(read, plain, runs)
                assert total == expected, f"{loader}, {order}, {way}: other values than memmap's"
                yield {"loader": loader, "order": order, "way": way, "reader_s": seconds, "memmap_s": bare}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=256)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    n_samples = round(options.megabytes * 1e6 / (2 * N_CHANNELS))
    with tempfile.TemporaryDirectory() as folder:
        for line in measure(Path(folder), n_samples, options.runs):
            sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
