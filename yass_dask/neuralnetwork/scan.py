"""Networks at work on traces: candidates, their log-odds, and the peaks among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from yass_dask.backends import kernel, on_host
from yass_dask.errors import InputError
from yass_dask.events import close_pairs
from yass_dask.geometry import nearest_channels
from yass_dask.kernels.network import Classifier
from yass_dask.neuralnetwork.architecture import at_rate
from yass_dask.neuralnetwork.files import Card

if TYPE_CHECKING:
    from yass_dask.recording import Recording

FLOOR_SD, APART_MS = 2.25, 0.1
"""The detector looks at extrema in time, the largest within APART_MS, that reach FLOOR_SD or more: it is trained on
such extrema only."""
WINDOW_UM = 100.0
"""A network sees the nearest channels within this distance."""
SAME_RATE = 0.01
OTHER_NETWORKS = "train networks on it (yass train), or use those of the package (leave out the model)"
LIMITS = {"detect": np.inf, "triage": 12.0}
"""Windows of larger values are scaled down to these: collisions of large spikes look like those of smaller ones, while
a detector must tell a large spike from its own side lobes."""


@dataclass(frozen=True)
class Judge:
    """A classifier made ready for one recording."""

    network: Classifier
    channels: np.ndarray
    """(n_channels, n_neighbors) int32"""
    before: int
    limit: float
    """Larger windows are scaled down to it"""
    backend: str

    @classmethod
    def of(cls, network: Classifier, card: Card, recording: Recording, backend: str) -> Judge:
        """Channels by distance, windows resampled to the recording's rate.

        Raises
        ------
        InputError
            The network was trained at another rate than the recording's, or on fewer channels.
        """
        network, before = for_rate(network, card, recording.sampling_rate)
        _check_channels(card, n_seen(recording, card.n_neighbors))
        channels = window_channels(recording, card.n_neighbors)
        return cls(network, channels, before, LIMITS[card.kind], backend)

    @property
    def reach(self) -> int:
        """Rows before and after an event that are looked at, at most."""
        return max(self.before, len(self.network.temporal) - 1 - self.before)

    def log_odds(self, traces: np.ndarray, rows: np.ndarray, channels: np.ndarray) -> np.ndarray:
        """(n,) float32 of events on whitened traces."""
        odds = kernel("classify", self.backend)(
            traces, rows=rows, channels=self.channels[channels], before=self.before, network=self.network,
            limit=self.limit,
        )  # fmt: skip
        result: np.ndarray = on_host(odds)
        return result


def for_rate(network: Classifier, card: Card, rate: float) -> tuple[Classifier, int]:
    """The network for windows of a recording, and the rows before the event's."""
    own = card.sampling_rate
    if own is None:
        return network, card.waveform_length // 2
    low, high = card.rates_hz or (own, own)
    if not low * (1 - SAME_RATE) <= rate <= high * (1 + SAME_RATE):
        trained = f"{low:g} Hz" if low == high else f"{low:g} to {high:g} Hz"
        raise InputError(
            f"the {card.kind} network is for recordings of {trained}, this one has {rate:g} Hz: {OTHER_NETWORKS}"
        )
    if abs(rate - own) <= SAME_RATE * own:
        return network, card.waveform_length // 2
    return at_rate(network, own, rate)


def n_seen(recording: Recording, n_neighbors: int) -> int:
    """Most channels that a window of n_neighbors really has on a recording's probe."""
    channels = window_channels(recording, n_neighbors)
    return int((channels < recording.n_channels).sum(axis=1).max(initial=0))


def _check_channels(card: Card, n: int) -> None:
    # Weights of channels that were zero all through the training are whatever they were at its beginning.
    if card.channels_seen is not None and n > card.channels_seen:
        raise InputError(
            f"the {card.kind} network was trained on windows of {card.channels_seen} channels at most, this recording "
            f"has {n} within {WINDOW_UM:g} um: {OTHER_NETWORKS}"
        )


