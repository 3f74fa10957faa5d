"""The page of a scheduler's sorts in a real browser: the numbers on it, while a sort runs and after it, are true."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import distributed
import numpy as np
import pytest
from labs import moving_tissue

import yass_dask
from benchmarks import browser
from yass_dask.monitor.progress import Part, SilentProgress
from yass_dask.motion.displacement import Motion
from yass_dask.store import Store

PROGRAM = browser.find()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no browser (chromium or chrome) on this machine")

ENOUGH = 2
STAGES = "[...document.querySelectorAll('#job tr[data-stage]')].map(r => [r.dataset.stage, r.cells[2].textContent])"
FACT = "document.querySelector('[data-fact=\"{}\"]')?.textContent.replaceAll(',', '')"


class Pausing(SilentProgress):
    """Holds the sort after two parts of the last pursuit, until told to go on."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.n_spikes: list[int] = []

    def advance(self, name: str, part: Part | None = None) -> None:
        if name == "deconvolve" and part is not None and not self.reached.is_set():
            self.n_spikes.append(len(part.read(("sample_index",))["sample_index"]))
            if len(self.n_spikes) == ENOUGH:
                self.reached.set()
                assert self.go_on.wait(120)


@pytest.fixture(scope="module")
def client() -> Iterator[distributed.Client]:
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def recording() -> yass_dask.Recording:
    made = yass_dask.simulate(n_channels=4, seconds=8, n_units=2, seed=1)
    return yass_dask.from_array(made.traces, made.sampling_rate, geometry=made.positions).with_chunks(2)


def fact(page: browser.Page, name: str) -> str:
    return str(page.ask(FACT.format(name)))


def look_at_running(page: browser.Page, store: Store, paused: Pausing) -> None:
    """The sort is held: every chunk of its stage is on the disk, and some were told of."""
    n_parts = 4
    scratch = store.zarr_path / "deconvolve" / ".unfinished"
    page.until(f"{FACT.format('chunks')} === '{n_parts} of {n_parts}'")
    assert len(list(scratch.glob("*.npz"))) == n_parts
    assert fact(page, "stage") == "deconvolve"
    page.until(f"document.querySelector('#curve svg').dataset.spikes === '{sum(paused.n_spikes)}'")
    units = len(store.open("templates_1")["ids"])
    page.until(f"document.querySelectorAll('#probe circle').length === {units}")
    assert fact(page, "units") == str(units)
    assert page.ask("document.querySelector('#jobs .state').textContent") == "running"


def look_at_done(page: browser.Page, store: Store, sorting: yass_dask.Sorting) -> None:
    page.until("document.querySelector('#state').textContent === 'done'")
    page.until(f"document.querySelector('#curve svg').dataset.spikes === '{sorting.n_spikes}'")
    page.until(f"document.querySelectorAll('#probe circle').length === {sorting.n_units}")
    assert (fact(page, "units"), fact(page, "spikes")) == (str(sorting.n_units), str(sorting.n_spikes))
    timings = {name: about["parts"] for name, about in store.timings().items()}
    assert dict(page.ask(STAGES)) == {name: f"{parts} of {parts}" for name, parts in timings.items()}
    titles = page.ask("[...document.querySelectorAll('#probe circle title')].map(t => t.textContent)")
    counts = {unit: len(sorting.times_of(unit)) for unit in sorting.unit_ids.tolist()}
    for unit, count in counts.items():
        assert any(title.startswith(f"unit {unit}: ") and title.endswith(f" {count:,} spikes") for title in titles)
    assert int(page.ask("document.querySelector('#drift canvas').dataset.peaks")) > 10
    assert "seed 0" in page.ask("document.querySelector('#log').textContent")


def test_the_numbers_on_the_page_are_true(client: distributed.Client, recording: yass_dask.Recording, tmp_path: Path):
    assert PROGRAM is not None
    store, paused, made = Store(tmp_path / "out"), Pausing(), []

    def sort() -> None:
        made.append(yass_dask.sort(recording, store, client=client, progress=paused))

    thread = threading.Thread(target=sort)
    thread.start()
    try:
        assert paused.reached.wait(120)
        with browser.opened(PROGRAM, client.dashboard_link.removesuffix("/status") + "/yass") as page:
            look_at_running(page, store, paused)
            paused.go_on.set()
            thread.join()
            look_at_done(page, store, made[0])
            workers = page.ask("[...document.querySelectorAll('tr[data-worker]')].map(r => r.dataset.worker)")
            assert set(workers) == set(client.nthreads())
            for width in (360, 1280):
                page.look(width, 800, dark=width == 360)
                page.until(f"innerWidth === {width}")
                assert page.ask("document.documentElement.scrollWidth") <= width
            assert page.errors == []
    finally:
        paused.go_on.set()
        thread.join()


def test_motion_is_drawn_over_the_peaks(client: distributed.Client, tmp_path: Path):
    assert PROGRAM is not None
    yass_dask.sort(moving_tissue()[1], tmp_path / "out", yass_dask.SortParams(n_refinements=0), client=client)
    motion = Motion.load(tmp_path / "out" / "motion")
    with browser.opened(PROGRAM, client.dashboard_link.removesuffix("/status") + "/yass") as page:
        page.until(f"document.querySelector('#drift canvas').dataset.windows === '{len(motion.depths_um)}'")
        told = page.ask(
            "(({seconds, depth_um, displacement_um}) => [seconds, depth_um, displacement_um])(drawn.motion)"
        )
        for shown, known in zip(told, (motion.times_s, motion.depths_um, motion.displacement.T), strict=True):
            np.testing.assert_allclose(shown, known, atol=0.051)
        at = [[s, um] for s in (0.0, 5.3, 12.0, 25.0) for um in (-10.0, 110.0, 600.0)]
        found = page.ask(f"{at}.map(([s, um]) => moved(drawn.motion, s, um))")
        expected = [motion.at(np.array([s]), np.array([um])).item() for s, um in at]
        np.testing.assert_allclose(found, expected, atol=0.2)
        still = page.ask("document.querySelector('#drift canvas').toDataURL()")
        page.ask("document.querySelector('#moving input').click()")
        page.until(f"document.querySelector('#drift canvas').toDataURL() !== '{still}'")
        assert page.errors == []


def test_failed_chunks_are_shown_with_their_error(client: distributed.Client, tmp_path: Path):
    assert PROGRAM is not None
    made = yass_dask.simulate(n_channels=4, seconds=4, n_units=2, seed=1)
    traces = made.traces.astype("f4")
    traces[1000, 2] = float("nan")
    bad = yass_dask.from_array(traces, made.sampling_rate, geometry=made.positions)
    with pytest.raises(yass_dask.errors.InputError):
        yass_dask.sort(bad, tmp_path / "out", client=client)
    with browser.opened(PROGRAM, client.dashboard_link.removesuffix("/status") + "/yass") as page:
        page.until("document.querySelector('#state').textContent === 'failed'")
        assert "channel 2 holds NaN" in page.ask("document.querySelector('#message').textContent")
        assert "NaN" in page.ask("document.querySelector('pre.error').textContent")
        assert page.ask("document.querySelectorAll('#stages i.failed').length") >= 1
