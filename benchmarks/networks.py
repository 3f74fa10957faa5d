"""How well the networks do on hybrid recordings, made by another generator than what they were trained on.

    python -m benchmarks.networks --data DATA                 # writes benchmarks/results/networks.md
    python -m benchmarks.networks --development --model FOLDER --out PAGE

Networks of the package, and those that `yass train` makes of the very recording, without labels. Detector: recall of
spikes of units with SNR 3 to 6 at the threshold where nine of ten detections are right, against the threshold detector
at the threshold where nine of ten of its detections are. Triage: clean waveforms kept, collided ones rejected, at the
threshold that a sort takes, which nobody's labels tell. Denoiser: mean squared error on the spike's channel against
the true waveform, beside three principal components and the best linear filter (Wiener's), both fitted to half of the
very recording's spikes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.accuracy import datasets
from benchmarks.accuracy.folders import read_truth
from yass_dask import config, subsample
from yass_dask.augment.examples import CLEAN_SD, CLEAN_SHARE, COLLIDED_SD, COLLIDED_SHARE, SPIKE, cut, label
from yass_dask.augment.plant import Bank, Planted, Spikes
from yass_dask.backends import kernel
from yass_dask.conditioning import PreprocessParams
from yass_dask.detect import DetectParams, Finder, fit_triage
from yass_dask.evaluate.detections import FALSE, TRUE, TWICE, match_detections
from yass_dask.neuralnetwork.background import White, whitened
from yass_dask.neuralnetwork.learn import learn
from yass_dask.neuralnetwork.metrics import precision_recall, recall_at
from yass_dask.neuralnetwork.models import chosen_model
from yass_dask.neuralnetwork.plan import TrainParams, windows_of
from yass_dask.neuralnetwork.scan import Judge, candidates, log_odds_of
from yass_dask.pipeline import SortParams
from yass_dask.recording import Recording
from yass_dask.runtime import Executor
from yass_dask.simulate.band import band_pass
from yass_dask.simulate.waveforms import JITTERS

RECORDINGS = [("hybrid49", 1), ("hybrid96", 1), ("hybrid32", 2), ("hybrid32", 5)]
UNSEEN = [("hybrid49", 7), ("hybrid96", 7), ("hybrid32", 7)]
"""Not looked at while sizes and limits of the networks were chosen."""
PRECISION = 0.9
SNR = (3.0, 6.0)
JITTER_SHIFTS = subsample.shift_index((np.arange(JITTERS) - JITTERS // 2) / JITTERS)
"""The hybrids' shifts by fractions of a sample."""
TOLERANCE_MS = 0.4
KEPT = 0.95
"""Share of the clean waveforms kept at the threshold that is fitted to a recording's truth."""
LIKE_YASS = 0.8
"""Size of the second spike, relative to the first, from which YASS trained its triage on."""
LOWEST_SD, LOWEST_PROBABILITY = 3.0, 0.02
"""From where on detections are listed."""


@dataclass(frozen=True)
class Scored:
    """Detections of one detector on one recording."""

    strengths: np.ndarray
    status: np.ndarray
    found: np.ndarray
    """(n_spikes,) strength with which each true spike was found"""
    cpu_seconds: float

    def recall(self, spikes: np.ndarray, *, forgiving: bool) -> float:
        """Share of some spikes found where the precision is PRECISION; 0 where it never is.

        Parameters
        ----------
        forgiving : spikes found twice do not count as false
        """
        counted = self.status != TWICE if forgiving else np.ones(len(self.status), bool)
        right, strengths = self.status[counted] == TRUE, self.strengths[counted]
        precision, _ = precision_recall(right, strengths)
        levels = np.unique(strengths)[::-1]
        recall = np.array([(self.found[spikes] >= level).mean() for level in levels])
        return recall_at(precision, recall, PRECISION)


@dataclass(frozen=True)
class Case:
    """A hybrid recording, whitened, and its truth."""

    name: str
    folder: Path
    recording: Recording
    white: White
    traces: np.ndarray
    planted: Planted
    snr: np.ndarray
    """(n_spikes,) of each spike's unit"""


def opened(name: str, seed: int, seconds: float, data: Path, folder: Path) -> Case:
    """Make a hybrid recording and whiten it."""
    datasets.make(name, seed, folder / "recording", data, seconds)
    truth = read_truth(folder / "recording")
    recording = config.load(folder / "recording" / "config.yaml").recording()
    with whitened(recording, folder / "store", PreprocessParams(), client=Executor("sync")) as (white, _):
        traces = white.read(0, recording.n_samples)
    templates = white.whiten(band_pass(truth["templates"], recording.sampling_rate) / white.clean.unit_per_sd)
    bank = Bank.of(templates, int(truth["template_peak"]), JITTER_SHIFTS)
    times, units = truth["spike_times"], truth["spike_labels"]
    size = np.abs(templates).max(axis=(1, 2))
    spikes = Spikes(times, units, truth["spike_jitters"], size[units] * truth["spike_scales"])
    planted = with_signal(traces, spikes, bank)
    return Case(f"{name}, seed {seed}", folder, recording, white, traces, planted, truth["snr"][units])


