"""Configuration files: their text, and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from benchmarks.fuzz.damage import changed, changes, hurt, wounds
from benchmarks.fuzz.ground import attempt, laboratory, listing
from yass_dask import config
from yass_dask.commands.sorting import SortOptions, batch_of, check, describe, plan_of

MORE = {
    "cluster": {"scheduler": "slurm", "jobs": 2, "workers": 2, "queue": "short", "walltime": "12:00:00",
                "directives": ["--constraint=avx512"]},
    "templates": {"max_shift": 3, "merge_threshold": [0.85, 0.8]},
    "params": {"detect": {"threshold_sd": 5.0}, "preprocess": {"filter_high_hz": 7000.0}, "n_refinements": 1},
}  # fmt: skip


class Configs:
    """A case is text in wounds, changed sections, or any text at all; each is checked as `yass sort` checks it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "config.yaml"
        self.sections = laboratory(folder) | MORE
        self.text = yaml.safe_dump(self.sections, sort_keys=False).encode()
        self.before = listing(folder)

    def cases(self) -> st.SearchStrategy[Any]:
        return st.one_of(
            st.tuples(st.just("sections"), changes),
            st.tuples(st.just("wounds"), wounds),
            st.tuples(st.just("text"), st.text(max_size=60).map(str.encode) | st.binary(max_size=60)),
        )

    def check(self, case: tuple[str, Any]) -> bool:
        self.path.write_bytes(self.written(*case))
        return attempt(self.planned)

    def written(self, kind: str, harm: Any) -> bytes:
        """The file of a case."""
        if kind == "text":
            return bytes(harm)
        if kind == "wounds":
            return hurt(self.text, harm)
        text = yaml.safe_dump(changed(self.sections, harm), sort_keys=False, allow_unicode=True)
        return text.encode(errors="replace")

    def planned(self) -> None:
        """All that happens before a sort begins to write."""
        job = check(SortOptions(self.path))
        describe(job)
        batch_of(job.cluster, plan_of(job.config, job.recording, job.cluster))
        job.recording.source.read(0, min(job.recording.n_samples, 100))
        again = config.load(config.text.parse(job.config.dump(), "as resolved"))
        assert again == job.config, "what is written as resolved is another configuration"

    def close(self) -> None:
        """No file was made or changed, in all the cases."""
        self.path.write_bytes(yaml.safe_dump({k: v for k, v in self.sections.items() if k not in MORE}).encode())
        assert listing(self.folder) == self.before
