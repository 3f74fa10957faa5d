"""Networks on disk: the weights in an npz file, and beside it a card (yaml) that says what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from yass_dask.arrayfiles import read_npz
from yass_dask.config import problems, text
from yass_dask.errors import InputError
from yass_dask.kernels.network import Classifier, Denoiser
from yass_dask.neuralnetwork.architecture import classifier_shapes, denoiser_shapes

FORMAT = 1
KINDS: dict[str, type[Classifier] | type[Denoiser]] = {"detect": Classifier, "triage": Classifier, "denoise": Denoiser}
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
N = TypeVar("N", Classifier, Denoiser)


@dataclass(frozen=True)
class Card:
    """What a network is and how it was made."""

    kind: str
    """detect, triage or denoise"""
    filters_size: tuple[int, ...]
    waveform_length: Annotated[int, Field(ge=1)]
    n_neighbors: Annotated[int, Field(ge=1)]
    sampling_rate: Rate | None = None
    """Samples per second of its windows; None: whatever it is given"""
    rates_hz: tuple[Rate, Rate] | None = None
    """Recordings of rates between these may be resampled for it; None: of its own rate only"""
    channels_seen: Annotated[int, Field(ge=1)] | None = None
    """Most channels that its windows had in training: fewer than `n_neighbors` on a small probe; None: not told"""
    training_data: str = "not told"
    metrics: Mapping[str, Any] = field(default_factory=dict)


def weights_path(path: str | Path) -> Path:
    """The npz file of a model; the suffix may be left out."""
    path = Path(path).expanduser()
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")


def save(path: str | Path, network: Classifier | Denoiser, card: Card) -> Path:
    """Write weights and card; returns the weights' path.

    Raises
    ------
    InputError
        The folder cannot be written.
    """
    target = weights_path(path)
    told = {**vars(card), "format": FORMAT, "yass_version": version("yass-dask"), "weights_sha256": digest(network)}
    told["shapes"] = {name: list(layer.shape) for name, layer in network._asdict().items()}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        np.savez(target, **network._asdict())
        target.with_suffix(".yaml").write_text(text.dump(told), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{target}: the model cannot be written there ({error.strerror or error})") from error
    return target


def load(path: str | Path, kind: str) -> tuple[Any, Card]:
    """Read a model and check it.

    Raises
    ------
    InputError
        A file is missing or damaged, or the model is of another kind.
    """
    target = weights_path(path)
    card_path = target.with_suffix(".yaml")
    for needed in (target, card_path):
        if not needed.is_file():
            raise InputError(f"{needed}: no such file; give a model that `yass train` or fit() has written")
    told = text.read_mapping(card_path)
    card = _card(told, card_path)
    if card.kind != kind:
        raise InputError(f"{target} is a {card.kind} network, not a {kind} network; give the file of that one")
    network = _read(target, kind)
    if digest(network) != told.get("weights_sha256"):
        raise InputError(f"{target}: the weights are not those of {card_path.name}; train or copy the model again")
    _check_shapes(network, card, target)
    return network, card


def _card(told: Mapping[str, Any], path: Path) -> Card:
    if told.get("format") != FORMAT:
        raise InputError(f"{path}: format {told.get('format')!r} is not known here (known: {FORMAT}); train again")
    try:
        known = {name: told[name] for name in Card.__dataclass_fields__ if name in told}
        return TypeAdapter(Card).validate_python(known)
    except ValidationError as error:
        why = problems.in_one_line(error)
        raise InputError(f"{path}: the card is not whole: {why}; train or copy the model again") from None


def _read(path: Path, kind: str) -> Classifier | Denoiser:
    shape = KINDS[kind]
    stored = read_npz(path, f"it should hold a {kind} network; train or copy the model again", shape._fields)
    odd = [f"{name} is {layer.dtype}" for name, layer in stored.items() if layer.dtype.kind not in "iuf"]
    if odd:
        raise InputError(f"{path}: not a {kind} network ({', '.join(odd)}); train or copy the model again")
    layers = {name: layer.astype(np.float32) for name, layer in stored.items()}
    for name, layer in layers.items():
        if not np.isfinite(layer).all():
            raise InputError(f"{path}: weights of {name} are no numbers (NaN); train the model again")
    return shape(**layers)


def _check_shapes(network: Classifier | Denoiser, card: Card, path: Path) -> None:
    """InputError where weights do not fit to each other, or to the card."""
    if isinstance(network, Denoiser):
        wanted = denoiser_shapes(card.filters_size, card.waveform_length)
    else:
        wanted = classifier_shapes(card.filters_size, card.waveform_length, card.n_neighbors)
    for (name, layer), shape in zip(network._asdict().items(), wanted, strict=True):
        if layer.shape != shape:
            raise InputError(
                f"{path}: {name} has shape {layer.shape}, but a {card.kind} network of the sizes on its card {shape}; "
                "train or copy the model again"
            )


def digest(network: Classifier | Denoiser) -> str:
    """SHA-256 of the weights."""
    bits = hashlib.sha256()
    for layer in network:
        bits.update(str(layer.shape).encode())
        bits.update(np.ascontiguousarray(layer, "<f4").tobytes())
    return bits.hexdigest()
