"""START HERE: the whole sort on one screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from pydantic import BaseModel, ConfigDict, Field

from yass_dask.backends import checked
from yass_dask.chunked import Stride
from yass_dask.cluster import ClusterParams, cluster, gather_units
from yass_dask.conditioning import PreprocessParams
from yass_dask.deconvolve import DeconvolveParams, deconvolve, deconvolve_apart, make_bank
from yass_dask.detect import DetectParams, Finder, detect, fit_triage, refuse_unfit_networks
from yass_dask.events import Events
from yass_dask.features import FeatureParams, Features, choose_peaks, measure_basis, measure_features
from yass_dask.known import begin_with
from yass_dask.merge import MergeParams, UnitFacts, find_clusters, gather_pieces, revise
from yass_dask.motion.displacement import Motion
from yass_dask.motion.dividing import Moving
from yass_dask.motion.following import follow_motion
from yass_dask.motion.params import MotionParams
from yass_dask.noise import Noise, measure_noise, measure_spectrum
from yass_dask.preprocess import Clean, measure_scale, preprocess
from yass_dask.projector import Basis
from yass_dask.refine import Units, first_units, next_units
from yass_dask.residual import Residual
from yass_dask.results import finish
from yass_dask.reuse import known_units
from yass_dask.selection import Selection
from yass_dask.session import running
from yass_dask.sizes import measure_sizes
from yass_dask.sorting import Sorting
from yass_dask.store import Store
from yass_dask.templates import TemplatesParams, average, refuse_too_short
from yass_dask.unitfeatures import choose_spikes, find_frames, look_at_residual

if TYPE_CHECKING:
    import distributed

    from yass_dask.jobs import Job
    from yass_dask.monitor.progress import Progress
    from yass_dask.recording import Recording
    from yass_dask.runtime import Executor


LEAST_REFINING_S, LEAST_LAST_S, MOST_SKIPPED = 15.0, 120.0, 4
"""A round looks at so many seconds at least, if there are (the last one at more: few spikes of two small units that are
alike look like one unit's), and at one of so many blocks at least where there are more."""


class SortParams(BaseModel):
    """Parameters of the science; where and how fast it runs is not among them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preprocess: PreprocessParams = PreprocessParams()
    motion: MotionParams = MotionParams()
    detect: DetectParams = DetectParams()
    features: FeatureParams = FeatureParams()
    cluster: ClusterParams = ClusterParams()
    templates: TemplatesParams = TemplatesParams()
    deconvolve: DeconvolveParams = DeconvolveParams()
    merge: MergeParams = MergeParams()
    n_refinements: int = Field(2, ge=0, le=10)
    """Rounds of pursuit after which units are cleaned, split, joined and searched for in the residual; one more where
    the tissue moves, unless there are none."""
    max_refining_s: float = Field(600.0, gt=0)
    """Units are found and refined on blocks spread evenly over the recording, of about so many seconds at most; only
    the last pursuit looks at all of it."""

    @classmethod
    def from_config(cls, config: str | Path | Mapping[str, Any]) -> SortParams:
        """What `yass sort` takes from a configuration: `spatial_radius`, `spike_size_ms`, and over them `params`.

        Raises
        ------
        InputError
            Bad configuration.
        """
        from yass_dask.config import load, sort_params

        return sort_params(load(config).stage_params())

    def moving(self) -> SortParams:
        """The same where the tissue moves: templates of all displacements, of fewer spikes each, take a round more."""
        return self.model_copy(update={"n_refinements": self.n_refinements + (self.n_refinements > 0)})

    def refining(self) -> SortParams:
        """The same for the rounds, which look at surer spikes only."""
        sure = self.deconvolve.model_copy(update={"log_odds": self.deconvolve.refining_log_odds})
        return self.model_copy(update={"deconvolve": sure})


@overload
def sort(
    recording: Recording, store: str | Path | Store, params: SortParams | None = None, *, backend: str = "auto",
    client: distributed.Client | Executor | None = None, seed: int = 0, progress: Progress | None = None,
    templates: Sorting | str | Path | None = None, wait: Literal[True] = True,
) -> Sorting: ...  # fmt: skip
@overload
def sort(
    recording: Recording, store: str | Path | Store, params: SortParams | None = None, *, backend: str = "auto",
    client: distributed.Client | Executor | None = None, seed: int = 0, progress: Progress | None = None,
    templates: Sorting | str | Path | None = None, wait: Literal[False],
) -> Job: ...  # fmt: skip
def sort(
    recording: Recording, store: str | Path | Store, params: SortParams | None = None, *, backend: str = "auto",
    client: distributed.Client | Executor | None = None, seed: int = 0, progress: Progress | None = None,
    templates: Sorting | str | Path | None = None, wait: bool = True,
) -> Sorting | Job:  # fmt: skip
    """Sort a recording into units; everything is kept in `store`, and a killed sort goes on from there.

    Parameters
    ----------
    recording : Recording
    store : path of the output folder, or a Store
    params : SortParams, default SortParams()
    backend : "numpy", "numba", "jax", "cupy", or "auto": what the workers have, see `runtime.devices`
    client : where it runs: a dask client, an Executor; None takes the current client, else threads
    seed : part of the recipe; no stage draws random numbers at present
    progress : what shows the progress; None shows nothing
    templates : a sorting, or the folder of one, whose units are known: they keep their ids, others come after them
    wait : False starts a process of its own, which runs on when this one ends, and gives the job at once

    Returns
    -------
    Sorting, or with wait=False a Job: its `status()`, `wait()` and `cancel()`

    Raises
    ------
    InputError
        Bad recording, params or folder; templates of other channels.
    """
    params, backend = params or SortParams(), checked(backend)
    refuse_unfit(recording, params)
    known = None if templates is None else known_units(templates, recording, params.preprocess)
    if not wait:
        from yass_dask.jobs import start_sort

        return start_sort(recording, store, params, backend=backend, client=client, seed=seed, templates=templates)
    surroundings = running(recording, store, backend=backend, client=client, seed=seed, progress=progress)
    with surroundings as (keep, folder, shown, backend):
        scale = keep("scale", measure_scale(recording, params.preprocess, backend))
        clean = keep("preprocess", preprocess(recording, scale, params.preprocess, backend))
        noise = keep("noise", measure_noise(clean, params.preprocess, backend))
        matched = keep("spectrum", measure_spectrum(clean, noise, params.preprocess, backend))
        clean, motion = follow_motion(keep, recording, clean, noise, params.motion, params.detect, backend)
        params = params if motion is None or motion.is_none else params.moving()
        some = clean.strided(looked_at(recording, params))
        detecting = fit_triage(keep, clean, noise, params.detect, params.preprocess.n_sampled_blocks, backend)
        peaks = keep("detect", detect(some, noise, detecting, backend))
        basis = keep("basis", measure_basis(clean, matched, peaks, params.features, backend))
        if known is None:
            units = find_units(keep, some, matched, peaks, basis, params, backend, motion)
        else:
            units = keep("templates", begin_with(known, clean, matched, params.templates))
        audit, refining = list(units.audit), params.refining()
        for k in range(params.n_refinements):
            some = clean.strided(looked_at(recording, params, k))
            spikes = pursue(keep, f"_{k}", some, matched, units, refining, backend)
            units = refine(keep, f"_{k}", some, noise, matched, basis, units, spikes, params, backend, motion)
            audit += units.audit
            shown.found(units=len(units.templates))
        spikes = pursue(keep, "", clean, matched, units, params, backend)
        return told(shown, finish(folder, clean, units, spikes, audit, params.merge, params.deconvolve, motion))


def refuse_unfit(recording: Recording, params: SortParams) -> None:
    """InputError where a recording does not fit what it is to be sorted by."""
    refuse_too_short(recording, params.templates)
    refuse_unfit_networks(recording, params.detect)


def told(shown: Progress, sorting: Sorting) -> Sorting:
    """The sorting, after the progress was told what there is."""
    shown.sorted(sorting)
    return sorting


def looked_at(recording: Recording, params: SortParams, round_: int | None = None) -> Stride:
    """Blocks that units are found on (all of a short recording), and those of a round (fewer)."""
    step = int(recording.duration_s / params.max_refining_s)
    if round_ is not None:
        least = LEAST_LAST_S if round_ == params.n_refinements - 1 else LEAST_REFINING_S
        step = max(step, min(int(recording.duration_s / least), MOST_SKIPPED))
    return Stride(max(step, 1), (round_ or 0) % max(step, 1))


def find_units(
    keep: Callable, clean: Clean, noise: Noise, peaks: Events, basis: Basis, params: SortParams, backend: str,
    motion: Motion | None = None,
) -> Units:  # fmt: skip
    """Clear peaks -> features -> clusters -> their templates."""
    chosen = keep("chosen", choose_peaks(peaks, params.features))
    features = keep("features", measure_features(clean, noise, chosen, basis, params.features, backend))
    clusters = keep("cluster", cluster(features, params.cluster, backend))
    members = keep("units", gather_units(clusters, params.templates.max_spikes))
    means = keep("means", average(clean, members, params.templates, backend))
    moving = Moving.of(motion, clean.recording)
    units: Units = keep("templates", first_units(means, clean, noise, params.templates, clusters, moving))
    return units


def cluster_peaks(keep: Callable, round_: str, features: Features, params: SortParams, backend: str) -> Events:
    """Features of clear peaks -> clusters -> their members."""
    clusters = keep("cluster" + round_, cluster(features, params.cluster, backend))
    return keep("units" + round_, gather_units(clusters, params.templates.max_spikes))


def pursue(
    keep: Callable, round_: str, clean: Clean, noise: Noise, units: Units, params: SortParams, backend: str,
) -> Events:  # fmt: skip
    """Every spike of the units, by matching pursuit: the even blocks, then the odd ones beside them."""
    length = units.templates.n_samples
    changes = (units.sizes, units.poses)
    bank = keep("bank" + round_, make_bank(units.handle, noise, clean.recording, params.deconvolve, *changes))
    if clean.recording.stride.step > 1:
        return keep("deconvolve" + round_, deconvolve_apart(clean, noise, bank, length, params.deconvolve, backend))
    every_second = clean.strided(Stride(2))
    even = keep("even" + round_, deconvolve_apart(every_second, noise, bank, length, params.deconvolve, backend))
    return keep("deconvolve" + round_, deconvolve(clean, noise, bank, length, even, params.deconvolve, backend))


def refine(
    keep: Callable, round_: str, clean: Clean, noise: Noise, matched: Noise, basis: Basis, units: Units, spikes: Events,
    params: SortParams, backend: str, motion: Motion | None = None,
) -> Units:  # fmt: skip
    """Look at cleaned spikes: split, join, drop; average again; find in the residual what was missed."""
    recording, templates = clean.recording, units.templates
    residual = Residual(clean, units.handle, spikes, backend, units.poses)
    moving = Moving.of(motion, recording, units.handle)
    chosen = keep("spikes" + round_, choose_spikes(spikes, params.merge.max_spikes))
    frames = find_frames(units.handle, matched, basis, recording, params.features, params.merge.max_distance)
    frames = keep("frames" + round_, frames)
    finder = Finder.of(residual, noise, params.detect, backend)
    look = look_at_residual(residual, matched, basis, chosen, frames, finder, params.features, backend)
    cleaned, peaks = keep("residual" + round_, look)
    n_looked_at = recording.stride.n_samples(recording.n_samples, recording.block_samples)
    refractory = recording.samples(params.merge.refractory_ms)
    facts = UnitFacts(templates.ids, units.levels, units.next_id, refractory, n_looked_at, units.first_new)
    merging = params.merge.of_share(n_looked_at / recording.n_samples)
    clusters = keep("split" + round_, find_clusters(cleaned, len(templates), params.cluster, backend))
    revision = keep("merge" + round_, revise(cleaned, clusters, spikes, frames, facts, merging, backend, moving))
    found = cluster_peaks(keep, round_, peaks, params, backend)
    pieces = keep("pieces" + round_, gather_pieces(revision, templates, found, params.templates.max_spikes))
    means = keep("means" + round_, average(residual, pieces, params.templates, backend))
    left, new = means.parted(len(revision.piece_unit))
    chosen_by = Selection.of(params.refining().deconvolve)
    renewed = next_units(units, revision, spikes, left, new, clean, matched, params.templates, moving, chosen_by)
    renewed = keep("templates" + round_, renewed)
    if not params.deconvolve.follow_sizes:
        return renewed
    sizes = measure_sizes(units, revision, renewed, params.deconvolve.amplitude_sd)
    return replace(renewed, sizes=keep("sizes" + round_, sizes))
