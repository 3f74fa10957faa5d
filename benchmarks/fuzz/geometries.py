"""Probe files: text, npy, probeinterface's JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import probeinterface
from hypothesis import strategies as st

from benchmarks.fuzz.damage import changed, changes, hurt, odd_arrays, wounds
from benchmarks.fuzz.ground import attempt, listing, npy
from yass_dask.geometry import as_probe
from yass_dask.geometry.files import read_probe

N = 4
PLACES = np.stack([np.zeros(N), 20.0 * np.arange(N)], axis=1)
TEXT = "\n".join(f"{x:g} {y:g}" for x, y in PLACES).encode()


class Geometries:
    """A case is a file of one of the formats, in wounds or with odd content; two are asked for as an array."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        probe = probeinterface.Probe(ndim=2, si_units="um")
        probe.set_contacts(PLACES, shapes="circle", shape_params={"radius": 5})
        probe.set_device_channel_indices(np.arange(N))
        probe.create_auto_shape("tip")
        path = folder / "good.json"
        probeinterface.write_probeinterface(path, probe)
        self.json = json.loads(path.read_bytes())
        path.unlink()

    def cases(self) -> st.SearchStrategy[Any]:
        n_channels = st.sampled_from((N, N, N, 1, 0, -1, 5, 10**6))
        return st.one_of(
            st.tuples(st.just(".txt"), n_channels, wounds | st.text(max_size=40) | st.binary(max_size=40)),
            st.tuples(st.just(".npy"), n_channels, wounds | odd_arrays(PLACES)),
            st.tuples(st.just(".json"), n_channels, wounds | changes | st.text(max_size=20)),
            st.tuples(st.just("array"), n_channels, odd_arrays(PLACES)),
        )

    def check(self, case: tuple[str, int, Any]) -> bool:
        kind, n_channels, harm = case
        if kind == "array":
            return attempt(lambda: _used(as_probe(harm, n_channels)))
        path = self.folder / f"probe{kind}"
        path.write_bytes(self.written(kind, harm))
        return attempt(lambda: _used(read_probe(path, n_channels)))

    def written(self, kind: str, harm: Any) -> bytes:
        """The file of a case."""
        if isinstance(harm, bytes | str):
            return harm if isinstance(harm, bytes) else harm.encode()
        if isinstance(harm, np.ndarray):
            return npy(harm)
        if harm and not hasattr(harm[0], "what"):  # changes
            return json.dumps(changed(self.json, harm), default=str).encode()
        good = {".txt": TEXT, ".npy": npy(PLACES), ".json": json.dumps(self.json).encode()}[kind]
        return hurt(good, harm)

    def close(self) -> None:
        """Nothing was written."""
        assert set(listing(self.folder)) <= {"probe.txt", "probe.npy", "probe.json"}


def _used(probe: Any) -> None:
    probe.neighbors(70.0)
    probe.identity()
    probe.sketch()
    assert np.isfinite(probe.positions).all()
