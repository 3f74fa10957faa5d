"""What was merged, split and labelled in phy comes back as a sorting."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from yass_dask import InputError, Sorting
from yass_dask.cli import app
from yass_dask.phy import export_output, read_curated
from yass_dask.store import Store


@pytest.fixture
def out(small_sorted, tmp_path) -> Path:
    """A finished sort with its phy folder."""
    shutil.copytree(small_sorted.folder, tmp_path / "out")
    export_output(tmp_path / "out")
    return tmp_path / "out"


def save_in_phy(folder: Path, clusters: np.ndarray, groups: dict[int, str]) -> None:
    """What phy writes when the user saves."""
    np.save(folder / "spike_clusters.npy", clusters.astype(np.int32)[:, None])
    lines = ["cluster_id\tgroup", *(f"{cluster}\t{group}" for cluster, group in groups.items())]
    (folder / "cluster_group.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_untouched_it_is_the_same_sorting(out):
    before = Sorting.open(out)
    after = read_curated(before, out / "phy")
    assert after.spike_train.tolist() == before.spike_train.tolist()
    np.testing.assert_array_equal(after.templates, before.templates)
    assert after.units == before.units


def test_merges_splits_and_labels(out):
    before = Sorting.open(out)
    assert before.n_units == 3
    a, b, c = before.unit_ids.tolist()
    clusters = before.unit_rows.copy()
    clusters[np.isin(clusters, (0, 1))] = 3
    of_c = np.flatnonzero(before.unit_rows == 2)
    clusters[of_c[::2]], clusters[of_c[1::2]] = 4, 5
    save_in_phy(out / "phy", clusters, {3: "mua", 4: "noise"})
    told = CliRunner().invoke(app, ["curated", str(out)])
    assert told.exit_code == 0, told.output
    after = Sorting.open(out / "curated")
    highest = max(row["unit_id"] for row in before.units)
    merged, even, odd = highest + 1, highest + 2, highest + 3
    assert after.unit_ids.tolist() == [merged, even, odd]
    assert after.times_of(merged).tolist() == sorted([*before.times_of(a), *before.times_of(b)])
    assert after.times_of(even).tolist() == before.times_of(c)[::2].tolist()
    assert [after.about(unit)["label"] for unit in after.unit_ids.tolist()] == ["mua", "noise", "unsorted"]
    assert after.about(merged)["origin"] == f"merged in phy from units {a}, {b}"
    assert after.about(even)["origin"].startswith(f"split in phy from unit {c}: {len(of_c[::2])} of its {len(of_c)}")
    assert (after.about(a)["state"], after.about(a)["merged_into"]) == ("merged", merged)
    assert after.about(c)["why"] == f"in phy its spikes went to units {even}, {odd}"
    # both halves of a unit look like it, and lie where it lies; a merge is the mean by numbers of spikes
    old = before.templates[2]
    for row in (1, 2):
        assert np.corrcoef(after.templates[row].ravel(), old.ravel())[0, 1] > 0.99
        np.testing.assert_allclose(after.unit_locations[row], before.unit_locations[2], atol=4)
    n = [len(before.times_of(unit)) for unit in (a, b)]
    mean = np.average(np.asarray(before.templates[:2]), axis=0, weights=n)
    assert np.abs(after.templates[0] - mean).max() < 0.15 * np.abs(mean).max()
    assert after.report(out / "r.html").is_file()


def test_the_report_of_a_curated_sort_reads_the_traces_of_the_sort(out):
    before = Sorting.open(out)
    save_in_phy(out / "phy", before.unit_rows, {0: "noise", 1: "good", 2: "good"})
    assert CliRunner().invoke(app, ["curated", str(out)]).exit_code == 0
    after = Sorting.open(out / "curated")
    first = int(before.unit_ids[0])
    assert after.about(first)["label"] == "noise"
    assert after.about(first)["why"].endswith("; labelled noise in phy")
    page = after.report().read_text(encoding="utf-8")
    assert 'data-fact="peaks before"' in page
    assert (out / "curated" / "report.html").is_file()


def test_labels_alone_need_no_traces(out):
    before = Sorting.open(out)
    Store(out).drop_traces()
    save_in_phy(out / "phy", before.unit_rows, {0: "mua"})
    assert read_curated(before, out / "phy").about(int(before.unit_ids[0]))["label"] == "mua"
    save_in_phy(out / "phy", np.zeros(before.n_spikes), {})
    with pytest.raises(InputError, match="deleted"):
        read_curated(before, out / "phy")


def test_bad_folders_are_told(out, tmp_path):
    sorting = Sorting.open(out)
    with pytest.raises(InputError, match="cannot be read"):
        read_curated(sorting, tmp_path / "none")
    with pytest.raises(InputError, match="are not those of the sort"):
        read_curated(replace(sorting, sample_index=sorting.sample_index + 1), out / "phy")
    clusters = np.load(out / "phy" / "spike_clusters.npy")
    for odd in (clusters.astype("S4"), np.zeros(len(clusters), "i4,f4")):
        np.save(out / "phy" / "spike_clusters.npy", odd)
        with pytest.raises(InputError, match="not numbers of clusters"):
            read_curated(sorting, out / "phy")
    np.save(out / "phy" / "spike_clusters.npy", clusters)
    (out / "phy" / "cluster_group.tsv").write_text("cluster\tgroup\nx\tgood\n", encoding="utf-8")
    with pytest.raises(InputError, match="expected columns cluster_id and group"):
        read_curated(sorting, out / "phy")
    (out / "phy" / "cluster_group.tsv").unlink()
    with pytest.raises(InputError, match="save in phy first"):
        read_curated(sorting, out / "phy")
