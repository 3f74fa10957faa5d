"""Progress in the cell of a notebook: a real kernel runs it, and what the cell shows is what happened."""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import nbclient
import nbformat
import pytest

from yass_dask.monitor.cell import CellProgress
from yass_dask.monitor.progress import SilentProgress, unless_given
from yass_dask.store import Store

MAKE = """
import yass_dask
made = yass_dask.simulate(n_channels=4, seconds=8, n_units=2, seed=1)
recording = yass_dask.from_array(made.traces, made.sampling_rate, geometry=made.positions).with_chunks(2)
"""
CLUSTER = """
import distributed
client = distributed.Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0")
print(client.dashboard_link)
"""
SORT = """
sorting = yass_dask.sort(recording, "{}")
print(sorting.n_units, sorting.n_spikes)
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[nbformat.NotebookNode]]]:
    """The folder, and the outputs of the cells: a sort in threads, a cluster, a sort on it."""
    folder = tmp_path_factory.mktemp("notebook")
    cells = [MAKE, SORT.format("threads"), CLUSTER, SORT.format("cluster")]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return folder, [cell.outputs for cell in notebook.cells[1:]]


def printed(outputs: list[nbformat.NotebookNode]) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


@pytest.mark.parametrize(("cell", "name"), [(0, "threads"), (2, "cluster")])
def test_a_notebook_shows_the_sort_in_its_cell(ran, cell: int, name: str):
    folder, outputs = ran
    (shown,) = [output.data for output in outputs[cell] if output.output_type == "display_data"]
    rows = re.findall(r"<tr><td[^>]*>(\w+)</td>.*?<td>(\d+) of (\d+) chunks</td>", shown["text/html"])
    parts = {stage: str(about["parts"]) for stage, about in Store(folder / name).timings().items()}
    assert {stage: total for stage, _, total in rows} == parts
    assert all(done == total for _, done, total in rows)
    assert [stage for stage, _, _ in rows] == list(parts)[::-1], "the newest stage is on top"
    n_units, n_spikes = map(int, printed(outputs[cell]).split())
    assert f"{n_units:,} units" in shown["text/html"] and f"{n_spikes:,} spikes" in shown["text/html"]
    assert "deconvolve: 4 of 4 chunks" in shown["text/plain"]


def test_the_cell_links_to_the_page_of_its_cluster(ran):
    _, outputs = ran
    page = printed(outputs[1]).strip().removesuffix("/status") + "/yass"
    (with_cluster,) = [output.data["text/html"] for output in outputs[2] if output.output_type == "display_data"]
    assert f'href="{html.escape(page)}"' in with_cluster
    (without,) = [output.data["text/html"] for output in outputs[0] if output.output_type == "display_data"]
    assert "href" not in without


def test_only_a_notebook_is_shown_progress_that_nobody_asked_for(monkeypatch: pytest.MonkeyPatch):
    given = SilentProgress()
    shell = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert isinstance(unless_given(None), SilentProgress), "IPython in a terminal has no kernel"
    shell.kernel = object()
    assert isinstance(unless_given(None), CellProgress)
    assert unless_given(given) is given
