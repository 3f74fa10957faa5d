"""The NWB file, read by pynwb and looked at by nwbinspector."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from yass_dask import InputError
from yass_dask.cli import app

pynwb = pytest.importorskip("pynwb")

SESSION = """
session_start: '2026-05-01T14:30:00+02:00'
experimenter: ["Doe, Jane"]
institution: A university
location: VISp
experiment_description: simulated
keywords: [simulated]
subject: {subject_id: m1, species: Mus musculus, sex: F, age: P90D, description: a mouse}
"""


@pytest.fixture(scope="module")
def written(small_sorted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nwb")
    (folder / "session.yaml").write_text(SESSION, encoding="utf-8")
    command = ["export", str(small_sorted.folder), "--format", "nwb", "-o", str(folder / "new")]
    told = CliRunner().invoke(app, [*command, "--session", str(folder / "session.yaml")])
    assert told.exit_code == 0, told.output
    return folder / "new" / "sorting.nwb"


def test_it_holds_the_sorting(written, small_sorted):
    sorting = small_sorted.sorting
    with pynwb.NWBHDF5IO(str(written), "r") as opened:
        file = opened.read()
        assert file.session_start_time.isoformat() == "2026-05-01T14:30:00+02:00"
        assert file.subject.subject_id == "m1"
        assert file.units.resolution == pytest.approx(1 / 30000)
        assert file.units.waveform_rate == 30000
        assert file.units.id[:].tolist() == sorting.unit_ids.tolist()
        for row, unit in enumerate(sorting.unit_ids.tolist()):
            times = file.units.get_unit_spike_times(row)
            assert np.round(times * 30000).astype(int).tolist() == sorting.times_of(unit).tolist()
            np.testing.assert_allclose(file.units["waveform_mean"][row] * 1e6, sorting.templates[row], rtol=1e-5)
            assert file.units["why"][row] == sorting.about(unit)["why"]
        table = file.electrodes.to_dataframe()
        np.testing.assert_allclose(table[["rel_x", "rel_y"]], sorting.probe.positions)


def test_nwbinspector_has_nothing_to_say(written):
    inspector = pytest.importorskip("nwbinspector")
    assert [message.message for message in inspector.inspect_nwbfile(nwbfile_path=str(written))] == []


def test_without_gain_there_are_no_volts(small_sorted, tmp_path):
    path = replace(small_sorted.sorting, path=None).to_nwb(tmp_path / "a.nwb", "2026-05-01T00:00:00+00:00")
    with pynwb.NWBHDF5IO(str(path), "r") as opened:
        assert "waveform_mean" not in opened.read().units.colnames


def test_no_units(small_sorted, tmp_path):
    s = small_sorted.sorting
    none = replace(s, sample_index=[], unit_index=[], amplitudes=[], templates=s.templates[:0], unit_ids=[],
                   unit_locations=[], units=[])  # fmt: skip
    assert none.to_nwb(tmp_path / "a.nwb", "2026-05-01T00:00:00+00:00").is_file()


def test_what_is_wrong_is_told(small_sorted, tmp_path):
    sorting = small_sorted.sorting
    with pytest.raises(InputError, match="give a date such as"):
        sorting.to_nwb(tmp_path / "a.nwb", "yesterday")
    with pytest.raises(InputError, match="give its time zone"):
        sorting.to_nwb(tmp_path / "a.nwb", "2026-05-01T00:00:00")
    with pytest.raises(InputError, match="weather"):
        sorting.to_nwb(tmp_path / "a.nwb", "2026-05-01T00:00:00+00:00", weather="fine")
    told = CliRunner().invoke(app, ["export", str(small_sorted.folder), "--format", "nwb", "-o", str(tmp_path)])
    assert told.exit_code == 2
    assert "give --session FILE" in told.output
