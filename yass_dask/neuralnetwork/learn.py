"""Networks for a recording, out of the recording itself: clean templates, planted into its own noise, learned."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yass_dask.augment.examples import Examples
from yass_dask.augment.plant import far_from
from yass_dask.augment.standardized import check_spike_train, mean_waveforms
from yass_dask.detect import DetectParams, Finder, detect
from yass_dask.errors import InputError
from yass_dask.evaluate.detections import TRUE, match_detections
from yass_dask.features import choose_peaks, measure_basis, measure_features
from yass_dask.neuralnetwork.background import White, whitened
from yass_dask.neuralnetwork.files import KINDS
from yass_dask.neuralnetwork.fitting import fit_all
from yass_dask.neuralnetwork.metrics import precision_recall, recall_at
from yass_dask.neuralnetwork.models import chosen_model
from yass_dask.neuralnetwork.plan import TrainParams, examples_of, planted_in
from yass_dask.neuralnetwork.scan import WINDOW_UM, Judge, candidates
from yass_dask.neuralnetwork.waveforms import training
from yass_dask.noise import measure_spectrum
from yass_dask.pipeline import SortParams, cluster_peaks
from yass_dask.refine import first_units
from yass_dask.templates import Templates, average

if TYPE_CHECKING:
    from yass_dask.augment.plant import Planted
    from yass_dask.monitor.progress import Progress
    from yass_dask.recording import Recording
    from yass_dask.runtime import Executor

_log = logging.getLogger("yass_dask")

MAX_S = 300.0
"""So many seconds, from the middle of a longer recording, are enough to learn from."""
TEST_SHARE = 0.2
"""Last part of the background: detectors are compared on spikes planted there."""
PLANTINGS, MOST_PLANTED = 5, 150_000
"""Times that spikes are planted into the same background, as long as they are not more than so many."""
LEAST_TEMPLATES = 2
LEAST_SPIKES = 30
"""A template of fewer spikes holds too much noise to be planted."""
PRECISION = 0.9
TOLERANCE_MS = 0.4
LOWEST_SD, LOWEST_PROBABILITY = 2.5, 1e-3


@dataclass(frozen=True)
class Curve:
    """Precision and recall of a detector as its threshold falls."""

    precision: np.ndarray
    recall: np.ndarray

    @property
    def at_best(self) -> float:
        """Recall where the precision is PRECISION."""
        return recall_at(self.precision, self.recall, PRECISION)


@dataclass(frozen=True)
class Learned:
    """What came of a training."""

    folder: Path
    n_templates: int
    metrics: Mapping[str, Mapping[str, Any]]
    curves: Mapping[str, Curve]
    """threshold, network: on spikes planted into a stretch that was not learned from"""


def learn(
    recording: Recording, folder: Path, sorting: SortParams, params: TrainParams, *,
    spike_train: np.ndarray | None = None, backend: str = "auto", seed: int = 0, client: Executor | None = None,
    progress: Progress | None = None,
) -> Learned:  # fmt: skip
    """Train detector, triage and denoiser for a recording, and write them into a folder.

    Training goes on from the package's networks where the sizes are theirs.

    Parameters
    ----------
    spike_train : (n_spikes, 2) sample and unit; None: units are found by a threshold pass and clustering
    client : where the preprocessing and the threshold pass run

    Raises
    ------
    InputError
        Too few clean templates, a bad spike train, or JAX is not installed.
    """
    training()  # without JAX, no minutes of preprocessing either
    if spike_train is not None:
        spike_train = check_spike_train(spike_train, recording.n_samples)
    recording, first = _middle(recording)
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix="work-") as work,
        whitened(
            recording, Path(work), sorting.preprocess, backend=backend, client=client, progress=progress
        ) as (white, keep),
    ):  # fmt: skip
        found = _found(white, keep, sorting) if spike_train is None else _given(white, spike_train, first, sorting)
        templates, peak = _clean(white, found, params), found.peak
        background = white.pieces(params.background_s)
        cut = round((1 - TEST_SHARE) * len(background))
        empty = _empty(background, white)

        def plant(some: slice, turn: int) -> Planted:
            planted = planted_in(background[some], templates, peak, white.recording, params, seed + turn)
            return replace(planted, known=planted.known & empty[some])

        # One after the other: of many channels, the planted traces are the largest arrays.
        sets = [
            examples_of(plant(slice(cut), turn), white.recording, params, white.backend, seed)
            for turn in range(_plantings(params, recording.n_channels, cut / recording.sampling_rate))
        ]
        metrics = fit_all(
            folder, Examples.joined(sets), params, seed=seed,
            start={kind: chosen_model(None, kind)[0] for kind in KINDS},
            training_data=f"{len(templates)} templates of {background.shape[1]} channels, planted into "
            f"{cut / recording.sampling_rate:.0f} s of the recording",
            rates_hz=(recording.sampling_rate, recording.sampling_rate), recording=recording,
        )  # fmt: skip
        curves = _compared(white, plant(slice(cut, None), PLANTINGS), folder, sorting.detect)
    return Learned(folder, len(templates), metrics, curves)


def _middle(recording: Recording) -> tuple[Recording, int]:
    """At most MAX_S from the middle, and the sample it begins with."""
    start = recording.samples(500 * max(0.0, recording.duration_s - MAX_S))
    if start == 0:
        return recording, 0
    return recording[start : start + recording.samples(1e3 * MAX_S)], start


def _found(white: White, keep: Callable[..., Any], sorting: SortParams) -> Templates:
    """Templates of the units that a threshold pass and clustering give."""
    clean, noise, backend = white.clean, white.noise, white.backend
    params = sorting.detect.model_copy(update={"method": "threshold", "triage": False})
    matched = keep("spectrum", measure_spectrum(clean, noise, sorting.preprocess, backend))
    peaks = keep("detect", detect(clean, noise, params, backend))
    basis = keep("basis", measure_basis(clean, matched, peaks, sorting.features, backend))
    chosen = keep("chosen", choose_peaks(peaks, sorting.features))
    features = keep("features", measure_features(clean, matched, chosen, basis, sorting.features, backend))
    members = cluster_peaks(keep, "", features, sorting, backend)
    means = keep("means", average(clean, members, sorting.templates, backend))
    found: Templates = keep("templates", first_units(means, clean, matched, sorting.templates)).templates
    return found


def _given(white: White, train: np.ndarray, first: int, sorting: SortParams) -> Templates:
    """Templates of the units of a spike train."""
    recording = white.recording
    train = train - np.array([first, 0])
    reach = max(recording.samples(ms) for ms in (sorting.templates.before_ms, sorting.templates.after_ms))
    train = train[(train[:, 0] >= reach) & (train[:, 0] < recording.n_samples - reach)]
    units, counts = np.unique(train[:, 1], return_counts=True)
    means = mean_waveforms(white.clean, train, units.tolist(), reach)
    channels = np.tile(np.arange(recording.n_channels, dtype=np.int32), (len(units), 1))
    return Templates(means, channels, counts, units, reach, recording.n_channels)


def _clean(white: White, found: Templates, params: TrainParams) -> np.ndarray:
    """Whitened templates (n_units, n_samples, n_channels) with enough spikes and large enough to be planted."""
    enough = found.select(np.flatnonzero(found.n_spikes >= LEAST_SPIKES))
    templates = white.whiten(enough.without_noise().dense())
    templates = templates[np.abs(templates).max(axis=(1, 2), initial=0) >= params.min_template]
    if len(templates) < LEAST_TEMPLATES:
        raise InputError(
            f"only {len(templates)} units have {LEAST_SPIKES} spikes or more and a template above "
            f"{params.min_template:g} noise standard deviations: too few spikes to train on; give a longer recording, "
            "a spike train with more units (--spike-train), or use the networks of the package"
        )
    _log.info("%d clean templates of %d units", len(templates), len(found))
    return templates


def _plantings(params: TrainParams, n_channels: int, seconds: float) -> int:
    """How often spikes are planted into a background: on many channels once is enough."""
    return int(np.clip(MOST_PLANTED // max(params.spikes_per_s * n_channels * seconds, 1), 1, PLANTINGS))


def _empty(background: np.ndarray, white: White) -> np.ndarray:
    """(n_samples, n_channels) bool: the package's detector sees no spike nearby.

    Too small to be loud, spikes of the recording would be learned as noise.
    """
    recording = white.recording
    network, card = chosen_model(None, "detect")
    low, high = card.rates_hz or (0.0, 0.0)
    if not low <= recording.sampling_rate <= high:
        return np.ones(background.shape, bool)
    judge = Judge.of(network, card, recording, white.backend)
    rows, channels = candidates(background, recording.sampling_rate, 0, 0, len(background), white.backend)
    likely = judge.log_odds(background, rows, channels) >= 0
    places = np.zeros(background.shape, bool)
    places[rows[likely], channels[likely]] = True
    return far_from(places, recording.neighbors(WINDOW_UM), recording.sampling_rate)


def _compared(white: White, test: Planted, folder: Path, params: DetectParams) -> dict[str, Curve]:
    """Curves of the threshold detector and of the new network."""
    ways = {
        "threshold": params.model_copy(update={"method": "threshold", "threshold_sd": LOWEST_SD}),
        "network": params.model_copy(
            update={"method": "nnet", "model": str(folder), "probability": LOWEST_PROBABILITY}
        ),
    }
    return {name: _curve(white, test, way) for name, way in ways.items()}


def _curve(white: White, test: Planted, params: DetectParams) -> Curve:
    """Of one detector, where nothing but planted spikes is known to be."""
    params = params.model_copy(update={"triage": False})
    recording, spikes = white.recording, test.spikes
    finder = Finder.of(white.clean, white.noise, params, white.backend)
    rows, channels, _, strengths = finder.found(test.traces, 0, len(test.traces))
    main = test.bank.sizes.argmax(axis=1)
    matched = match_detections(
        rows, channels, strengths, spikes.times, spikes.units, test.bank.sizes * np.median(spikes.scales),
        recording.neighbors(params.radius_um), recording.samples(TOLERANCE_MS),
    )  # fmt: skip
    known, asked = test.known[rows, channels], test.known[spikes.times, main[spikes.units]]
    precision, _ = precision_recall(matched.status[known] == TRUE, strengths[known])
    levels = np.unique(strengths[known])[::-1]
    reached = np.sort(matched.found[asked])
    recall = 1 - np.searchsorted(reached, levels) / max(len(reached), 1)
    return Curve(precision, recall)
