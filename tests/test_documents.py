"""What README and the notebooks show runs as it stands there."""

import json
import re
from pathlib import Path

import matplotlib
import pytest

from yass_dask import config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_readme_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert names["sorting"].n_units >= 1
    assert names["same"].spike_train.tolist() == names["sorting"].spike_train.tolist()
    assert "Sorting" in capsys.readouterr().out


def test_readme_params_are_params():
    import yaml

    config_text, params = (yaml.safe_load(block) for block in blocks("yaml"))
    assert set(config_text) == {"data", "resources", "recordings"}
    assert config.sort_params(params["params"]).detect.threshold_sd == 5.0


def test_readme_names_files_that_exist():
    for name in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / name).exists(), name
    for row in re.findall(r"^\| (`[^|]+`) \|", README, flags=re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", row):
            assert (ROOT / "yass_dask" / name).exists(), name


@pytest.mark.coverage_row("A14.9")
def test_there_are_notebooks():
    """The quick start, the batch examples, a custom pipeline, training: each runs below."""
    assert {path.stem for path in NOTEBOOKS} >= {"quickstart", "batch", "custom_pipeline", "train_networks"}
    batch = (ROOT / "notebooks" / "batch.ipynb").read_text(encoding="utf-8")
    assert all(path.name in batch for path in (ROOT / "examples" / "batch").glob("*.py"))


@pytest.mark.coverage_row("A14.9")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_runs(path, tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), path.name, "exec"), names)
    # What a notebook finds is compared with the truth, or it asserts what it shows.
    if "agreement" in names:
        assert names["agreement"].mean_accuracy_above(5.0) > 0.9
    else:
        assert "assert" in path.read_text(encoding="utf-8")
