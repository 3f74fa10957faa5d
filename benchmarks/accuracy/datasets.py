"""Every recording of the benchmark by its name."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.accuracy.names import DRIFTS, FADING, SYNTHETIC

MAKERS = ("numpy", "scipy", "spikeinterface", "probeinterface")


def make(name: str, seed: int, folder: Path, data: Path | None = None, seconds: float | None = None) -> Path:
    """Write one recording with its truth and say in truth.json what made it.

    Parameters
    ----------
    data : folder of the real templates; the hybrids need it.
    seconds : length, the usual one of this name unless told.
    """
    if name in (*SYNTHETIC, *DRIFTS, *FADING):
        from benchmarks.accuracy import synthetic

        synthetic.make(name, seed, folder, seconds)
    else:
        from benchmarks.accuracy import hybrid

        if data is None:
            raise SystemExit(f"{name} needs --data, the folder of real templates")
        hybrid.make(name, seed, folder, data, seconds)
    told = folder / "truth.json"
    about = json.loads(told.read_text(encoding="utf-8")) if told.is_file() else {}
    about |= {"name": name, "seed": seed, "seconds": seconds, "versions": versions(MAKERS)}
    told.write_text(json.dumps(about) + "\n", encoding="utf-8")
    return folder


def is_made(name: str, seed: int, folder: Path, seconds: float | None = None) -> bool:
    """Whether the folder holds this very recording; truth.json is written last."""
    told = folder / "truth.json"
    if not told.is_file():
        return False
    about = json.loads(told.read_text(encoding="utf-8"))
    return (about.get("name"), about.get("seed"), about.get("seconds")) == (name, seed, seconds)


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Installed version of each package that is there."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
