"""Features of spikes in clean traces, chunk by chunk: principal components and products with templates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from yass_dask.phy.templates import PhyTemplates

if TYPE_CHECKING:
    from yass_dask.recording import Recording
    from yass_dask.sorting import Sorting

N_SPIKES_FOR_PCS = 20_000
SPIKES_AT_ONCE = 2_000
"""2,000 snippets of 90 samples on 12 channels are 9 MB."""


class Stretch(NamedTuple):
    """Traces around a run of spikes, first_spike up to stop_spike."""

    traces: np.ndarray
    start: int
    """Recording sample of the first row."""
    first_spike: int
    stop_spike: int


class _Reader(NamedTuple):
    """What cuts snippets of a sorting's spikes."""

    sorting: Sorting
    recording: Recording
    gain: np.ndarray

    @property
    def before(self) -> int:
        return self.sorting.template_peak

    @property
    def length(self) -> int:
        return self.sorting.templates.shape[1]

    def snippets(self, stretch: Stretch, spikes: np.ndarray, channels: np.ndarray) -> np.ndarray:
        """(n, length, n_local) float32 uV of spikes on each one's channels; zeros outside the recording."""
        rows = self.sorting.sample_index[spikes] - self.before - stretch.start
        rows = rows[:, None] + np.arange(self.length)
        inside = (rows >= 0) & (rows < len(stretch.traces))
        rows = np.where(inside, rows, 0)
        found = stretch.traces[rows[:, :, None], channels[:, None, :]].astype(np.float32)
        found *= self.gain[channels][:, None, :]
        return found * inside[:, :, None]


def write_features(sorting: Sorting, templates: PhyTemplates, recording: Recording, folder: Path, n_pcs: int) -> None:
    """Write pc_features.npy (n_spikes, n_pcs, n_local) and template_features.npy (n_spikes, n_similar)."""
    n_pcs = min(n_pcs, sorting.templates.shape[1])
    pc_shape = (sorting.n_spikes, n_pcs, templates.channels.shape[1])
    match_shape = (sorting.n_spikes, templates.similar.shape[1])
    pc_file = _create(folder / "pc_features.npy", pc_shape)
    match_file = _create(folder / "template_features.npy", match_shape)
    if pc_file is None or match_file is None:
        return
    gain = np.ones(sorting.n_channels) if recording.gain_to_uv is None else recording.gain_to_uv
    reader = _Reader(sorting, recording, gain.astype(np.float32))
    components = waveform_components(reader, templates, n_pcs)
    matchers = _matchers(templates)
    rows = sorting.unit_rows
    for stretch, spikes in _batches(reader):
        snippets = reader.snippets(stretch, spikes, templates.channels[rows[spikes]])
        pc_file[spikes] = np.einsum("ntc,tp->npc", snippets, components)
        match_file[spikes] = _match(snippets, rows[spikes], matchers)
    pc_file.flush()
    match_file.flush()


def _match(snippets: np.ndarray, rows: np.ndarray, matchers: np.ndarray) -> np.ndarray:
    """(n, n_similar): product of each snippet with the templates like its own, unit by unit."""
    products = np.empty((len(rows), matchers.shape[1]), dtype=np.float32)
    for row in np.unique(rows):
        own = rows == row
        flat = matchers[row].reshape(matchers.shape[1], -1)
        products[own] = snippets[own].reshape(own.sum(), -1) @ flat.T
    return products


def _create(path: Path, shape: tuple[int, ...]) -> np.memmap | None:
    """Open a new npy file to be filled piece by piece; an empty one is whole at once."""
    if 0 in shape:
        np.save(path, np.zeros(shape, dtype=np.float32))
        return None
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)


def stretches(recording: Recording, times: np.ndarray, before: int, after: int) -> Iterator[Stretch]:
    """Yield the recording's chunks in order with what lies around them, each sample read once.

    A spike at sample t belongs to the first stretch that holds t + after, or to the last one.
    """
    traces = np.empty((0, recording.n_channels), dtype=recording.dtype)
    start = first_spike = 0
    for chunk in recording.chunks:
        traces = np.concatenate([traces, recording.source.read(chunk.start, chunk.stop)])
        last = chunk.stop >= recording.n_samples
        limit = recording.n_samples if last else chunk.stop - after
        stop_spike = int(np.searchsorted(times, limit))
        yield Stretch(traces, start, first_spike, stop_spike)
        kept = max(limit - before, start)
        traces, start, first_spike = traces[kept - start :], kept, stop_spike


def _batches(reader: _Reader) -> Iterator[tuple[Stretch, np.ndarray]]:
    """Yield spikes in order, a limited number at once, with the traces around them."""
    after = reader.length - reader.before
    times = reader.sorting.sample_index
    for stretch in stretches(reader.recording, times, reader.before, after):
        for first in range(stretch.first_spike, stretch.stop_spike, SPIKES_AT_ONCE):
            yield stretch, np.arange(first, min(first + SPIKES_AT_ONCE, stretch.stop_spike))


def waveform_components(reader: _Reader, templates: PhyTemplates, n_pcs: int) -> np.ndarray:
    """Orthonormal time courses (length, n_pcs) that hold most of the spikes' power on their main channels.

    They come from an even sample of all spikes and serve every channel. The mean is not subtracted: no signal
    is feature 0.
    """
    step = -(-reader.sorting.n_spikes // N_SPIKES_FOR_PCS)
    power = np.zeros((reader.length, reader.length))
    rows = reader.sorting.unit_rows
    for stretch, spikes in _batches(reader):
        picked = spikes[spikes % step == 0]
        main = templates.channels[rows[picked], :1]
        snippets = reader.snippets(stretch, picked, main)[:, :, 0].astype(np.float64)
        power += snippets.T @ snippets
    vectors = np.linalg.eigh(power)[1][:, ::-1][:, :n_pcs]
    # the sign of an eigenvector is arbitrary: its largest value is made negative, like a trough
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(n_pcs)])
    components: np.ndarray = (-signs * vectors).astype(np.float32)
    return components


def _matchers(templates: PhyTemplates) -> np.ndarray:
    """(n_templates, n_similar, length, n_local): similar templates, norm 1, on each template's channels."""
    norms = np.sqrt((templates.waveforms.astype(np.float64) ** 2).sum(axis=(1, 2)))
    scaled = (templates.waveforms / np.where(norms > 0, norms, 1.0)[:, None, None]).astype(np.float32)
    similar, channels = templates.similar[:, :, None], templates.channels[:, None, :]
    # advanced indices around a slice put time last
    return scaled[similar, :, channels].transpose(0, 1, 3, 2)
