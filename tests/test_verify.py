"""`yass verify`: whatever is damaged is named, and the next sort computes exactly that again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Sorted
from labs import yass

from yass_dask import InputError, Sorting, Store, sort
from yass_dask.monitor.progress import SilentProgress
from yass_dask.runtime import Executor
from yass_dask.sources.checksums import DamagedError

RESULTS = ("spike_train.npy", "templates.npy", "units.csv", "sorting.npz")


@pytest.fixture
def out(small_sorted: Sorted, tmp_path: Path) -> Path:
    """The finished sort in a folder that a test may damage."""
    return shutil.copytree(small_sorted.folder, tmp_path / "out")


class Counted(SilentProgress):
    """Which parts were computed, by stage."""

    def __init__(self) -> None:
        self.computed: dict[str, list[str]] = {}
        self._stage = ""

    def stage(self, name: str, n_parts: int, n_found: int, recorded_s: float) -> None:
        self._stage = name

    def advance(self, name: str, part: Any = None) -> None:
        self.computed.setdefault(name, []).append(part.name)


def sort_again(made: Sorted, out: Path) -> dict[str, list[str]]:
    """The same sort; gives the parts that it computed."""
    counted = Counted()
    sort(made.recording, out, made.params, client=Executor("sync"), progress=counted)
    return counted.computed


def contents(out: Path) -> dict[str, bytes]:
    """Every file of every stage, and of the result."""
    files = [path for path in (out / "yass.zarr").rglob("*") if path.is_file()]
    return {str(path.relative_to(out)): path.read_bytes() for path in [*files, *(out / name for name in RESULTS)]}


def flip(path: Path) -> None:
    """Change a bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def test_whole_sort_is_whole(small_sorted: Sorted, out: Path) -> None:
    before = contents(out)
    found = Sorting.open(out).verify()
    assert found.is_whole, found
    assert found.n_stages == len(Store(out).stages())
    chunks = [name for name in before if Path(name).name.split(".")[0].isdigit()]
    assert found.n_chunks == len(chunks) > 50
    assert contents(out) == before
    assert sort_again(small_sorted, out) == {}


@pytest.mark.parametrize("how", ["flip", "delete", "cut"])
def test_damaged_chunk_of_traces(small_sorted: Sorted, out: Path, how: str) -> None:
    before, chunk = contents(out), out / "yass.zarr/preprocess/traces/4.0"
    {"flip": flip, "delete": Path.unlink, "cut": lambda path: path.write_bytes(path.read_bytes()[:99])}[how](chunk)
    found = Store(out).verify()
    assert [(damage.stage, damage.array, damage.chunk) for damage in found.damages] == [("preprocess", "traces", 4)]
    assert found.withdrawn == ("preprocess: 1 of 10 blocks",)
    assert not Store(out).verify().is_whole, "until it is computed again"
    assert sort_again(small_sorted, out) == {"preprocess": ["00000003-00000006"]}
    assert contents(out) == before
    assert Store(out).verify().is_whole


@pytest.mark.parametrize("stage", ["detect", "features", "deconvolve"])
def test_damaged_chunk_of_a_table(small_sorted: Sorted, out: Path, stage: str) -> None:
    """A table of one chunk: all parts have rows in it. Nothing but them is computed."""
    before = contents(out)
    fields = sorted(path.parent for path in (out / "yass.zarr" / stage).glob("*/.zarray"))
    flip(next(fields[0].glob("0*")))
    found = Store(out).verify()
    assert [(damage.stage, damage.array, damage.chunk) for damage in found.damages] == [(stage, fields[0].name, 0)]
    assert list(sort_again(small_sorted, out)) == [stage]
    assert contents(out) == before


def test_only_parts_with_damaged_rows_are_computed_again(small_sorted: Sorted, out: Path, monkeypatch: Any) -> None:
    """Tables in chunks of a few rows, as long recordings have them."""
    monkeypatch.setattr("yass_dask.store.zarrays.TARGET_CHUNK_BYTES", 800)
    shutil.rmtree(out / "yass.zarr/detect")
    assert list(sort_again(small_sorted, out)) == ["detect"]
    before, samples = contents(out), Store(out).open("detect")["sample_index"]
    assert len(samples) > 200
    flip(out / "yass.zarr/detect/sample_index/1")  # samples 100 to 199 of the table
    spans = list(small_sorted.recording.chunks)
    hit = {chunk.name for chunk in spans if _meets(np.asarray(samples[:100]), np.asarray(samples[200:]), chunk)}
    assert Store(out).verify().withdrawn == (f"detect: {len(hit)} of {len(spans)} parts",)
    assert 0 < len(hit) < len(spans)
    assert set(sort_again(small_sorted, out)["detect"]) == hit
    assert contents(out) == before


