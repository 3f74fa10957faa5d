"""Traces of a scene, in memory or into a folder that `yass sort` takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yass_dask.simulate.noise import noise_blocks
from yass_dask.simulate.scene import Scene, plan

GAIN_UV = 0.195
"""uV per bit, as of the common Intan amplifier."""


@dataclass(frozen=True)
class Simulation:
    """A recording with its true spikes."""

    traces: np.ndarray
    """(n_samples, n_channels) int16."""
    scene: Scene

    @property
    def sampling_rate(self) -> float:
        return self.scene.sampling_rate

    @property
    def positions(self) -> np.ndarray:
        """(n_channels, 2) um."""
        return self.scene.positions

    @property
    def gain_to_uv(self) -> np.ndarray:
        """(n_channels,) uV per bit."""
        return np.full(self.traces.shape[1], GAIN_UV)

    @property
    def spike_times(self) -> np.ndarray:
        """(n_spikes,) int64: sample nearest to the spike's extremum on its unit's main channel, ascending."""
        return self.scene.spike_times

    @property
    def spike_labels(self) -> np.ndarray:
        """(n_spikes,) int64 unit of each spike."""
        return self.scene.spike_labels

    @property
    def templates(self) -> np.ndarray:
        """(n_units, n_template_samples, n_channels) float32 uV."""
        return self.scene.templates

    @property
    def template_peak(self) -> int:
        """Sample of a template that a spike's time refers to."""
        return self.scene.template_peak

    @property
    def snr(self) -> np.ndarray:
        """(n_units,) signal-to-noise ratio in 300-6000 Hz."""
        return self.scene.snr

    @property
    def unit_positions(self) -> np.ndarray:
        """(n_units, 3) um."""
        return self.scene.unit_positions


def render(scene: Scene) -> Iterator[np.ndarray]:
    """Yield the traces in pieces of about a second: (n, n_channels) int16."""
    block = scene.noise.block
    n_blocks = -(-scene.n_samples // block)
    for index, traces in enumerate(noise_blocks(scene.noise, n_blocks)):
        start = index * block
        _add_spikes(traces, scene, start)
        bits = np.rint(traces[: scene.n_samples - start] / GAIN_UV)
        yield np.clip(bits, -32768, 32767).astype(np.int16)


def _add_spikes(traces: np.ndarray, scene: Scene, start: int) -> None:
    """Add in place whatever part of a spike falls into traces that begin at sample `start`."""
    length = scene.waveforms.shape[2]
    begins = scene.spike_times - scene.template_peak - start
    first, last = np.searchsorted(begins, [-length + 1, len(traces)])
    for spike in range(first, last):
        begin = int(begins[spike])
        low, high = max(begin, 0), min(begin + length, len(traces))
        waveform = scene.waveforms[scene.spike_labels[spike], scene.spike_jitters[spike]]
        traces[low:high] += scene.spike_scales[spike] * waveform[low - begin : high - begin]


def simulate(
    n_channels: int = 32,
    seconds: float = 60.0,
    n_units: int = 20,
    seed: int = 0,
    sampling_rate: float = 30000.0,
    snr: tuple[float, float] = (3.0, 30.0),
    geometry: str | np.ndarray = "neuropixels",
) -> Simulation:
    """Simulate a recording in memory; see `plan` for the parameters. The seed decides everything."""
    scene = plan(n_channels, seconds, n_units, seed, sampling_rate, snr, geometry)
    return Simulation(np.concatenate(list(render(scene))), scene)


def write(folder: str | Path, scene: Scene) -> Path:
    """Write recording.bin, geometry.npy, config.yaml, ground_truth.npz; memory does not grow with length.

    Returns
    -------
    The path of config.yaml, for `yass sort`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "recording.bin", "wb") as file:
        for piece in render(scene):
            file.write(piece.astype("<i2", copy=False).tobytes())
    np.save(folder / "geometry.npy", scene.positions)
    np.savez_compressed(
        folder / "ground_truth.npz",
        spike_times=scene.spike_times,
        spike_labels=scene.spike_labels,
        templates=scene.templates,
        template_peak=scene.template_peak,
        snr=scene.snr,
        unit_positions=scene.unit_positions,
        sampling_rate=scene.sampling_rate,
    )
    config = folder / "config.yaml"
    config.write_text(_config_text(scene), encoding="utf-8")
    return config


def _config_text(scene: Scene) -> str:
    import yaml

    rate = scene.sampling_rate
    sections = {
        "data": {"root_folder": "./", "recordings": "recording.bin", "geometry": "geometry.npy"},
        "resources": {"max_memory": "200MB", "max_memory_gpu": "1GB", "processes": "max"},
        "recordings": {
            "dtype": "int16",
            "sampling_rate": int(rate) if rate.is_integer() else rate,
            "n_channels": len(scene.positions),
            "spatial_radius": 70,
            "spike_size_ms": 1.5,
            "order": "samples",
            "gain_to_uv": GAIN_UV,
        },
    }
    text: str = yaml.safe_dump(sections, sort_keys=False)
    return text