def trained(case: Case) -> str:
    """Folder of networks that learned from the recording alone."""
    target = case.folder / "model"
    target.mkdir()
    learn(case.recording, target, SortParams(), TrainParams(), client=Executor("sync"))
    return str(target)


def least_clean(case: Case, model: str | None) -> float:
    """Log-odds from which a sort takes peaks for single spikes."""
    params = DetectParams(triage=True, model=model)
    with whitened(case.recording, case.folder / "store", PreprocessParams(), client=Executor("sync")) as (white, keep):
        n_blocks = PreprocessParams().n_sampled_blocks
        fitted = fit_triage(keep, white.clean, white.noise, params, n_blocks, white.backend)
    return log_odds_of(fitted.clean_probability)


def with_signal(traces: np.ndarray, spikes: Spikes, bank: Bank) -> Planted:
    """True spikes as if they had been planted; all of the traces are known."""
    signal, length = np.zeros_like(traces), bank.waveforms.shape[2]
    for at, unit, shift, scale in zip(*(column.tolist() for column in spikes), strict=True):
        rows = signal[at - bank.peak : at - bank.peak + length]
        rows += np.float32(scale) * bank.waveforms[unit, shift, : len(rows)]
    return Planted(traces, signal, np.ones(traces.shape, bool), spikes, bank)


def detections(case: Case, params: DetectParams) -> Scored:
    """All detections of a detector, with their strengths."""
    recording = case.white.recording
    finder = Finder.of(case.white.clean, case.white.noise, params, case.white.backend)
    began = time.thread_time()
    rows, channels, _, strengths = finder.found(case.traces, 0, len(case.traces))
    took = time.thread_time() - began
    bank, spikes = case.planted.bank, case.planted.spikes
    largest = np.zeros(len(bank))
    np.maximum.at(largest, spikes.units, spikes.scales)
    matched = match_detections(
        rows, channels, strengths, spikes.times, spikes.units, bank.sizes * largest[:, None],
        recording.neighbors(params.radius_um), recording.samples(TOLERANCE_MS),
    )  # fmt: skip
    return Scored(strengths, matched.status, matched.found, took)


def detector_row(case: Case, model: str | None) -> str:
    """Line of the detectors' table."""
    middle = (case.snr >= SNR[0]) & (case.snr < SNR[1])
    threshold = detections(case, DetectParams(method="threshold", threshold_sd=LOWEST_SD))
    network = detections(case, DetectParams(method="nnet", model=model, probability=LOWEST_PROBABILITY))
    cells = [case.name, int(middle.sum())]
    for forgiving in (False, True):
        cells += [f"{one.recall(middle, forgiving=forgiving):.3f}" for one in (threshold, network)]
    usual = network.strengths >= log_odds_of(DetectParams().probability)
    right = (network.status[usual] != FALSE).mean()
    pace = case.white.recording.duration_s / network.cpu_seconds
    return table_row(
        [*cells, f"{network.recall(case.snr >= SNR[1], forgiving=True):.3f}", f"{right:.3f}", f"{pace:.0f}"]
    )


def waveform_rows(case: Case, model: str | None) -> tuple[str, str]:
    """Lines of the triage's and of the denoiser's table."""
    recording, planted = case.white.recording, case.planted
    rate = recording.sampling_rate
    rows, channels = candidates(case.traces, rate, 0, 0, len(case.traces), case.white.backend)
    kind, spike = label(planted, rows, channels, rate)
    rows, channels, spike = (column[kind == SPIKE] for column in (rows, channels, spike))
    judge = Judge.of(*chosen_model(model, "triage"), recording, case.white.backend)
    _, card = chosen_model(model, "detect")
    windows = windows_of(recording, card.waveform_length, card.n_neighbors, card.sampling_rate)
    before, matrix = windows.before, windows.resample
    own = planted.own(spike, rows, windows.channels[channels], before, matrix.shape[1]).swapaxes(1, 2)
    size = np.abs(own).max(axis=(1, 2))
    others = np.abs(cut(planted.signal, rows, channels, windows) - own).max(axis=(1, 2))
    clean = others <= np.maximum(CLEAN_SHARE * size, CLEAN_SD)
    collided = others >= np.maximum(COLLIDED_SHARE * size, COLLIDED_SD)
    alike = others >= LIKE_YASS * size
    odds = judge.log_odds(case.traces, rows, channels)
    told, best = least_clean(case, model), np.quantile(odds[clean], 1 - KEPT)
    triage = [case.name, int(clean.sum()), f"{(odds[clean] >= told).mean():.3f}", int(collided.sum())]
    triage += [f"{(odds[collided & some] < level).mean():.3f}" for level in (told, best) for some in (True, alike)]
    x = cut(case.traces, rows, channels, windows)[:, :, 0] @ matrix.T
    errors = denoiser_errors(x, own[:, :, 0] @ matrix.T, clean, model)
    return table_row(triage), table_row([case.name, len(x), *errors])


