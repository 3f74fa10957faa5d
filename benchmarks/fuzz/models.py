"""Networks: the weights (npz) and their card (YAML)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st

from benchmarks.fuzz.damage import changed, changes, hurt, odd_arrays, wounds
from benchmarks.fuzz.ground import attempt, listing, npz
from yass_dask import Recording, from_array
from yass_dask.neuralnetwork import files
from yass_dask.neuralnetwork.models import SHIPPED, chosen_model
from yass_dask.neuralnetwork.scan import Judge

KINDS = tuple(files.KINDS)


class Models:
    """A case hurts a network of the package, its card, or both so that they still agree; it is then put to use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(SHIPPED, folder)
        self.card = {kind: yaml.safe_load((folder / f"{kind}.yaml").read_text()) for kind in KINDS}
        self.npz = {kind: (folder / f"{kind}.npz").read_bytes() for kind in KINDS}
        self.layers = {kind: dict(np.load(folder / f"{kind}.npz")) for kind in KINDS}
        self.recording = _recording()
        self.before = listing(folder)

    def cases(self) -> st.SearchStrategy[Any]:
        kind = st.sampled_from(KINDS)
        names = [(kind, name) for kind in KINDS for name in self.layers[kind]]
        layer = st.sampled_from(names).flatmap(lambda of: st.tuples(
            st.just("layer"), st.just(of[0]), st.tuples(st.just(of[1]), odd_arrays(self.layers[of[0]][of[1]]))
        ))  # fmt: skip
        return st.one_of(
            st.tuples(st.just("weights"), kind, wounds),
            st.tuples(st.just("card text"), kind, wounds),
            st.tuples(st.just("card"), kind, changes),
            layer,
        )

    def check(self, case: tuple[str, str, Any]) -> bool:
        what, kind, harm = case
        card, weights = dict(self.card[kind]), self.npz[kind]
        text = yaml.safe_dump(card).encode()
        if what == "weights":
            weights = hurt(weights, harm)
        elif what == "card text":
            text = hurt(text, harm)
        elif what == "card":
            text = yaml.safe_dump(changed(card, harm)).encode(errors="replace")
        else:
            layers = self.layers[kind] | {harm[0]: harm[1]}
            weights = npz(layers)
            text = yaml.safe_dump(card | {"weights_sha256": _digest(kind, layers)}).encode()
        (self.folder / f"{kind}.npz").write_bytes(weights)
        (self.folder / f"{kind}.yaml").write_bytes(text)
        try:
            return attempt(lambda: self.used(kind))
        finally:
            (self.folder / f"{kind}.npz").write_bytes(self.npz[kind])
            (self.folder / f"{kind}.yaml").write_bytes((SHIPPED / f"{kind}.yaml").read_bytes())

    def used(self, kind: str) -> None:
        """Load a network and let it judge, or clean, some waveforms."""
        network, card = chosen_model(self.folder, kind)
        if kind == "denoise":
            from yass_dask.kernels.denoise_numpy import denoise

            waveforms = np.ones((3, card.waveform_length), np.float32)
            assert denoise(waveforms, network=network).shape == waveforms.shape
            return
        judge = Judge.of(network, card, self.recording, "numpy")
        traces = np.ones((200, self.recording.n_channels), np.float32)
        assert judge.log_odds(traces, np.array([100]), np.array([1])).shape == (1,)

    def close(self) -> None:
        """Nothing was written."""
        assert listing(self.folder) == self.before


def _recording() -> Recording:
    places = np.stack([np.zeros(4), 20.0 * np.arange(4)], axis=1)
    return from_array(np.zeros((1000, 4), np.int16), 20000.0, places)


def _digest(kind: str, layers: dict[str, np.ndarray]) -> str:
    try:
        return files.digest(files.KINDS[kind](**{name: layer.astype(np.float32) for name, layer in layers.items()}))
    except (TypeError, ValueError):  # no numbers at all
        return "none"
