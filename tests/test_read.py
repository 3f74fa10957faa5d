"""`yass sort --read FORMAT:PATH`: files of other programs, written here by their own libraries or byte by byte."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from yass_dask import InputError, Sorting, SortParams, config, from_config, read_binary, sort
from yass_dask.cli import app
from yass_dask.config.reading import Reading
from yass_dask.runtime import Executor
from yass_dask.spikeinterface.reading import known_formats

si = pytest.importorskip("spikeinterface.full")
probeinterface = pytest.importorskip("probeinterface")

RATE, GAIN = 30000.0, 0.195
QUICK = ["--set", "n_refinements=0", "--backend", "numba", "--workers", "1", "--no-progress"]


def opened(folder: Path, read: str, **data: object):
    sections = {"data": {"root_folder": str(folder), "read": read, **data}, "resources": {"max_memory": "100MB"}}
    return config.load(sections).recording()


def yass(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def traces(simulation):
    return simulation.traces


@pytest.fixture(scope="module")
def recording(simulation):
    made = si.NumpyRecording([simulation.traces], RATE)
    made.set_channel_gains(GAIN)
    made.set_channel_offsets(0.0)
    made.set_dummy_probe_from_locations(simulation.positions)
    return made


@pytest.fixture(scope="module")
def folder(recording, traces, simulation, tmp_path_factory) -> Path:
    """One recording in several formats."""
    folder = tmp_path_factory.mktemp("formats")
    recording.save(folder=folder / "binary", verbose=False)
    recording.save(folder=folder / "stored.zarr", format="zarr", verbose=False)
    write_spikeglx(folder / "run_g0", {"imec0.ap": traces, "imec0.lf": traces[::12]})
    write_spikeglx(folder / "one_g0", {"imec0.ap": traces})
    write_open_ephys(folder / "oe", traces)
    write_nwb(folder / "two.nwb", {"raw": traces, "lfp": traces[::12]}, simulation.positions)
    np.save(folder / "places.npy", simulation.positions)
    traces.tofile(folder / "flat.bin")
    return folder


def write_spikeglx(folder: Path, streams: dict[str, np.ndarray]) -> None:
    """A run of SpikeGLX with a Neuropixels 1.0 probe: binary files, the last channel the clock's pulses."""
    folder.mkdir()
    for stream, traces in streams.items():
        n_samples, n = traces.shape
        low = stream.endswith("lf")
        first = 384 if low else 0
        path = folder / f"{folder.name}_t0.{stream}"
        pulses = np.zeros((n_samples, 1), np.int16)
        np.concatenate([traces.astype(np.int16), pulses], axis=1).tofile(path.with_name(path.name + ".bin"))
        counts = f"0,{n},1" if low else f"{n},0,1"
        prefix = "LF" if low else "AP"
        names = "".join(f"({prefix}{k};{k}:{k})" for k in range(n))
        size = path.with_name(path.name + ".bin").stat().st_size
        about = {
            "acqApLfSy": "384,384,1", "snsApLfSy": counts, "appVersion": 20190327, "fileName": f"{path}.bin",
            "fileSizeBytes": size, "fileTimeSecs": n_samples / (2500 if low else RATE), "firstSample": 0,
            "gateMode": "Immediate", "imAiRangeMax": 0.6, "imAiRangeMin": -0.6, "imSampRate": 2500 if low else RATE,
            "imMaxInt": 512, "imDatPrb_type": 0, "imDatPrb_pn": "NP1000", "imDatPrb_sn": 1, "nSavedChans": n + 1,
            "snsSaveChanSubset": f"{first}:{first + n - 1},768", "typeThis": "imec",
            "~imroTbl": "(0,384)" + "".join(f"({k} 0 0 500 250 1)" for k in range(384)),
            "~snsChanMap": f"({counts})" + names + "(SY0;768:768)",
        }  # fmt: skip
        text = "".join(f"{key}={value}\n" for key, value in about.items())
        path.with_name(path.name + ".meta").write_text(text)


def write_open_ephys(folder: Path, traces: np.ndarray) -> None:
    """Open Ephys' binary format."""
    inner = folder / "Record Node 101" / "experiment1" / "recording1"
    stream = inner / "continuous" / "Rhythm_FPGA-100.0"
    stream.mkdir(parents=True)
    traces.tofile(stream / "continuous.dat")
    np.save(stream / "timestamps.npy", np.arange(len(traces), dtype=np.int64))
    np.save(stream / "sample_numbers.npy", np.arange(len(traces), dtype=np.int64))
    channels = [
        {"channel_name": f"CH{k + 1}", "bit_volts": GAIN, "units": "uV", "description": "", "identifier": ""}
        for k in range(traces.shape[1])
    ]
    about = {"folder_name": "Rhythm_FPGA-100.0/", "sample_rate": RATE, "source_processor_name": "Rhythm FPGA",
             "source_processor_id": 100, "source_processor_sub_idx": 0, "recorded_processor": "Record Node",
             "recorded_processor_id": 101, "num_channels": traces.shape[1], "channels": channels}  # fmt: skip
    structure = {"GUI version": "0.5.5", "continuous": [about], "events": [], "spikes": []}
    (inner / "structure.oebin").write_text(json.dumps(structure))


