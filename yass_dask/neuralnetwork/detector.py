"""The detector network, and how it goes through a recording."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.chunked import Chunk, Rows, blocks, chunk_tasks, joined_traces
from yass_dask.errors import InputError
from yass_dask.neuralnetwork import files
from yass_dask.neuralnetwork.scan import LIMITS, Judge, Scan, for_rate, padded, probability_of
from yass_dask.neuralnetwork.settings import Settings
from yass_dask.neuralnetwork.triage import WaveformClassifier

if TYPE_CHECKING:
    from yass_dask.recording import Recording

OUTPUTS = ("spike_index", "waveform", "probability")
EXCLUSION_MS = 0.4
"""A spike is found once within this time, on the channels of `channel_index`."""


class NeuralNetDetector(WaveformClassifier):
    """Finds spikes, alone or collided.

    Parameters
    ----------
    path_to_model : where the trained model is saved: an npz file, and a yaml file beside it
    filters_size : filters along time and mixtures of them, YASS's [16, 8]; a third number: a hidden layer over channels
    waveform_length : samples of a waveform
    n_neighbors : channels of a waveform
    threshold : probability from which something is a spike
    channel_index : (n_channels, any number) each channel, then its neighbours by distance, padded with n_channels
        Of more than n_neighbors channels the network sees the first.
    n_iter, n_batch, l2_reg_scale, train_step_size : see `Settings`; n_iter is an upper bound
    load_test_set : read the test set that an earlier fit has saved
    sampling_rate : samples per second of the waveforms, for the card
    seed : the same seed, the same weights

    Raises
    ------
    InputError
        Values that no network can have.
    """

    KIND = "detect"
    SPIKE, NOT_SPIKE = 1, 0

    def __init__(
        self, path_to_model: str | Path, filters_size: Sequence[int], waveform_length: int, n_neighbors: int,
        threshold: float, channel_index: np.ndarray, n_iter: int = 50000, n_batch: int = 512,
        l2_reg_scale: float = 5e-8, train_step_size: float = 1e-3, load_test_set: bool = False, *,
        sampling_rate: float | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        settings = Settings(
            n_iter=n_iter, n_batch=n_batch, l2_reg_scale=l2_reg_scale, train_step_size=train_step_size, seed=seed
        )
        super().__init__(
            path_to_model, filters_size, waveform_length, n_neighbors, threshold, settings, load_test_set, sampling_rate
        )
        self.channel_index = np.asarray(channel_index)
        if self.channel_index.ndim != 2 or not np.issubdtype(self.channel_index.dtype, np.integer):
            raise InputError(
                f"channel_index has shape {self.channel_index.shape} and type {self.channel_index.dtype}: "
                "give whole numbers (n_channels, n_neighbors), see geometry.make_channel_index"
            )

    @classmethod
    def load(
        cls, path_to_model: str | Path, threshold: float, channel_index: np.ndarray, load_test_set: bool = False
    ) -> NeuralNetDetector:
        """Load a model from a file.

        Raises
        ------
        InputError
            The file is missing, damaged, or another kind of network.
        """
        network, card = files.load(path_to_model, cls.KIND)
        made = cls(
            path_to_model, card.filters_size, card.waveform_length, card.n_neighbors, threshold, channel_index,
            load_test_set=load_test_set,
        )  # fmt: skip
        made.network, made.card = network, card
        return made

    def predict_recording(
        self, recording: Recording | np.ndarray, output_names: Sequence[str] = ("spike_index",), sess: object = None
    ) -> tuple[Any, ...]:
        """Find the spikes of a recording.

        Parameters
        ----------
        recording : traces as the network was trained on: standardized, and whitened if its waveforms were
            (n_samples, n_channels) array: arrays come back. Recording: nothing is computed yet, dask arrays come back,
            made chunk by chunk, each with its halo; the chunks do not change the result.
        output_names : which of these to return, in this order
            "spike_index": (n_spikes, 2) int64, sample and channel; "waveform": (n_spikes, waveform_length,
            n_neighbors) around them; "probability": (n_samples, n_channels) float32, 0 where nothing reaches FLOOR_SD.
        sess : not used (TensorFlow's)

        Raises
        ------
        InputError
            An unknown output, another number of channels or another rate than the network's.
        """
        from yass_dask.recording import Recording

        unknown = sorted(set(output_names) - set(OUTPUTS))
        if unknown:
            raise InputError(f"output_names holds {unknown}; allowed are {', '.join(OUTPUTS)}")
        if isinstance(recording, Recording):
            return tuple(self._lazy(recording, self._scan(recording), name) for name in output_names)
        lazy = self.predict_recording(self._opened(np.asarray(recording)), output_names)
        return tuple(np.asarray(output.compute(scheduler="sync")) for output in lazy)

    def _opened(self, traces: np.ndarray) -> Recording:
        from yass_dask.readers import from_array

        if traces.ndim != 2 or traces.shape[1] != len(self.channel_index):
            raise InputError(
                f"the recording has shape {traces.shape}, channel_index {len(self.channel_index)} channels: "
                "give traces (n_samples, n_channels) and the channel_index of their probe"
            )
        places = np.stack([np.zeros(traces.shape[1]), np.arange(traces.shape[1])], axis=1)
        return from_array(traces.astype(np.float32), self.card.sampling_rate or 30000.0, places)

    def _scan(self, recording: Recording) -> Scan:
        if recording.n_channels != len(self.channel_index):
            raise InputError(
                f"the recording has {recording.n_channels} channels, channel_index {len(self.channel_index)}; "
                "load the model with the channel_index of this probe"
            )
        network, before = for_rate(self._trained(), self.card, recording.sampling_rate)
        near = padded(self.channel_index, self.card.n_neighbors, recording.n_channels)
        judge = Judge(network, near, before, LIMITS[self.KIND], "numba")
        exclusion = recording.samples(EXCLUSION_MS)
        whole = self.channel_index.astype(np.int32)
        return Scan(judge, recording.sampling_rate, self.log_odds, 0, exclusion, whole)

    def _lazy(self, recording: Recording, scan: Scan, name: str) -> Any:
        import dask.array as da

        tasks = chunk_tasks(name, _chunk, recording, scan.halo, scan, name)
        if name == "probability":
            return joined_traces(tasks, recording, np.float32)
        empty = _output(name, np.zeros((0, recording.n_channels), np.float32), scan, 0, 0, 0)
        shape = (np.nan, *empty.shape[1:])
        pieces = [da.from_delayed(task, shape, meta=empty) for task in tasks.values()]
        return da.concatenate(pieces, allow_unknown_chunksizes=True)


def _chunk(overlapped: np.ndarray | Rows, chunk: Chunk, scan: Scan, name: str) -> np.ndarray:
    """One output of a chunk."""
    halo = scan.halo
    return np.concatenate([
        _output(name, np.asarray(block.traces, np.float32), scan, halo, halo + block.stop - block.start, block.start)
        for block in blocks(overlapped, chunk, halo)
    ])  # fmt: skip


def _output(name: str, traces: np.ndarray, scan: Scan, first: int, stop: int, start: int) -> np.ndarray:
    """One output of rows [first, stop) of whitened traces; row `first` is sample `start` of the recording."""
    if name == "probability":
        return probability_of(scan.map(traces, first, stop)[first:stop])
    rows, channels, _ = scan.peaks(traces, first, stop)
    if name == "spike_index":
        return np.stack([rows.astype(np.int64) + (start - first), channels.astype(np.int64)], axis=1)
    judge = scan.judge
    at = (rows + judge.reach - judge.before)[:, None] + np.arange(len(judge.network.temporal))
    wide = np.pad(traces, ((judge.reach, judge.reach), (0, 1)))
    waveforms: np.ndarray = wide[at[:, :, None], judge.channels[channels][:, None, :]]
    return waveforms
