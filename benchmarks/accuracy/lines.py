"""One line of JSON for each run: what was measured, on what machine, with what versions, by which command."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "accuracy.jsonl"
Line = dict[str, Any]


def append(path: Path, line: Line) -> None:
    """Add one line at the end of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")


def read(path: Path) -> list[Line]:
    """All lines of the file, oldest first."""
    if not path.is_file():
        return []
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines() if text.strip()]


def surroundings() -> Line:
    """Machine, code and day of a run."""
    now = datetime.datetime.now(datetime.UTC)
    return {"machine": machine(), "commit": commit(), "code": code(), "date": f"{now:%Y-%m-%dT%H:%MZ}"}


def machine() -> dict[str, Any]:
    """What the timings depend on."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name")]
    return models[0] if models else platform.processor()


def commit() -> str:
    """The commit checked out, with a plus sign where the package differs from it."""
    return _git("rev-parse", "--short=10", "HEAD") + _changed()


def code() -> str:
    """Tells whether two commits have the same package: the hash of its folder, a plus sign as for the commit."""
    return _git("rev-parse", "--short=10", "HEAD:yass_dask") + _changed()


def _changed() -> str:
    return "+" if _git("status", "--porcelain", "--", "yass_dask") else ""


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def fingerprint(truth: Mapping[str, np.ndarray]) -> str:
    """Tells recordings apart whose recipe has changed under the same name and seed."""
    digest = hashlib.sha256()
    for name in ("spike_times", "spike_labels", "templates"):
        digest.update(np.ascontiguousarray(truth[name]).tobytes())
    return digest.hexdigest()[:12]


def command(dataset: str, sorter: str, seed: int, seconds: float | None) -> str:
    """What repeats this very run."""
    words = f'make bench-accuracy DATASETS={dataset} SORTERS="{sorter}" SEEDS={seed}'
    return words + (f" SECONDS_EACH={seconds:g}" if seconds else "")


def latest(lines: list[Line]) -> dict[tuple[str, int, str], Line]:
    """The newest line of each dataset, seed and sorter, of full-length runs on the recording as last made."""
    full = [line for line in lines if line.get("seconds_asked") is None]
    made = {(line["dataset"], line["seed"]): line["truth"] for line in full}
    return {
        (line["dataset"], line["seed"], line["sorter"]): line
        for line in full
        if made[line["dataset"], line["seed"]] == line["truth"]
    }