def write_nwb(path: Path, series: dict[str, np.ndarray], positions: np.ndarray) -> None:
    pynwb = pytest.importorskip("pynwb")
    from pynwb.ecephys import ElectricalSeries

    file = pynwb.NWBFile("a test", "id", datetime(2026, 1, 1, tzinfo=UTC))
    device = file.create_device(name="array")
    group = file.create_electrode_group("shank0", "one", "cortex", device)
    for x, y in positions:
        file.add_electrode(location="cortex", group=group, rel_x=float(x), rel_y=float(y))
    region = file.create_electrode_table_region(list(range(len(positions))), "all")
    for name, traces in series.items():
        rate = RATE if name == "raw" else RATE / 12
        file.add_acquisition(
            ElectricalSeries(name=name, data=traces, electrodes=region, rate=rate, conversion=GAIN * 1e-6)
        )
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)


@pytest.mark.parametrize(
    ("read", "probe"),
    [
        ("binaryfolder:binary", False),
        ("spikeinterface:binary", False),
        ("zarr:stored.zarr", False),
        ("nwb:two.nwb#acquisition/raw", False),
        ("spikeglx:run_g0#imec0.ap", True),
        ("SpikeGLX:one_g0", True),
        ("open-ephys:oe", True),
    ],
)
def test_a_format_is_opened_with_rate_gain_and_places(folder, traces, simulation, read, probe):
    found = opened(folder, read, **({"geometry": "places.npy"} if probe else {}))
    assert (found.n_samples, found.n_channels, found.sampling_rate) == (*traces.shape, RATE)
    np.testing.assert_array_equal(found.source.read(1000, 61_000), traces[1000:61_000])
    np.testing.assert_allclose(found.probe.positions, simulation.positions)
    assert found.gain_to_uv is not None
    if "glx" not in read.lower():
        np.testing.assert_allclose(found.gain_to_uv, GAIN, rtol=1e-6)


def test_a_neuropixels_file_brings_its_probe(folder):
    found = opened(folder, "spikeglx:one_g0")
    assert np.ptp(found.probe.positions, axis=0).min() > 0
    assert found.channel_ids[0].endswith("AP0")


def test_all_that_spikeinterface_opens_is_known():
    names = {
        "spikeglx",
        "intan",
        "nwb",
        "mearec",
        "neuralynx",
        "blackrock",
        "openephysbinary",
        "tdt",
        "plexon",
        "maxwell",
    }
    assert names <= set(known_formats())


# --- the command ---


