"""The bound of a recording with known truth: our own pursuit with the true templates.

    python -m benchmarks.accuracy.oracle FOLDER

What it loses, no finding of units can win back: noise, collisions, and the pursuit's own rules.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from yass_dask import SortParams, from_config
from yass_dask.conditioning import Conditioner
from yass_dask.evaluate import Agreement, Spikes, compare
from yass_dask.likely import Fits, fit_units
from yass_dask.noise import Noise, measure_noise, measure_spectrum
from yass_dask.pipeline import pursue
from yass_dask.preprocess import Clean, measure_scale, preprocess
from yass_dask.refine import Units, levels
from yass_dask.session import running
from yass_dask.subsample import shift_samples
from yass_dask.templates import Templates, TemplatesParams, local_channels

MANY = 10**6
"""True templates are known without noise, as if averaged over so many spikes."""
N_DRAWS = 200


def run(
    folder: str | Path,
    params: SortParams | None = None,
    store: str | Path | None = None,
    units_of: Callable[..., Units] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Spikes that the pursuit finds with the true templates.

    Parameters
    ----------
    folder : with config.yaml and ground_truth.npz, as `hybrid.make` writes them.
    params : of the sort; by default those of the configuration.
    store : where stages are kept; a temporary folder unless told.
    units_of : makes the units of the truth, the clean traces, their conditioner, the noise and the parameters; those
        of the true templates unless told.

    Returns
    -------
    spike_times (samples, ascending), spike_labels (true unit), both int64.
    """
    folder, backend = Path(folder), "numba"
    recording = from_config(folder / "config.yaml")
    params = params or SortParams.from_config(folder / "config.yaml")
    with (
        tempfile.TemporaryDirectory() as spare,
        running(recording, store or spare, backend=backend, client=None, seed=0, progress=None) as (keep, _, _, _),
    ):
        scale = keep("scale", measure_scale(recording, params.preprocess, backend))
        clean = keep("preprocess", preprocess(recording, scale, params.preprocess, backend))
        noise = keep("noise", measure_noise(clean, params.preprocess, backend))
        matched = keep("spectrum", measure_spectrum(clean, noise, params.preprocess, backend))
        conditioner = Conditioner.of(recording, params.preprocess, backend, bad=np.flatnonzero(scale.bad))
        with np.load(folder / "ground_truth.npz") as truth:
            units = (units_of or _at_rest)(truth, clean, conditioner, matched, params)
        found = pursue(keep, "", clean, matched, units, params, backend).load()
        fits = _fitted(found, units, params, clean.recording.n_samples)
    found = {name: values[found["log_odds"] >= fits.least[found["unit_index"]]] for name, values in found.items()}
    late = np.rint(shift_samples(found["shift"])).astype(np.int64)
    return found["sample_index"] + late, found["unit_index"].astype(np.int64)


def _at_rest(truth: Any, clean: Clean, conditioner: Conditioner, noise: Noise, params: SortParams) -> Units:
    templates = true_templates(truth, clean, conditioner, params.templates)
    return Units(templates, levels(templates, noise), len(templates), [])


def _fitted(found: Mapping[str, np.ndarray], units: Units, params: SortParams, n_samples: int) -> Fits:
    if units.poses is None:
        return fit_units(found, units.levels, params.deconvolve.log_odds, n_samples)
    rows = units.poses.index().of_spikes(found["unit_index"], found["sample_index"])
    relative = units.poses.levels()[rows] / units.levels[found["unit_index"]]
    spread = np.ones(len(units.levels), bool)
    return fit_units(found, units.levels, params.deconvolve.log_odds, n_samples, spread, relative)


