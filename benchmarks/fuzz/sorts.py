"""Whole sorts of recordings that no amplifier would give."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks.fuzz.ground import INSIDES, opens, untouched
from yass_dask.cli import app

RATE = 30000
VALUES = (0, 1, -1, 7.5, 1000, -32768, 32767, np.nan, np.inf, -np.inf, 1e30)


class Sorts:
    """A case is a recording made of stretches of noise, constants, steps, NaN, and what is said of it."""

    def __init__(self, folder: Path) -> None:
        self.lab = folder / "lab"
        self.lab.mkdir(parents=True)
        self.out = self.lab / "out"

    def cases(self) -> st.SearchStrategy[Any]:
        stretch = st.tuples(
            st.sampled_from(("noise", "loud", "value", "pulses", "line")),
            st.integers(0, 3),
            st.floats(0, 1),
            st.floats(0, 1),
            st.sampled_from(VALUES),
        )
        return st.fixed_dictionaries({
            "n_samples": st.sampled_from((1, 50, 200, 9000, 30000, 31000)),
            "n_channels": st.integers(1, 4),
            "dtype": st.sampled_from(("int16", "uint16", "float32", ">i2")),
            "stretches": st.lists(stretch, max_size=3),
            "spatial_radius": st.sampled_from((70, 1e-6, 1e9)),
            "spike_size_ms": st.sampled_from((1.5, 0.05, 30.0)),
            "excluded": st.sampled_from(([], [[0, 0.2]], [[0, 1e9]])),
            "bad_channels": st.sampled_from(([], [0], [0, 1, 2, 3])),
        })  # fmt: skip

    def check(self, case: dict[str, Any]) -> bool:
        shutil.rmtree(self.out, ignore_errors=True)
        self.write(**case)
        quick = ["--scheduler", "sync", "--no-progress", "--set", "n_refinements=1", "--output-dir", "out"]
        with untouched(self.lab, self.out):
            ran = CliRunner().invoke(app, ["sort", str(self.lab / "config.yaml"), *quick])
        story = f"{ran.stdout}{ran.stderr}"
        assert ran.exit_code in (0, 2), f"exit code {ran.exit_code}: {story} {ran.exception!r}"
        assert not INSIDES.search(story), story
        assert opens(self.out) == (ran.exit_code == 0), f"exit code {ran.exit_code}, but it opens: {opens(self.out)}"
        return ran.exit_code == 0

    def write(
        self, n_samples: int, n_channels: int, dtype: str, stretches: list[Any], excluded: list[Any],
        bad_channels: list[int], **about: Any,
    ) -> None:  # fmt: skip
        """The recording of a case and its configuration."""
        traces = np.random.default_rng(5).normal(0, 20, (n_samples, n_channels))
        for kind, channel, begin, end, value in stretches:
            rows = slice(*sorted((int(begin * n_samples), int(end * n_samples))))
            traces[rows, channel % n_channels] = _stretch(kind, value, traces[rows, channel % n_channels])
        number = np.dtype(dtype)
        if number.kind in "iu":
            limits = np.iinfo(number)
            traces = np.clip(np.nan_to_num(traces), limits.min, limits.max).round()
        with np.errstate(over="ignore"):
            traces.astype(number).tofile(self.lab / "recording.bin")
        np.save(self.lab / "geometry.npy", np.stack([np.zeros(n_channels), 20.0 * np.arange(n_channels)], axis=1))
        sections = {
            "data": {"root_folder": "./", "recordings": "recording.bin", "geometry": "geometry.npy"},
            "resources": {"max_memory": "200MB", "processes": 1},
            "recordings": {
                "dtype": dtype, "sampling_rate": RATE, "n_channels": n_channels, "order": "samples",
                "excluded_periods_s": excluded, "bad_channels": [c for c in bad_channels if c < n_channels], **about,
            },
        }  # fmt: skip
        (self.lab / "config.yaml").write_text(yaml.safe_dump(sections), encoding="utf-8")

    def close(self) -> None:
        """Each case was looked at by itself."""


def _stretch(kind: str, value: float, noise: np.ndarray) -> np.ndarray:
    time = np.arange(len(noise))
    if kind == "noise":
        return noise
    if kind == "loud":
        return 500 * noise
    if kind == "value":
        return np.full(len(noise), value)
    if kind == "pulses":  # the same spike, as regular as a clock
        return noise - 600 * np.isin(time % 300, (100, 101, 102, 103))
    return noise + 3000 * np.sin(2 * np.pi * 50 * time / RATE)
