"""Every notebook runs from begin to end in a fresh folder, and says what its text promises."""

from __future__ import annotations

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
SAYS = {
    "01_sort_a_recording": [r"Sorting: [78] units", r"a cluster of its own that pursuit confirmed", r"report\.html"],
    "02_look_inside_a_stage": [r"\(600000, 16\) int16", r"'channel_index'", r"params changed: threshold_sd 4.5 -> 6"],
    "03_change_a_stage_for_your_own": [r"troughs: \d units, mean accuracy 0\.[89]", r"the same spikes: True"],
    "04_on_a_cluster_with_the_dashboard": [
        r"http://127\.0\.0\.1:\d+/yass", r"done .*on_a_cluster", r"the same spikes: True",
    ],
    "05_training_a_detector": [r"[3-5] templates", r"our network: [3-5] units, \d+ spikes, mean accuracy (0\.[89]|1)"],
    "06_compare_with_other_sorters": [r"installed: .*yass_dask", r"mean accuracy of yass_dask: (0\.9|1)"],
    "07_from_yass": [r"five steps: \d units", r"sort: \d units, mean accuracy (0\.[789]|1)"],
    "08_batch_processing": [
        r"the same: True", r"whole file: True", r"twice as large: True", r"\d pieces, the first",
        r"filtered alike: True", r"the same in other chunks: True",
    ],
}  # fmt: skip
"""Of each notebook, what its outputs must hold."""


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def words_of(notebook: nbformat.NotebookNode) -> str:
    """All that its cells printed or showed as text."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def test_all_notebooks_are_tested():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(SAYS)


@pytest.mark.coverage_row("A14.9")
@pytest.mark.parametrize("name", SAYS)
def test_a_notebook_runs(name, tmp_path):
    notebook = read(name)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = words_of(notebook)
    for pattern in SAYS[name]:
        assert re.search(pattern, said), f"{pattern!r} in {said[-3000:]}"


@pytest.mark.parametrize("name", SAYS)
def test_no_output_is_stored(name):
    cells = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
