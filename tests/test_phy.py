"""The phy folder, opened by phylib's own model."""

import dataclasses
import json
import warnings

import numpy as np
import pytest

from yass_dask.errors import InputError
from yass_dask.geometry import Probe
from yass_dask.phy import export, export_output
from yass_dask.phy.templates import template_similarity
from yass_dask.readers import from_array, read_binary
from yass_dask.simulate import simulate
from yass_dask.sorting import Sorting

CLEAN_GAIN = 0.5


def true_sorting(made, unit_ids=None):
    """The sorting a perfect sorter would give."""
    scene = made.scene
    n_units = len(made.snr)
    ids = np.arange(n_units) if unit_ids is None else np.array(unit_ids)
    extrema = np.abs(made.templates).max(axis=(1, 2))
    return Sorting(
        sample_index=made.spike_times,
        unit_index=ids[made.spike_labels],
        amplitudes=scene.spike_scales * extrema[made.spike_labels],
        templates=made.templates,
        unit_ids=ids,
        unit_locations=made.unit_positions[:, :2],
        units=[{"unit_id": int(unit), "label": "good", "snr": 8.0, "contamination": np.nan} for unit in ids],
        sampling_rate=made.sampling_rate,
        n_samples=len(made.traces),
        template_peak=made.template_peak,
        probe=Probe(made.positions),
        channel_ids=np.arange(len(made.positions)),
    )


def clean_of(made, chunk_blocks=10):
    """Traces without noise and offset, on another scale than the raw file."""
    uv = made.traces * made.gain_to_uv - np.median(made.traces, axis=0) * made.gain_to_uv
    counts = np.rint(uv / CLEAN_GAIN).astype(np.int16)
    return from_array(counts, made.sampling_rate, made.positions, CLEAN_GAIN).with_chunks(chunk_blocks)


def opened(params):
    """phylib's model of a folder; numpy's complaints about phylib's own code are not ours."""
    from phylib.io.model import load_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_model(params)


@pytest.fixture(scope="module")
def made():
    return simulate(n_channels=16, seconds=3, n_units=5, seed=3, snr=(20, 60))


