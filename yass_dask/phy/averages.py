"""Templates of groups of spikes, averaged on the clean traces of a finished sort."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yass_dask.errors import InputError
from yass_dask.evaluate.trains import evenly
from yass_dask.preprocess import COUNTS_PER_SD
from yass_dask.sorting import Sorting

MOST_SPIKES = 500
"""Spikes averaged per group, spread evenly over the recording."""


def average_again(sorting: Sorting, groups: Sequence[np.ndarray]) -> list[np.ndarray]:
    """(n_template_samples, n_channels) average waveform of each group of spikes, in the templates' unit.

    What other spikes add is subtracted first: a spike is averaged as its template before, at its size, with what is
    left of the traces around it. Channels on which no template of the group was before stay zero.

    Parameters
    ----------
    groups : rows of the sorting's spikes

    Raises
    ------
    InputError
        The sorting lies in no folder of a sort whose clean traces were kept.
    """
    from yass_dask.report.sampled import residual_of
    from yass_dask.store import store_of

    store = store_of(sorting.path)
    if store is None:
        raise InputError("this sorting lies in no folder of a sort: its clean traces are needed to average them again")
    residual = residual_of(sorting, store)
    recording, length = residual.recording, sorting.templates.shape[1]
    sums = [np.zeros(sorting.templates.shape[1:]) for _ in groups]
    counts = np.zeros(len(groups), np.int64)
    per_sd = np.ones(sorting.n_channels) if sorting.trace_gain is None else sorting.trace_gain * COUNTS_PER_SD
    chosen, of_group = _chosen(groups)
    rows = np.searchsorted(sorting.unit_ids, sorting.unit_index[chosen])
    heights = np.array([np.abs(template).max() or 1.0 for template in sorting.templates])
    scales = np.abs(sorting.amplitudes[chosen]) / heights[rows]
    first_rows = sorting.sample_index[chosen] - sorting.template_peak
    inside = (first_rows >= 0) & (first_rows + length <= recording.n_samples)
    block = recording.block_samples
    for number in np.unique(first_rows[inside] // block):
        start = int(number) * block
        stop = min(start + block + length, recording.n_samples)
        left = residual.within(start, stop).to_sd(recording.source.read(start, stop), start)
        for k in np.flatnonzero(inside & (first_rows // block == number)):
            at = int(first_rows[k]) - start
            wave = np.asarray(left[at : at + length]) * per_sd
            sums[of_group[k]] += wave + scales[k] * sorting.templates[rows[k]]
            counts[of_group[k]] += 1
    averages = []
    for group, total, count in zip(groups, sums, counts.tolist(), strict=True):
        before = sorting.templates[np.searchsorted(sorting.unit_ids, np.unique(sorting.unit_index[group]))]
        used = (before != 0).any(axis=(0, 1))
        averages.append((total / max(count, 1) * used).astype(np.float32))
    return averages


def _chosen(groups: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Some spikes of each group in order of time, and their groups."""
    some = [np.sort(group)[evenly(len(group), MOST_SPIKES)] for group in groups]
    return np.concatenate(some), np.repeat(np.arange(len(some)), [len(one) for one in some])
