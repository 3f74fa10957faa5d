"""What README shows runs as it stands there; the notebooks have their own tests."""

import re
from pathlib import Path

from yass_dask import config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


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
