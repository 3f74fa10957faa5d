"""The plain arrays that describe templates to the pursuit kernels."""

from typing import NamedTuple

import numpy as np

SAME_AMPLITUDE = 1e-5
"""A spike fitted again at its place with an amplitude that differs by no more than this stays as it was."""


class Bank(NamedTuple):
    """Low-rank whitened templates of one block, and what the pursuit needs to know about them.

    w_u[t, c] = sum_r temporal[u, r, t] * spatial[u, r, c] is the template of unit u on whitened traces.
    """

    temporal: np.ndarray
    """(n_units, rank, n_samples) float32"""
    spatial: np.ndarray
    """(n_units, rank, n_support) float32, singular values included"""
    support: np.ndarray
    """(n_units, n_support) int32, channels; padded with n_channels (weight 0)"""
    norms: np.ndarray
    """(n_units,) float32, squared norm of w_u"""
    thresholds: np.ndarray
    """(n_units,) float32, least gain of an accepted spike"""
    noise: np.ndarray
    """(n_units,) float32, variance of the noise along each template"""
    precision: np.ndarray
    """(n_units,) float32, how strongly amplitudes are held to 1"""
    pair_start: np.ndarray
    """(n_units + 1,) int64: pairs of unit u are pair_start[u] to pair_start[u + 1]"""
    pair_unit: np.ndarray
    """(n_pairs,) int32, the units whose templates overlap with u in space (u itself included)"""
    pair_overlap: np.ndarray
    """(n_pairs, 2 * n_samples - 1) float32: [p, lag + n_samples - 1] = sum w_u[t + lag] w_v[t], v = pair_unit[p]"""
    filters: np.ndarray
    """(n_shifts, 2 * reach + 1) float32, see `yass_dask.subsample`"""
    peak: int
    """Sample of a template at which its spike's time lies"""
    refractory: int
    """A unit fires again only after more than this many samples"""
    amplitude_low: float
    amplitude_high: float


PER_UNIT = ("temporal", "spatial", "support", "norms", "thresholds", "noise", "precision")


def of_units(bank: Bank, units: np.ndarray) -> Bank:
    """The bank of some units alone, in the order given; pairs are in the order of the bank's."""
    new = np.full(len(bank.norms), -1, np.int32)
    new[units] = np.arange(len(units))
    pairs = np.concatenate([np.arange(bank.pair_start[u], bank.pair_start[u + 1]) for u in units] or [np.zeros(0, int)])
    first = np.repeat(np.arange(len(units)), [bank.pair_start[u + 1] - bank.pair_start[u] for u in units])
    other = new[bank.pair_unit[pairs]]
    here = other >= 0
    n_pairs = np.bincount(first[here], minlength=len(units))
    return bank._replace(
        **{name: getattr(bank, name)[units] for name in PER_UNIT},
        pair_start=np.concatenate([[0], np.cumsum(n_pairs)]).astype(np.int64),
        pair_unit=other[here],
        pair_overlap=bank.pair_overlap[pairs[here]],
    )


class Spikes(NamedTuple):
    """Spikes of one block; rows are rows of the block's traces."""

    row: np.ndarray
    unit: np.ndarray
    shift: np.ndarray
    """index into Bank.filters"""
    amplitude: np.ndarray
    gain: np.ndarray
    """decrease of the squared norm of the whitened traces, less the price of an unusual amplitude"""


def no_spikes() -> Spikes:
    """Zero spikes."""
    integers = np.zeros(0, np.int32)
    return Spikes(integers, integers, integers, np.zeros(0, np.float32), np.zeros(0, np.float32))


def sorted_spikes(spikes: Spikes) -> Spikes:
    """In the order of row, then unit."""
    order = np.lexsort((spikes.unit, spikes.row))
    return Spikes(*(part[order] for part in spikes))