@pytest.fixture(scope="module")
def raw(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("raw") / "it's raw.bin"
    path.write_bytes(b"HEAD" + made.traces.tobytes())
    return read_binary(
        path,
        sampling_rate=made.sampling_rate,
        n_channels=16,
        dtype="int16",
        geometry=made.positions,
        offset=4,
        gain_to_uv=0.195,
    )


@pytest.fixture(scope="module")
def params(made, raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("phy") / "folder"
    return export(true_sorting(made, [0, 2, 3, 7, 9]), clean_of(made), folder, raw=raw)


@pytest.fixture(scope="module")
def model(params):
    return opened(params)


def test_every_file_of_the_list_is_there(params):
    names = {path.name for path in params.parent.iterdir()}
    arrays = (
        "spike_times spike_clusters spike_templates templates templates_ind amplitudes "
        "pc_features pc_feature_ind template_features template_feature_ind similar_templates "
        "whitening_mat whitening_mat_inv channel_map channel_positions channel_shanks"
    )
    assert {f"{name}.npy" for name in arrays.split()} <= names
    assert {"params.py", "cluster_group.tsv", "cluster_snr.tsv", "cluster_rate_hz.tsv"} <= names


def test_params_are_plain_python(params, raw):
    values = {}
    exec(params.read_text(), {}, values)
    assert values == {
        "dat_path": raw.source.path,
        "n_channels_dat": 16,
        "dtype": "int16",
        "offset": 4,
        "sample_rate": 30000.0,
        "hp_filtered": False,
    }


@pytest.mark.coverage_row("A2.8")
def test_spikes_templates_and_channels(model, made):
    np.testing.assert_array_equal(model.spike_samples, made.spike_times)
    np.testing.assert_array_equal(model.spike_clusters, made.spike_labels)
    np.testing.assert_array_equal(model.spike_templates, made.spike_labels)
    np.testing.assert_allclose(model.amplitudes, made.scene.spike_scales, rtol=1e-5)
    np.testing.assert_array_equal(model.channel_positions, made.positions)
    for unit in range(5):
        shown = model.get_template(unit)
        np.testing.assert_allclose(shown.template, made.templates[unit][:, shown.channel_ids], atol=1e-4)
        assert shown.best_channel == np.ptp(made.templates[unit], axis=0).argmax()


def test_waveforms_come_from_the_raw_file(model, made):
    spikes = np.arange(10, 20)
    waveforms = model.get_waveforms(spikes, np.array([3, 5]))
    half = made.templates.shape[1] // 2
    for row, spike in enumerate(spikes):
        time = made.spike_times[spike]
        expected = made.traces[time - half : time - half + made.templates.shape[1], [3, 5]]
        np.testing.assert_allclose(waveforms[row], expected, atol=0.5)


def test_tables(model):
    assert model.metadata["group"] == dict.fromkeys(range(5), "good")
    assert model.metadata["unit_id"] == {0: 0, 1: 2, 2: 3, 3: 7, 4: 9}
    assert model.metadata["snr"][4] == 8
    assert model.metadata["rate_hz"][0] == pytest.approx((model.spike_clusters == 0).sum() / 3, rel=1e-3)
    assert "contamination" not in model.metadata


def snippet_of(clean, time, channels, peak, length):
    rows = np.arange(time - peak, time - peak + length)
    return clean.source.read(rows[0], rows[-1] + 1)[:, channels] * CLEAN_GAIN


def test_features_are_projections_of_the_clean_snippets(model, made):
    clean, components = clean_of(made), None
    length = made.templates.shape[1]
    channels = model.sparse_features.cols
    snippets, features = [], []
    for spike in range(0, model.n_spikes, 3):
        own = channels[model.spike_templates[spike]]
        snippets.append(snippet_of(clean, made.spike_times[spike], own, made.template_peak, length))
        features.append(model.get_features([spike], own)[0])
    snippets, features = np.array(snippets), np.array(features)
    flat = snippets.transpose(0, 2, 1).reshape(-1, length)
    components = np.linalg.lstsq(flat, features.reshape(-1, 3), rcond=None)[0]
    np.testing.assert_allclose(flat @ components, features.reshape(-1, 3), atol=0.05)
    np.testing.assert_allclose(components.T @ components, np.eye(3), atol=1e-3)
    # the first one is the best single time course: it holds most of the power on the main channels
    main = snippets[:, :, 0]
    assert (features[:, 0, 0] ** 2).sum() > 0.5 * (main**2).sum()
    assert (features[:, 0] ** 2).sum() > 0.8 * (main**2).sum()


def test_features_do_not_depend_on_chunks(made, params, tmp_path):
    one = export(true_sorting(made), clean_of(made, chunk_blocks=1), tmp_path / "one")
    for name in ("pc_features.npy", "template_features.npy"):
        here, there = np.load(one.parent / name), np.load(params.parent / name)
        np.testing.assert_allclose(here, there, atol=1e-3)
        assert np.abs(here).max() > 10


def test_template_features_tell_units_apart(model):
    products = model.get_template_features(np.arange(model.n_spikes))
    best = products.argmax(axis=1)
    assert (best == model.spike_templates).mean() > 0.9


def test_template_features_are_products_with_templates_of_norm_one(model, made):
    unit, spike = model.spike_templates[7], 7
    own = model.sparse_features.cols[unit]
    length = made.templates.shape[1]
    snippet = snippet_of(clean_of(made), made.spike_times[spike], own, made.template_peak, length)
    for place, other in enumerate(model.sparse_template_features.cols[unit]):
        template = made.templates[other] / np.linalg.norm(made.templates[other])
        expected = (snippet * template[:, own]).sum()
        assert model.sparse_template_features.data[spike, place] == pytest.approx(expected, abs=0.05)


def test_similarity(model):
    matrix = model.similar_templates
    np.testing.assert_allclose(np.diag(matrix), 1, atol=1e-5)
    np.testing.assert_array_equal(matrix, matrix.T)
    wave = np.zeros((2, 30, 3), np.float32)
    wave[0, 10:15, 1] = wave[1, 13:18, 1] = [1, -5, 2, 1, 0]
    assert template_similarity(wave)[0, 1] == pytest.approx(1)


def test_spikes_at_both_ends_are_filled_up_with_zeros(made, tmp_path):
    ends = np.array([0, 5, len(made.traces) - 1])
    sorting = dataclasses.replace(
        true_sorting(made), sample_index=ends, unit_index=np.array([0, 1, 2]), amplitudes=np.ones(3)
    )
    model = opened(export(sorting, clean_of(made, 1), tmp_path))
    assert np.isfinite(model.features[:]).all()
    assert np.abs(model.features[:]).max(axis=(1, 2)).min() > 0


def test_recording_that_is_no_flat_file_is_written_beside(made, tmp_path):
    clean = clean_of(made)
    model = opened(export(true_sorting(made), clean, tmp_path, raw=clean))
    assert model.dat_path == [tmp_path / "recording.dat"]
    assert model.hp_filtered is True
    np.testing.assert_array_equal(model.traces[100:200, :], clean.source.read(100, 200))


def test_slice_of_a_file_is_shown_where_it_lies(made, raw, tmp_path):
    part = raw.slice_time(1.0, 2.0).slice_channels([4, 2, 9])
    some = simulate(n_channels=3, seconds=1, n_units=2)
    sorting = dataclasses.replace(true_sorting(some), probe=part.probe)
    model = opened(export(sorting, from_array(some.traces, 30000.0, part.probe), tmp_path, raw=part))
    np.testing.assert_array_equal(model.traces[:50, :], made.traces[30000:30050, [4, 2, 9]])


def test_file_with_channels_first_is_not_handed_to_phy(made, tmp_path):
    path = tmp_path / "columns.bin"
    path.write_bytes(np.ascontiguousarray(made.traces.T).tobytes())
    columns = read_binary(path, sampling_rate=30000.0, n_channels=16, dtype="int16", order="channels")
    params = export(true_sorting(made), clean_of(made), tmp_path / "phy", raw=columns)
    assert "recording.dat" in params.read_text()


@pytest.mark.parametrize(("n_channels", "n_units"), [(1, 1), (1, 3), (4, 1)])
def test_single_channel_and_single_unit_open(n_channels, n_units, tmp_path):
    made = simulate(n_channels=n_channels, seconds=3, n_units=n_units, geometry="tetrode", snr=(20, 30))
    model = opened(export(true_sorting(made), clean_of(made), tmp_path))
    assert model.sparse_templates.data.shape == (max(n_units, 2), made.templates.shape[1], n_channels)
    np.testing.assert_array_equal(model.sparse_templates.data[:n_units], made.templates)
    assert model.get_features([0, 1], np.arange(n_channels)).shape == (2, n_channels, 3)
    assert model.get_template_features([0, 1]).shape == (2, max(n_units, 2))
    assert model.get_waveforms([0, 1], np.arange(n_channels)).shape[2] == n_channels
    np.testing.assert_allclose(model.amplitudes, made.scene.spike_scales, rtol=1e-5)


@pytest.mark.parametrize("n_units", [0, 3])
def test_sorting_without_spikes_gives_whole_arrays_of_no_spikes(n_units, tmp_path):
    """phylib's model asks for the last spike's time, so it opens no folder without spikes."""
    made = simulate(n_channels=4, seconds=1, n_units=3, geometry="tetrode")
    none = np.empty(0, np.int64)
    sorting = dataclasses.replace(
        true_sorting(made),
        sample_index=none,
        unit_index=none,
        amplitudes=none,
        templates=made.templates[:n_units],
        unit_ids=np.arange(n_units),
        unit_locations=made.unit_positions[:n_units, :2],
        units=[],
    )
    folder = export(sorting, clean_of(made), tmp_path).parent
    shapes = {path.stem: np.load(path, allow_pickle=False).shape for path in folder.glob("*.npy")}
    assert shapes["spike_times"] == shapes["spike_clusters"] == shapes["amplitudes"] == (0,)
    assert shapes["templates"] == (n_units, made.templates.shape[1], 4)
    assert shapes["pc_features"] == (0, 3, 4)
    assert shapes["pc_feature_ind"] == (n_units, 4)
    assert shapes["similar_templates"] == (n_units, n_units)
    assert shapes["template_features"] == (0, n_units)
    assert shapes["channel_map"] == (4,)
    assert (folder / "cluster_group.tsv").read_text() == "cluster_id\tgroup\n"


def test_curated_folder_is_left_alone(made, params, tmp_path):
    (tmp_path / "cluster_info.tsv").write_text("cluster_id\tgroup\n")
    with pytest.raises(InputError, match="saved in phy"):
        export(true_sorting(made), clean_of(made), tmp_path)


def test_other_recording_is_refused(made, tmp_path):
    with pytest.raises(InputError, match="clean traces have 89000 samples of 16 channels"):
        export(true_sorting(made), clean_of(made)[:89000], tmp_path)


def write_zarr_array(folder, values, rows=30000):
    """Uncompressed zarr array of format 2, the same whichever zarr library reads it."""
    about = {"zarr_format": 2, "shape": values.shape, "chunks": [rows, values.shape[1]], "order": "C"}
    about |= {"dtype": values.dtype.str, "compressor": None, "filters": None, "fill_value": 0}
    folder.mkdir(parents=True)
    (folder / ".zarray").write_text(json.dumps(about))
    for index in range(len(values) // rows):
        (folder / f"{index}.0").write_bytes(values[index * rows : (index + 1) * rows].tobytes())


def output_folder(made, folder, raw_bytes=None):
    """An output folder as a sort leaves it: sorting, configuration, clean traces."""
    import yaml

    clean = clean_of(made)
    write_zarr_array(folder / "yass.zarr" / "preprocess" / "traces", clean.source.read(0, clean.n_samples))
    sorting = dataclasses.replace(true_sorting(made), trace_gain=np.full(16, CLEAN_GAIN))
    sorting.write(folder)
    if raw_bytes is not None:
        (folder / "recording.bin").write_bytes(raw_bytes)
        np.save(folder / "geometry.npy", made.positions)
        data = {"root_folder": str(folder), "recordings": "recording.bin", "geometry": "geometry.npy"}
        about = {"dtype": "int16", "sampling_rate": 30000, "n_channels": 16, "order": "samples"}
        about |= {"spatial_radius": 70, "spike_size_ms": 1.5}
        config = {"data": data, "resources": {"max_memory": "200MB"}, "recordings": about}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.mark.coverage_row("A2.8")
def test_output_folder_is_enough(made, params, tmp_path):
    out = output_folder(made, tmp_path, made.traces.tobytes())
    written = export_output(out)
    assert written == out / "phy" / "params.py"
    assert repr(str(out / "recording.bin")) in written.read_text()
    for name in ("pc_features.npy", "amplitudes.npy", "templates.npy"):
        np.testing.assert_allclose(np.load(written.parent / name), np.load(params.parent / name), atol=1e-3)


def test_output_folder_without_its_raw_file_shows_the_clean_traces(made, tmp_path):
    out = output_folder(made, tmp_path, made.traces.tobytes())
    (out / "recording.bin").unlink()
    model = opened(export_output(out, tmp_path / "elsewhere"))
    assert model.dat_path == [tmp_path / "elsewhere" / "recording.dat"]
    np.testing.assert_array_equal(model.traces[:50, :], clean_of(made).source.read(0, 50))


def test_deleted_clean_traces_are_told(made, tmp_path):
    true_sorting(made).write(tmp_path)
    with pytest.raises(InputError, match="the clean traces were not kept"):
        export_output(tmp_path)
