"""Spike trains, truths, training keys, folders curated in phy, session files of NWB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st

from benchmarks.fuzz.damage import changed, changes, hurt, odd_arrays, wounds
from benchmarks.fuzz.finished import Finished
from benchmarks.fuzz.ground import attempt, npy, npz
from yass_dask import Sorting
from yass_dask.augment.standardized import check_spike_train
from yass_dask.commands.tools import _session_of
from yass_dask.commands.training import read_spike_train, train_params
from yass_dask.evaluate import compare_files
from yass_dask.nwb import _date
from yass_dask.phy import read_curated

TRAIN = np.stack([np.arange(100, 2100, 100), np.arange(20) % 2], axis=1)
TRUTH = {"spike_times": TRAIN[:, 0], "spike_labels": TRAIN[:, 1], "snr": np.array([8.0, 12.0]),
         "sampling_rate": np.array(30000.0)}  # fmt: skip
KEYS = {"filters_detect": [16, 8], "waveform_length": 31, "sampling_rate": 20000.0, "collided": 0.3,
        "settings": {"n_iter": 100, "train_step_size": 0.002}}  # fmt: skip
SESSION = {"session_start": "2026-05-01T14:30:00+02:00", "experimenter": ["A. B."], "subject": {"subject_id": "m1"}}
N_SAMPLES = 3000


class Trains:
    """A case is a file of one of these kinds."""

    def __init__(self, folder: Path) -> None:
        self.sorted = Finished(folder / "sorted")
        self.path = folder
        self.phy = self.sorted.out / "phy"
        self.clusters = np.load(self.phy / "spike_clusters.npy")

    def cases(self) -> st.SearchStrategy[Any]:
        field = st.sampled_from(sorted(TRUTH)).flatmap(
            lambda name: st.tuples(st.just(name), odd_arrays(np.atleast_1d(TRUTH[name])) | st.none())
        )
        return st.one_of(
            st.tuples(st.just("train"), wounds | odd_arrays(TRAIN)),
            st.tuples(st.just("truth"), wounds | field),
            st.tuples(st.just("keys"), wounds | changes),
            st.tuples(st.just("session"), wounds | changes),
            st.tuples(st.just("clusters"), wounds | odd_arrays(self.clusters)),
            st.tuples(st.just("groups"), wounds | st.binary(max_size=40)),
        )

    def check(self, case: tuple[str, Any]) -> bool:
        kind, harm = case
        if kind in ("clusters", "groups"):
            return self.curated(kind, harm)
        path = self.path / {"train": "train.npy", "truth": "truth.npz"}.get(kind, f"{kind}.yaml")
        path.write_bytes(_written(kind, harm))
        calls = {
            "train": lambda: check_spike_train(read_spike_train(path), N_SAMPLES),
            "truth": lambda: compare_files(self.sorted.out, path).table(),
            "keys": lambda: train_params(path),
            "session": lambda: _date(_session_of(path)["session_start"]),
        }
        return attempt(calls[kind])

    def curated(self, kind: str, harm: Any) -> bool:
        """Read a folder of phy back."""
        name = {"clusters": "phy/spike_clusters.npy", "groups": "phy/cluster_group.tsv"}[kind]
        data = npy(harm) if isinstance(harm, np.ndarray) else harm
        return self.sorted.hurt(name, data, lambda out: read_curated(Sorting.open(out), out / "phy"))

    def close(self) -> None:
        """Everything is as it was."""
        self.sorted.check_whole()


def _written(kind: str, harm: Any) -> bytes:
    """The file of a case."""
    good = {"train": npy(TRAIN), "truth": npz(TRUTH)}.get(kind) or yaml.safe_dump(_plain(kind)).encode()
    if isinstance(harm, np.ndarray):
        return npy(harm)
    if isinstance(harm, tuple):
        name, array = harm
        return npz({key: value for key, value in (TRUTH | {name: array}).items() if value is not None})
    if harm and not hasattr(harm[0], "what"):
        return yaml.safe_dump(changed(_plain(kind), harm)).encode(errors="replace")
    return hurt(good, harm)


def _plain(kind: str) -> dict[str, Any]:
    return KEYS if kind == "keys" else SESSION