def true_templates(
    truth: Mapping[str, Any], clean: Clean, conditioner: Conditioner, params: TemplatesParams
) -> Templates:
    """True waveforms (uV) as the preprocessing shows them: band-passed, referenced, in noise standard deviations."""
    recording = clean.recording
    waves, at = np.asarray(truth["templates"], dtype=np.float64), int(truth["template_peak"])
    before, after = recording.samples(params.before_ms), recording.samples(params.after_ms)
    filtered = band_passed(waves, conditioner)[:, at - before + conditioner.halo :][:, : before + after + 1]
    filtered = filtered - expected_reference(filtered, clean.unit_per_sd, conditioner.groups)
    sd = filtered / clean.unit_per_sd
    sd[:, :, clean.scale.bad] = 0.0
    main = np.abs(filtered * ~clean.scale.bad).max(axis=1).argmax(axis=1)
    channels = local_channels(recording, params.max_channels)[main]
    padded = np.concatenate([sd, np.zeros_like(sd[:, :, :1])], axis=2)
    local = np.take_along_axis(padded, channels[:, None, :].astype(np.int64), axis=2).astype(np.float32)
    n_units = len(waves)
    return Templates(local, channels, np.full(n_units, MANY), np.arange(n_units), before, recording.n_channels)


def expected_reference(waves: np.ndarray, noise_uv: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """What a common median reference takes from each waveform on average, (units, samples, channels) uV.

    The median of waveform and noise, over draws of noise. Little for most units; without it an axon along a whole
    shank, of which the reference takes a part, is not found at all with its true template.
    """
    rng = np.random.default_rng(0)
    taken = np.zeros_like(waves)
    for group in np.unique(groups[groups >= 0]):
        members = np.flatnonzero(groups == group)
        draws = rng.standard_normal((N_DRAWS, 1, len(members))) * noise_uv[members]
        for unit, wave in enumerate(waves):
            median = np.median(wave[:, members] + draws, axis=2).mean(axis=0)
            taken[unit][:, members] = (median - np.median(draws, axis=2).mean())[:, None]
    return taken


def band_passed(waves: np.ndarray, conditioner: Conditioner) -> np.ndarray:
    """(units, samples + 2 halo, channels): waveforms through the filter of the preprocessing, with its tails."""
    from scipy.signal import sosfiltfilt

    padded = np.pad(waves, [(0, 0), (conditioner.halo, conditioner.halo), (0, 0)])
    if conditioner.sos is None:
        return padded
    return sosfiltfilt(conditioner.sos, padded, axis=1)


def score(folder: str | Path, times: np.ndarray, labels: np.ndarray) -> Agreement:
    """Agreement of spikes with the truth of a folder."""
    with np.load(Path(folder) / "ground_truth.npz") as truth:
        true = Spikes(truth["spike_times"], truth["spike_labels"])
        return compare(true, Spikes(times, labels), float(truth["sampling_rate"]), snr=truth["snr"])


def summary(folder: str | Path, agreement: Agreement) -> str:
    """Mean accuracies by SNR and, where the truth tells it, by kind and bursting."""
    accuracy = np.array([unit.accuracy for unit in agreement.units])
    with np.load(Path(folder) / "ground_truth.npz") as truth:
        snr = truth["snr"]
        groups = {
            f"SNR {low}-{high}": (snr >= low) & (snr < high) for low, high in ((0, 5), (5, 8), (8, 15), (15, 999))
        }
        if "kind" in truth:
            groups |= {str(kind): truth["kind"] == kind for kind in np.unique(truth["kind"])}
            groups |= {"bursting": truth["bursting"], "not bursting": ~truth["bursting"]}
    lines = [
        f"{name:>14}: {accuracy[mine].mean():.3f} ({mine.sum()} units)" for name, mine in groups.items() if mine.any()
    ]
    return "\n".join([f"mean accuracy {accuracy.mean():.3f}", *lines])


def main() -> None:
    """Print the bound of one recording, unit by unit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--store", help="keep the stages here")
    chosen = parser.parse_args()
    agreement = score(chosen.folder, *run(chosen.folder, store=chosen.store))
    print(agreement.table())
    print(summary(chosen.folder, agreement))


if __name__ == "__main__":
    main()
