"""A small finished sort, whose files come to harm one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import yaml
from typer.testing import CliRunner

from benchmarks.fuzz.damage import Wound, hurt
from benchmarks.fuzz.ground import attempt, listing
from yass_dask.cli import app
from yass_dask.simulate import plan, write


class Finished:
    """A recording of two seconds, sorted and exported for phy.

    Parameters
    ----------
    folder : where recording and results lie; made if it is not there
    """

    def __init__(self, folder: Path) -> None:
        self.config = write(folder, plan(n_channels=4, seconds=3, n_units=2, seed=1, snr=(10, 20)))
        sections = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        sections["resources"]["processes"] = 1
        self.config.write_text(yaml.safe_dump(sections), encoding="utf-8")
        self.out = folder / "tmp"
        quick = ["--scheduler", "sync", "--no-progress", "--set", "n_refinements=0"]
        for words in (["sort", str(self.config), *quick], ["export", str(self.out)]):
            ran = CliRunner().invoke(app, words)
            assert ran.exit_code == 0, ran.output
        train = np.load(self.out / "spike_train.npy")
        assert len(train) > 20, "nothing was found: this sorting is too empty to come to harm"
        self.before = listing(folder)
        self.folder = folder

    def hurt(self, name: str, harm: Sequence[Wound] | bytes | None, call: Callable[[Path], object]) -> bool:
        """Whether a call takes the output folder while a file is hurt, replaced by bytes, or gone (None)."""
        path = self.out / name
        good = path.read_bytes()
        if harm is None:
            path.unlink()
        else:
            path.write_bytes(harm if isinstance(harm, bytes) else hurt(good, harm))
        try:
            return attempt(lambda: call(self.out))
        finally:
            path.write_bytes(good)

    def check_whole(self) -> None:
        """All files are as they were: nothing was written, in all the cases."""
        assert listing(self.folder) == self.before