def denoiser_errors(x: np.ndarray, y: np.ndarray, clean: np.ndarray, model: str | None) -> list[str]:
    """Mean squared errors of waveforms x against y: as they are, network, three components, Wiener."""
    fitted = np.random.default_rng(0).random(len(x)) < 0.5
    network, _ = chosen_model(model, "denoise")
    denoised = kernel("denoise", "numba")(np.ascontiguousarray(x[~fitted], np.float32), network=network)
    wiener = x[~fitted] @ np.linalg.lstsq(x[fitted], y[fitted], rcond=None)[0]
    mean = x[fitted].mean(axis=0)
    components = np.linalg.svd(x[fitted] - mean, full_matrices=False)[2][:3]
    reduced = mean + (x[~fitted] - mean) @ components.T @ components
    errors = [((found - y[~fitted]) ** 2).mean(axis=1) for found in (x[~fitted], denoised, reduced, wiener)]
    return [f"{error.mean():.3f} ({error[clean[~fitted]].mean():.3f})" for error in errors]


def table_row(cells: list) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"


HEADERS = {
    "Detector: recall of spikes of SNR 3 to 6 at precision 0.9": (
        [
            "recording",
            "spikes",
            "threshold",
            "network",
            "threshold *",
            "network *",
            "network, SNR 6 up *",
            "precision at default *",
            "x real time",
        ],
        "Marked *: spikes found a second time count as neither right nor false. 0: the precision is never reached. "
        "x real time: the network detector on whitened traces, by CPU time of one core.",
    ),
    "Triage": (
        [
            "recording",
            "clean",
            "kept",
            "collided",
            "rejected",
            f"with one of {LIKE_YASS:g} of its size or more",
            f"rejected where exactly {KEPT:g} are kept",
            f"with one of {LIKE_YASS:g} of its size or more",
        ],
        f"Clean: other spikes stay below {CLEAN_SHARE:g} of the spike or {CLEAN_SD:g} sd; collided: above "
        f"{COLLIDED_SHARE:g} of it and {COLLIDED_SD:g} sd. Kept and rejected at the threshold that the recording's own "
        "peaks tell, without labels; exactly so many kept: with labels.",
    ),
    "Denoiser: mean squared error (noise variances)": (
        ["recording", "spikes", "raw", "network", "3 components", "Wiener"],
        "All spikes that stand out on their main channel, alone or not; in brackets: those alone. The components and "
        "the filter are fitted to this very recording, the filter to its true waveforms; the network is not, and where "
        "it was trained on it, to the templates it has found there itself.",
    ),
}


def report(rows: list[list[str]], about: str) -> str:
    """The page."""
    lines = ["# Networks on hybrid recordings", "", about]
    for (title, (names, note)), table in zip(HEADERS.items(), zip(*rows, strict=True), strict=True):
        lines += ["", f"## {title}", "", table_row(names), "|---" * len(names) + "|", *table, "", note]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of real templates")
    parser.add_argument("--model", help="folder of networks; those of the package by default")
    parser.add_argument("--development", action="store_true", help="the recordings that were looked at meanwhile")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "networks.md")
    chosen = parser.parse_args()
    rows = []
    for name, seed in RECORDINGS if chosen.development else UNSEEN:
        began = time.time()
        with tempfile.TemporaryDirectory() as folder:
            case = opened(name, seed, chosen.seconds, chosen.data, Path(folder))
            rows.append([detector_row(case, chosen.model), *waveform_rows(case, chosen.model)])
            if chosen.model is None:
                case, model = replace(case, name=f"{case.name}, trained on it"), trained(case)
                rows.append([detector_row(case, model), *waveform_rows(case, model)])
        print(*rows[-2:], f"{time.time() - began:.0f} s", sep="\n", flush=True)
    looked_at = "Looked at" if chosen.development else "Not looked at"
    about = (
        f"{chosen.seconds:g} s each; networks: {chosen.model or 'those of the package'}. `benchmarks/networks.py`. "
        f"{looked_at} while the networks were made."
    )
    chosen.out.write_text(report(rows, about), encoding="utf-8")


if __name__ == "__main__":
    main()