def _meets(before: np.ndarray, after: np.ndarray, chunk: Any) -> bool:
    """Whether a chunk has events between these."""
    return bool(chunk.stop > before[-1] and chunk.start <= after[0])


def test_what_sums_up_all_chunks_is_computed_as_a_whole(small_sorted: Sorted, out: Path) -> None:
    before = contents(out)
    flip(next((out / "yass.zarr/means/waveforms").glob("0*")))
    assert Store(out).verify().withdrawn == ("means: all of it, as it sums up all chunks",)
    assert list(sort_again(small_sorted, out)) == ["means"]
    assert contents(out) == before


@pytest.mark.parametrize("file", [".zarray", ".crc32"])
def test_damaged_metadata_of_an_array(small_sorted: Sorted, out: Path, file: str) -> None:
    before = contents(out)
    flip(out / "yass.zarr/preprocess/traces" / file)
    found = Store(out).verify()
    assert [damage.chunk for damage in found.damages] == [None]
    computed = sort_again(small_sorted, out)
    assert list(computed) == ([] if file == ".zarray" else ["preprocess"]), "what the mark tells can be restored"
    assert contents(out) == before


def test_changed_recipe_is_noticed(small_sorted: Sorted, out: Path) -> None:
    mark = out / "yass.zarr/detect/.zattrs"
    about = json.loads(mark.read_text())
    about["recipe"]["params"]["threshold_sd"] = 5.0
    mark.write_text(json.dumps(about))
    found = Store(out).verify()
    assert [str(damage) for damage in found.damages] == [
        "detect: its recipe is not the one it was made by", "detect: it is not what the result was made of",
    ]  # fmt: skip
    assert list(sort_again(small_sorted, out)) == ["detect"]
    assert Store(out).verify().is_whole


def test_stage_that_the_result_was_not_made_of(small_sorted: Sorted, out: Path) -> None:
    """A sort with other parameters that did not come to its end: each stage is sound, the chain is not."""
    other = small_sorted.params.model_copy(
        update={"detect": small_sorted.params.detect.model_copy(update={"threshold_sd": 5.0})}
    )

    class Stopped(Counted):
        def finish(self, name: str) -> None:
            if name == "detect":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sort(small_sorted.recording, out, other, client=Executor("sync"), progress=Stopped())
    found = Store(out).verify()
    assert not found.is_whole
    assert "The sort has not ended" in str(found)


def test_damaged_result(small_sorted: Sorted, out: Path) -> None:
    before = contents(out)
    flip(out / "templates.npy")
    (out / "units.csv").unlink()
    found = Sorting.open(out).verify()
    assert [(damage.stage, damage.array) for damage in found.damages] == [("", "templates.npy"), ("", "units.csv")]
    assert sort_again(small_sorted, out) == {}
    assert contents(out) == before


def test_damaged_marker_is_mended(small_sorted: Sorted, out: Path) -> None:
    (out / "yass.json").write_text("{")
    with pytest.raises(InputError, match=r"yass.json is damaged; `yass verify .*out` mends it"):
        sort_again(small_sorted, out)
    assert [damage.array for damage in Store(out).verify().damages] == ["yass.json"]
    assert sort_again(small_sorted, out) == {}
    assert Store(out).verify().is_whole


def test_sort_refuses_damaged_chunks_that_it_reads(small_sorted: Sorted, out: Path) -> None:
    """A flipped bit does not change the size: it is noticed when the chunk is read."""
    for stage, chunk in (("preprocess", "traces/9.0"), ("features", "features/0.0.0")):
        flip(out / "yass.zarr" / stage / chunk)
        again = "deconvolve" if stage == "preprocess" else "cluster"
        shutil.rmtree(out / "yass.zarr" / again)
        with pytest.raises(DamagedError, match=rf"{chunk} is damaged: .*Run `yass verify {out}`, then the same sort"):
            sort_again(small_sorted, out)
        Store(out).verify()
        assert stage in sort_again(small_sorted, out)
        assert Store(out).verify().is_whole


def test_command_and_exit_codes(small_sorted: Sorted, out: Path, tmp_path: Path) -> None:
    ran = yass("verify", out)
    assert ran.code == 0, ran.err
    assert "is whole" in ran.out
    flip(out / "yass.zarr/preprocess/traces/0.0")
    ran = yass("verify", out)
    assert (ran.code, ran.err) == (1, "")
    assert "preprocess, traces, chunk 0: its checksum is not that of what was written" in ran.out
    assert "The same sort computes again: preprocess: 1 of 10 blocks" in ran.out
    ran = yass("verify", tmp_path)
    assert ran.code == 2
    assert f"{tmp_path} is not the output folder of a sort" in ran.err
    with Store(out).lock():
        assert "Another sort is writing" in yass("verify", out).err
