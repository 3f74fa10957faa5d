"""A recording preprocessed and whitened in space, as the detector sees it, for training and measuring."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.conditioning import PreprocessParams
from yass_dask.noise import Noise, measure_noise
from yass_dask.preprocess import Clean, measure_scale, preprocess
from yass_dask.session import running

if TYPE_CHECKING:
    from yass_dask.monitor.progress import Progress
    from yass_dask.recording import Recording
    from yass_dask.runtime import Executor

PIECES = 6
"""A background is taken from so many places of a recording."""


@dataclass(frozen=True)
class White:
    """Clean traces and the whitening in space."""

    clean: Clean
    noise: Noise
    backend: str

    @property
    def recording(self) -> Recording:
        return self.clean.recording

    def read(self, start: int, stop: int) -> np.ndarray:
        """Whitened traces (stop - start, n_channels) float32, noise standard deviations."""
        counts = np.asarray(self.recording.source.read(start, stop))
        return self.noise.whiten(self.clean.to_sd(counts, start), self.backend)

    def pieces(self, seconds: float) -> np.ndarray:
        """About so many seconds from all of the recording, one piece after the other."""
        recording = self.recording
        length = min(recording.samples(1e3 * seconds / PIECES), recording.n_samples // PIECES)
        starts = np.linspace(0, recording.n_samples - length, PIECES).astype(int)
        return np.concatenate([self.read(int(start), int(start) + length) for start in starts])

    def whiten(self, templates: np.ndarray) -> np.ndarray:
        """Templates (n_units, n_samples, n_channels) in noise standard deviations, whitened."""
        white: np.ndarray = templates.astype(np.float32) @ self.noise.matrix()
        return white


@contextmanager
def whitened(
    recording: Recording, folder: Path, params: PreprocessParams, *, backend: str = "auto",
    client: Executor | None = None, progress: Progress | None = None,
) -> Iterator[tuple[White, Callable[..., Any]]]:  # fmt: skip
    """Preprocess a recording into a store; gives it whitened, and `keep` for further stages."""
    surroundings = running(recording, folder, backend=backend, client=client, seed=0, progress=progress)
    with surroundings as (keep, _, _, backend):
        scale = keep("scale", measure_scale(recording, params, backend))
        clean = keep("preprocess", preprocess(recording, scale, params, backend))
        noise = keep("noise", measure_noise(clean, params, backend))
        yield White(clean, noise, backend), keep
