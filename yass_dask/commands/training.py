"""`yass train`: options, checks, the training, and its plot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yass_dask.arrayfiles import read_npy
from yass_dask.errors import InputError

if TYPE_CHECKING:
    from yass_dask.neuralnetwork.learn import Curve, Learned
    from yass_dask.neuralnetwork.plan import TrainParams

PLOT = "precision_recall.png"


@dataclass(frozen=True)
class TrainOptions:
    """What `yass train` was asked for."""

    files: tuple[Path, ...]
    """CONFIG; or YASS's form: spike_train.npy, config_train.yaml, CONFIG"""
    output_dir: Path = Path("model/")
    spike_train: Path | None = None
    seed: int = 0
    logger_level: str = "INFO"
    progress: bool = True


def run_train(options: TrainOptions) -> str:
    """Train networks for a configuration's recording.

    Raises
    ------
    InputError
        Bad files or options, or too few spikes.
    """
    from yass_dask import config
    from yass_dask.commands.sorting import output_folder, plan_of
    from yass_dask.logs import logging_to
    from yass_dask.monitor import progress
    from yass_dask.neuralnetwork.learn import learn
    from yass_dask.runtime import Executor

    spikes, keys, path = _files_of(options)
    params = train_params(keys)
    loaded = config.load(path)
    sorting = config.sort_params(loaded.stage_params())
    train = None if spikes is None else read_spike_train(spikes)
    recording = loaded.recording()
    cluster = config.choose_cluster(loaded)
    plan = plan_of(loaded, recording, cluster)
    folder = _made(output_folder(loaded, options.output_dir))
    shown = progress.choose(silent=not options.progress)
    with logging_to(folder, options.logger_level), Executor(cluster.scheduler, plan.n_workers).open() as client:
        try:
            learned = learn(
                recording.with_chunks(plan.chunk_blocks, plan.part_blocks), folder, sorting, params,
                spike_train=train, seed=options.seed, client=client, progress=shown,
            )  # fmt: skip
        finally:
            shown.close()
    return "\n".join([*told(learned), _plotted(learned.curves, folder / PLOT)])


def _files_of(options: TrainOptions) -> tuple[Path | None, Path | None, Path]:
    """Spike train, keys of the training, configuration."""
    if len(options.files) == 1:
        return options.spike_train, None, options.files[0]
    if len(options.files) == 3 and options.spike_train is None:
        return options.files
    raise InputError(
        f"yass train was given {len(options.files)} files: give CONFIG, with --spike-train FILE if there is one; or "
        "spike_train.npy config_train.yaml CONFIG"
    )


def train_params(path: Path | None) -> TrainParams:
    """Keys of a config_train.yaml; the defaults without one.

    Raises
    ------
    InputError
        The file cannot be read, or holds unknown keys or bad values.
    """
    from pydantic import ValidationError

    from yass_dask.config import problems, text
    from yass_dask.neuralnetwork.plan import TrainParams

    if path is None:
        return TrainParams()
    try:
        return TrainParams.model_validate(text.read_mapping(path))
    except ValidationError as error:
        problems.raise_if_any(problems.describe(error, TrainParams), str(path))
        raise


def read_spike_train(path: Path) -> np.ndarray:
    """The array of a npy file.

    Raises
    ------
    InputError
        There is none.
    """
    return read_npy(path, "give a npy file (n_spikes, 2), sample and unit of each spike, as numpy.save writes it")


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another --output-dir") from error
    return folder


def told(learned: Learned) -> list[str]:
    """Lines about how well the networks do."""
    detect, triage, denoise = (learned.metrics[kind] for kind in ("detect", "triage", "denoise"))
    both = [f"{name} {curve.at_best:.3f}" for name, curve in learned.curves.items()]
    return [
        f"{learned.n_templates} templates; networks in {learned.folder}",
        f"detector: precision {detect['prec']:.3f}, recall {detect['rec']:.3f} of candidates held aside; planted "
        f"spikes found at precision 0.9: {', '.join(both)}",
        f"triage: {triage['tp'] / max(triage['tp'] + triage['fn'], 1):.3f} of clean waveforms kept, "
        f"{triage['tn'] / max(triage['tn'] + triage['fp'], 1):.3f} of collided ones rejected",
        f"denoiser: mean squared error {denoise['mse']:.3f}, before {denoise['mse_raw']:.3f}",
        f"sort with them: yass sort CONFIG --detector nnet --model {learned.folder}",
    ]


def _plotted(curves: Mapping[str, Curve], path: Path) -> str:
    """Draw precision against recall."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "no plot: matplotlib is not installed"
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(curve.recall, curve.precision, label=name)
    axes.set(xlabel="recall of planted spikes", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend()
    figure.savefig(path, dpi=150)
    return f"precision and recall: {path}"