def test_sort_needs_no_configuration_and_finds_the_same_spikes(folder, simulation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = yass("sort", "--read", f"spikeglx:{folder / 'one_g0'}", "--probe", folder / "places.npy", *QUICK)
    assert ran.exit_code == 0, ran.output
    read = Sorting.open(tmp_path / "tmp")
    flat = read_binary(folder / "flat.bin", sampling_rate=RATE, n_channels=8, dtype="int16",
                       geometry=folder / "places.npy")  # fmt: skip
    plain = sort(flat, tmp_path / "plain", SortParams(n_refinements=0), backend="numba", client=Executor("sync"))
    assert len(plain.spike_train) > 100
    np.testing.assert_array_equal(read.spike_train, plain.spike_train)
    # what ran is written down, and serves again
    stored = yaml.safe_load((tmp_path / "tmp" / "config.yaml").read_text())
    assert stored["data"]["read"] == f"spikeglx:{folder / 'one_g0'}"
    again = yass("sort", tmp_path / "tmp" / "config.yaml", "-o", tmp_path / "tmp", *QUICK)
    assert again.exit_code == 0, again.output
    exported = yass("export", tmp_path / "tmp")
    assert exported.exit_code == 0, exported.output


def test_a_configuration_gives_all_but_the_recording(folder, tmp_path):
    sections = {
        "data": {"root_folder": "./", "recordings": "gone.bin", "geometry": "gone.npy"},
        "resources": {"max_memory": "50MB", "processes": 1},
        "recordings": {"dtype": "float32", "sampling_rate": 1000, "n_channels": 3, "spatial_radius": 70,
                       "spike_size_ms": 1.5, "order": "samples", "bad_channels": [2]},
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(sections))
    ran = yass("info", tmp_path / "config.yaml", "--read", f"zarr:{folder / 'stored.zarr'}")
    assert ran.exit_code == 0, ran.output
    assert "8" in ran.output and "stored.zarr" in ran.output and "bad" in ran.output


@pytest.mark.parametrize(
    ("read", "words"),
    [
        ("spikeglx", "is not FORMAT:PATH"),
        ("spiklegx:binary", "known are openephys, alphaomega"),
        ("nwb:gone.nwb", "no such file or folder"),
        ("nwb:two.nwb", "two.nwb has several streams: acquisition/"),
        ("spikeglx:run_g0", "has several streams: imec0.ap, imec0.lf; choose one, spikeglx:"),
        ("spikeglx:run_g0#imec7.ap", "no stream 'imec7.ap'; its streams are imec0.ap, imec0.lf"),
        ("zarr:stored.zarr#a", "no stream 'a'; zarr has no streams"),
        ("open-ephys:oe", "does not say where its 8 contacts lie: give --probe FILE"),
        ("nwb:flat.bin", "SpikeInterface cannot open it as nwb"),
    ],
)
def test_what_is_wrong_is_said(folder, monkeypatch, read, words):
    monkeypatch.chdir(folder)
    ran = yass("info", "--read", read)
    assert ran.exit_code == 2
    assert words in ran.output
    assert "Traceback" not in ran.output


def test_nothing_to_sort_is_said():
    ran = yass("sort")
    assert ran.exit_code == 2
    assert "yass sort CONFIG" in ran.output


def test_a_probe_of_other_channels_is_refused(folder, tmp_path):
    np.save(tmp_path / "three.npy", np.zeros((3, 2)))
    ran = yass("info", "--read", f"open-ephys:{folder / 'oe'}", "--probe", tmp_path / "three.npy")
    assert ran.exit_code == 2
    assert "3 contact positions for a recording of 8 channels" in ran.output


def test_without_spikeinterface_it_says_what_to_install(folder, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("yass_dask.spikeinterface")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "spikeinterface", None)
    monkeypatch.setitem(sys.modules, "spikeinterface.core", None)
    with pytest.raises(InputError, match=r"pip install 'yass-dask\[spikeinterface\]'"):
        opened(folder, "zarr:stored.zarr")


def test_the_file_is_believed_not_the_configuration(folder):
    sections = {
        "data": {"root_folder": str(folder), "read": "zarr:stored.zarr"},
        "resources": {"max_memory": "100MB"},
        "recordings": {"n_channels": 32, "spatial_radius": -1},
    }
    with pytest.raises(InputError) as caught:
        config.load(sections)
    assert "recordings.n_channels: found 32: the recording itself says 8" in str(caught.value)
    assert "recordings.spatial_radius: found -1" in str(caught.value)
    sections["recordings"] = {}
    sections["data"]["recordings"] = "flat.bin"
    with pytest.raises(InputError, match="give read or recordings, not both"):
        config.load(sections)


def test_a_path_may_hold_the_sign_of_streams(tmp_path):
    (tmp_path / "run#1").mkdir()
    assert Reading.parse("zarr:run#1", tmp_path) == ("zarr", tmp_path / "run#1", None)
    assert Reading.parse("zarr:run#1#ap", tmp_path) == ("zarr", tmp_path / "run#1", "ap")


def test_yass_steps_ask_for_what_a_recording_does_not_say(folder, tmp_path):
    ran = yass("sort", "--read", f"zarr:{folder / 'stored.zarr'}", "-o", tmp_path / "o", "--complete", *QUICK)
    assert ran.exit_code == 2
    assert "need recordings.spatial_radius and recordings.spike_size_ms" in ran.output


def test_the_same_spikes_whichever_way_in(folder, recording, simulation, tmp_path):
    """By a configuration, by --read, from Python, and by SpikeInterface's run_sorter."""
    sections = {
        "data": {"root_folder": str(folder), "recordings": "flat.bin", "geometry": "places.npy"},
        "resources": {"max_memory": "100MB", "processes": 1},
        "recordings": {"dtype": "int16", "sampling_rate": 30000, "n_channels": 8, "spatial_radius": 60,
                       "spike_size_ms": 1.6, "order": "samples", "gain_to_uv": GAIN},
        "params": {"n_refinements": 0},
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(sections))
    params = SortParams.from_config(sections)
    assert params != SortParams(n_refinements=0)
    said = yass("sort", tmp_path / "config.yaml", "-o", tmp_path / "a", "--backend", "numba", "--no-progress")
    assert said.exit_code == 0, said.output
    how = {"backend": "numba", "client": Executor("sync")}
    trains = {
        "command": Sorting.open(tmp_path / "a").spike_train,
        "python": sort(from_config(sections), tmp_path / "b", params, **how).spike_train,
    }
    del sections["recordings"]["dtype"], sections["data"]["recordings"], sections["data"]["geometry"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(sections))
    words = ["sort", tmp_path / "config.yaml", "--read", f"binaryfolder:{folder / 'binary'}", "-o", tmp_path / "c"]
    said = yass(*words, "--backend", "numba", "--no-progress")
    assert said.exit_code == 0, said.output
    trains["--read"] = Sorting.open(tmp_path / "c").spike_train
    science = params.model_dump(mode="json")
    quiet = {"backend": "numba", "job_kwargs": {"n_jobs": 1, "progress_bar": False}}
    found = si.run_sorter(
        "yass_dask", si.load(folder / "binary"), folder=tmp_path / "d", verbose=False, **quiet, **science
    )
    spikes = found.to_spike_vector()
    trains["run_sorter"] = np.stack([spikes["sample_index"], found.unit_ids[spikes["unit_index"]]], axis=1)
    assert len(trains["python"]) > 100
    for way, train in trains.items():
        np.testing.assert_array_equal(train, trains["python"], err_msg=way)
