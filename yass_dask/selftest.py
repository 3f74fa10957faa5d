"""`yass selftest`: does a sort work here? A simulated recording is sorted twice, and compared with its true spikes.

Between the blocks that a recording is cut into lie borders: every neuron is made to fire at each of them, at all
offsets. Once every block is a chunk of its own, once chunks are long: both must find these spikes, once each, and give
the same bytes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yass_dask.chunked import block_samples
from yass_dask.errors import InputError
from yass_dask.evaluate import Spikes, compare
from yass_dask.simulate import Scene, plan, write

if TYPE_CHECKING:
    from yass_dask.evaluate import Agreement
    from yass_dask.runtime import Executor
    from yass_dask.sorting import Sorting

N_CHANNELS, SECONDS, N_UNITS, SEED = 8, 30.0, 5, 1
SNR = (8.0, 25.0)
"""Of neurons that no sorter should miss."""
SHORT, LONG = 1, 7
"""Blocks of a chunk"""
SPACING_MS = 2.0
"""Between the spikes of two neurons at one border"""
QUIET_MS = 30.0
"""Around a border no other spikes are."""
SAME_MS = 0.4
"""A found spike this close to the true one is it."""
LEAST_ACCURACY = 0.95


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was found, and whether that is as it should be."""

    name: str
    found: str
    is_well: bool

    def __str__(self) -> str:
        return f"{self.name:<24}{self.found:<76}{'ok' if self.is_well else 'NOT WELL'}"


def run(executor: Executor, folder: Path | None = None) -> tuple[list[Check], float]:
    """Sort twice on an executor, and check.

    Parameters
    ----------
    executor : where it runs; workers elsewhere must see the folder
    folder : where recording and sorts go, kept; None: a temporary folder

    Returns
    -------
    The checks, and the seconds that both sorts took.

    Raises
    ------
    InputError
        The folder is in use, or workers cannot see it.
    """
    from yass_dask import SortParams, Store, from_config, sort

    began, scene = time.perf_counter(), with_border_spikes(plan(N_CHANNELS, SECONDS, N_UNITS, SEED, snr=SNR))
    with _kept(folder) as kept, executor.open() as opened:
        recording = from_config(write(kept / "recording", scene))
        params = SortParams(n_refinements=1)
        sorts = [
            sort(recording.with_chunks(blocks), Store(kept / f"chunks-of-{blocks}", "overwrite"), params, client=opened)
            for blocks in (SHORT, LONG)
        ]
        checks = [
            borders(scene, sorts[0]),
            same_bytes(*sorts),
            accuracy(agreement_of(scene, sorts[0])),
            stored(sorts[0]),
        ]
    return checks, time.perf_counter() - began


@contextmanager
def _kept(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="yass-selftest-") as temporary:
            yield Path(temporary)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another --folder") from error
    yield folder.absolute()


def border_times(scene: Scene) -> np.ndarray:
    """(n_borders,) first sample after each border between two blocks."""
    size = block_samples(scene.sampling_rate, len(scene.positions))
    return np.arange(size, scene.n_samples - size // 2, size)


def with_border_spikes(scene: Scene) -> Scene:
    """The scene where nothing fires around borders but every neuron once, each time in another order and elsewhere."""
    rng, rate = np.random.default_rng(SEED), scene.sampling_rate / 1000
    borders, n_units = border_times(scene), len(scene.waveforms)
    quiet = np.abs(scene.spike_times[:, None] - borders).min(axis=1) > QUIET_MS * rate
    places = (np.arange(n_units) - (n_units - 1) / 2) * SPACING_MS * rate
    times = (borders[:, None] + np.rint(places + rng.uniform(-1, 1, (len(borders), 1)) * SPACING_MS * rate)).astype(int)
    labels = np.stack([rng.permutation(n_units) for _ in borders])
    jitters = rng.integers(0, scene.waveforms.shape[1], times.size)
    all_times = np.concatenate([scene.spike_times[quiet], times.ravel()])
    all_labels = np.concatenate([scene.spike_labels[quiet], labels.ravel()])
    order = np.lexsort((all_labels, all_times))
    return replace(
        scene,
        spike_times=all_times[order],
        spike_labels=all_labels[order],
        spike_jitters=np.concatenate([scene.spike_jitters[quiet], jitters])[order],
        spike_scales=np.concatenate([scene.spike_scales[quiet], np.ones(times.size, np.float32)])[order],
    )


def agreement_of(scene: Scene, sorting: Sorting) -> Agreement:
    """The sorting against the true spikes."""
    found = Spikes(sorting.sample_index, sorting.unit_index)
    return compare(Spikes(scene.spike_times, scene.spike_labels), found, scene.sampling_rate, snr=scene.snr)


def borders(scene: Scene, sorting: Sorting) -> Check:
    """Whether each spike at a border was found, and none twice."""
    rate, times = scene.sampling_rate / 1000, scene.spike_times
    near = np.abs(times[:, None] - border_times(scene)).min(axis=1) <= QUIET_MS * rate
    n_found = n_twice = 0
    for unit in agreement_of(scene, sorting).units:
        mine = times[near & (scene.spike_labels == unit.unit_id)] + round(unit.offset_samples or 0)
        train = np.zeros(0, np.int64) if unit.matched_unit is None else sorting.times_of(unit.matched_unit)
        n_near = (np.abs(train - mine[:, None]) <= round(SAME_MS * rate)).sum(axis=1)
        n_found += int((n_near > 0).sum())
        n_twice += int((n_near > 1).sum())
    said = f"{n_found} of {int(near.sum())} spikes at chunk borders found, {n_twice} of them twice"
    return Check("borders", said, n_found == near.sum() and n_twice == 0)


def same_bytes(first: Sorting, second: Sorting) -> Check:
    """Whether two sorts found the same, to the last bit."""
    names = ("sample_index", "unit_index", "amplitudes", "templates")
    bytes_of = [{name: np.asarray(getattr(one, name)).tobytes() for name in names} for one in (first, second)]
    differing = [name for name in names if bytes_of[0][name] != bytes_of[1][name]]
    told = f"differ in {', '.join(differing)}" if differing else "the same bytes"
    return Check("same answer", f"chunks of {SHORT} and of {LONG} blocks: {told}", not differing)


def accuracy(agreement: Agreement) -> Check:
    """Whether neurons were found as well as they should be."""
    mean, n_false, n_units = agreement.mean_accuracy, len(agreement.false_units), len(agreement.units)
    said = f"{agreement.n_matched} of {n_units} neurons, {n_false} false, mean accuracy {mean:.3f}"
    return Check("accuracy", f"{said} (at least {LEAST_ACCURACY})", mean >= LEAST_ACCURACY and n_false == 0)


def stored(sorting: Sorting) -> Check:
    """Whether the disk gives back what was written."""
    found = sorting.verify()
    said = f"{found.n_chunks} chunks read back, {len(found.damages)} not as written"
    return Check("disk", said, found.is_whole)