def window_channels(recording: Recording, n_neighbors: int) -> np.ndarray:
    """(n_channels, n_neighbors) int32: the nearest channels within WINDOW_UM, padded with n_channels."""
    near = nearest_channels(recording.neighbors(WINDOW_UM), recording.probe.positions, n_neighbors)
    return padded(near, n_neighbors, recording.n_channels)


def padded(channels: np.ndarray, n_neighbors: int, n_channels: int) -> np.ndarray:
    """Lists of channels cut or padded to a length."""
    missing = max(0, n_neighbors - channels.shape[1])
    return np.pad(channels[:, :n_neighbors], ((0, 0), (0, missing)), constant_values=n_channels).astype(np.int32)


def candidates(
    traces: np.ndarray, sampling_rate: float, sign: int, first: int, stop: int, backend: str, floor: float = FLOOR_SD
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and channels of extrema in time from `floor` on, of each channel by itself, with first <= row < stop."""
    alone = np.arange(traces.shape[1], dtype=np.int32)[:, None]
    found = kernel("find_peaks", backend)(
        traces, threshold=floor, sign=sign, exclusion=apart(sampling_rate), neighbors=alone, first=first, stop=stop
    )
    rows, channels, _ = on_host(found)
    return rows, channels


def apart(sampling_rate: float) -> int:
    """Samples that two candidates of a channel are apart, at least."""
    return max(1, round(APART_MS * sampling_rate / 1e3))


@dataclass(frozen=True)
class Scan:
    """A detector network's peaks: candidates of the largest log-odds nearby in time and space."""

    judge: Judge
    sampling_rate: float
    least_log_odds: float
    sign: int
    exclusion: int
    neighbors: np.ndarray
    """(n_channels, n_near) int32, padded: channels on which a spike is found once"""
    floor: float = FLOOR_SD
    """Lower extrema are not looked at"""

    @property
    def halo(self) -> int:
        """Rows before and after that decide about a peak."""
        return self.exclusion + self.judge.reach + apart(self.sampling_rate)

    def map(self, traces: np.ndarray, first: int, stop: int) -> np.ndarray:
        """Log-odds of candidates in their places, (n_rows, n_channels) float32; -inf elsewhere."""
        odds = np.full(traces.shape, -np.inf, np.float32)
        rows, channels, found = self._judged(traces, first, stop)
        odds[rows, channels] = found
        return odds

    def peaks(self, traces: np.ndarray, first: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows and channels of the peaks with first <= row < stop, by row, then channel, and their log-odds."""
        rows, channels, odds = self._judged(traces, max(0, first - self.exclusion), stop + self.exclusion)
        likely = odds >= np.float32(self.least_log_odds)
        rows, channels, odds = rows[likely], channels[likely], odds[likely]
        peak = (rows >= first) & (rows < stop)
        # As the kernel find_peaks has it on the map: of equally likely ones the earlier, then the lower channel.
        for earlier, later, close in close_pairs(rows, channels, self.exclusion, self.neighbors):
            peak[earlier] &= ~(close & (odds[later] > odds[earlier]))
            peak[later] &= ~(close & (odds[earlier] >= odds[later]))
        return rows[peak], channels[peak], odds[peak]

    def _judged(self, traces: np.ndarray, first: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows and channels of the candidates with first <= row < stop, and their log-odds."""
        how = (self.sampling_rate, self.sign, first, min(len(traces), stop), self.judge.backend, self.floor)
        rows, channels = candidates(traces, *how)
        return rows, channels, self.judge.log_odds(traces, rows, channels)


def log_odds_of(probability: float) -> float:
    """Of a probability between 0 and 1."""
    with np.errstate(divide="ignore"):
        return float(np.log(probability) - np.log1p(-probability))


def probability_of(log_odds: np.ndarray) -> np.ndarray:
    """The other way round, float32."""
    return (0.5 * (1 + np.tanh(0.5 * log_odds.astype(np.float64)))).astype(np.float32)
