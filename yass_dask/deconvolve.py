"""Stage: clean traces + templates -> every spike, by matching pursuit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from yass_dask import subsample
from yass_dask.backends import GPU, kernel, on_host
from yass_dask.chunked import Block, Chunk, LazyParts, Rows, blocks, chunk_tasks, read_ahead
from yass_dask.events import Events, between
from yass_dask.kernels.bank import Bank, no_spikes, of_units
from yass_dask.kernels.bank import Spikes as BlockSpikes
from yass_dask.matching import low_rank, noise_levels, pair_overlaps, pairs
from yass_dask.motion.poses import StoredPoses
from yass_dask.noise import Noise
from yass_dask.preprocess import COUNTS_PER_SD, Clean
from yass_dask.recording import Recording
from yass_dask.sizes import Sizes, StoredSizes, steady
from yass_dask.templates import StoredTemplates, Templates


class DeconvolveParams(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(5, ge=1, le=20)
    """Components of a whitened template."""
    max_support: int = Field(32, ge=1)
    """A template is matched on at most so many channels, those of most energy."""
    log_odds: float = Field(6.0, gt=0)
    """A spike is accepted if it is exp(log_odds) times likelier than noise, in Gaussian noise; at the end a unit keeps
    those that are likelier than noise given how seldom it fires."""
    refining_log_odds: float = Field(8.0, gt=0)
    """The same in the rounds in which units are still refined: their templates are averages of sure spikes."""
    min_share: float = Field(0.2, ge=0, lt=1)
    """... and if it takes away at least this share of its template's squared norm."""
    amplitude_sd: float = Field(0.15, gt=0)
    """Expected spread of amplitudes around the template's."""
    amplitude_low: float = Field(0.4, gt=0, le=1)
    """Least amplitude of a spike, as a share of the template's."""
    amplitude_high: float = Field(1.6, ge=1)
    """Largest amplitude."""
    refractory_ms: float = Field(0.8, ge=0)
    """A unit fires again only after this time."""
    n_sweeps: int = Field(1, ge=0, le=10)
    """Times every spike is put back and fitted again beside the others."""
    follow_sizes: bool = True
    """Follow units whose spikes grow or shrink slowly over the recording."""


NEGLIGIBLE_SD = 0.05
"""A spike changes another unit's correlation where it does by more than so many times what noise does."""

EMPTY_SPIKES: dict[str, np.ndarray] = {
    "sample_index": np.zeros(0, np.int64),
    "unit_index": np.zeros(0, np.int32),
    "shift": np.zeros(0, np.int32),
    "amplitude": np.zeros(0, np.float32),
    "log_odds": np.zeros(0, np.float32),
}


@dataclass(frozen=True)
class StoredBank:
    """A bank on disk: a small handle that travels to tasks."""

    table: Mapping[str, Any]
    poses: StoredPoses | None = None
    """Where the tissue moves, the bank's units are poses of the units"""

    def load(self) -> Bank:
        """The bank in memory."""
        names = [name for name in self.table if name not in Sizes._fields]
        fields: dict[str, Any] = {name: np.asarray(self.table[name][:]) for name in names}
        numbers = {name: fields.pop(name)[0].item() for name in BANK_NUMBERS}
        return Bank(**fields, **numbers)

    def sizes(self) -> Sizes:
        """How large its units are over time."""
        return StoredSizes(self.table).load()


BANK_NUMBERS = ("peak", "refractory", "amplitude_low", "amplitude_high")


def make_bank(
    templates: Templates | StoredTemplates, noise: Noise, recording: Recording, params: DeconvolveParams,
    sizes: StoredSizes | None = None, poses: StoredPoses | None = None,
) -> LazyParts:  # fmt: skip
    """Everything the pursuit kernels need to know about the templates; opens as StoredBank.

    `sizes` of the units over time, and their `poses`; None: they do not change.
    """
    refractory = recording.samples(params.refractory_ms)
    return LazyParts.one(
        "bank",
        _bank_fields,
        templates,
        noise,
        refractory,
        params,
        sizes,
        poses,
        -(-recording.n_samples // recording.block_samples),
        params=params,
        version=3,
        open=partial(StoredBank, poses=poses),
    )


def _bank_fields(
    templates: Templates | StoredTemplates, noise: Noise, refractory: int, params: DeconvolveParams,
    stored: StoredSizes | None, poses: StoredPoses | None, n_blocks: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    units = templates.load()
    if poses is None:
        fields = bank_of(units, noise, refractory, params)._asdict()
    else:
        together = poses.index().together(n_blocks)
        fields = bank_of(poses.templates(), noise, refractory, params, together)._asdict()
    sizes = steady(len(units)) if stored is None else stored.load()
    return {
        name: np.array([fields[name]]) if name in BANK_NUMBERS else fields[name] for name in fields
    } | sizes._asdict()


def bank_of(
    templates: Templates, noise: Noise, refractory: int, params: DeconvolveParams, together: Any = None
) -> Bank:
    """The bank in memory; `refractory` in samples, `together` nonzero for pairs that may meet (None: all)."""
    ranked = low_rank(templates, noise, params.rank, params.max_support)
    start, other = pairs(ranked, templates.n_channels, together)
    levels = noise_levels(ranked, noise)
    overlaps = pair_overlaps(ranked, start, other, templates.n_channels)
    overlaps[np.abs(overlaps) < NEGLIGIBLE_SD * np.sqrt(ranked.norms * levels)[other, None]] = 0
    return Bank(
        ranked.temporal,
        ranked.spatial,
        ranked.support,
        ranked.norms,
        _thresholds(ranked.norms, levels, params),
        levels,
        (levels / params.amplitude_sd**2).astype(np.float32),
        start,
        other,
        overlaps,
        subsample.shift_filters(),
        templates.peak,
        refractory,
        params.amplitude_low,
        params.amplitude_high,
    )


def _thresholds(norms: np.ndarray, levels: np.ndarray, params: DeconvolveParams) -> np.ndarray:
    return np.maximum(2 * params.log_odds * levels, params.min_share * norms).astype(np.float32)


def at_size(bank: Bank, size: np.ndarray, params: DeconvolveParams) -> Bank:
    """The bank of the same templates, each so many times as large."""
    if (size == 1).all():
        return bank
    of_pair = size[np.repeat(np.arange(len(size)), np.diff(bank.pair_start))] * size[bank.pair_unit]
    overlaps, changed = bank.pair_overlap.copy(), of_pair != 1
    overlaps[changed] *= of_pair[changed, None]
    norms = bank.norms * size**2
    return bank._replace(
        spatial=bank.spatial * size[:, None, None],
        norms=norms,
        thresholds=_thresholds(norms, bank.noise, params),
        pair_overlap=overlaps,
    )


def deconvolve_apart(
    clean: Clean, noise: Noise, bank: StoredBank, n_samples: int, params: DeconvolveParams, backend: str
) -> LazyParts:
    """Spikes of blocks of which no two meet, each pursued with its halo.

    Parameters
    ----------
    clean : strided
    bank : its templates are matched
    n_samples : length of a template

    Returns
    -------
    Opens as Events with fields sample_index (int64), unit_index (int32), shift (int32, index into `subsample`'s bank:
    the spike is that much later than its sample), amplitude (float32, times the template), log_odds
    (float32, against noise).
    """
    return _deconvolve(clean, noise, bank, n_samples, None, params, backend)


def deconvolve(
    clean: Clean,
    noise: Noise,
    bank: StoredBank,
    n_samples: int,
    even: Events,
    params: DeconvolveParams,
    backend: str,
) -> LazyParts:
    """All spikes: those of the even blocks (pursued apart), and those of the odd blocks fitted beside them.

    The seam rule: an odd block subtracts the spikes its even neighbours accepted and places spikes in its own core
    only. So no spike at a border is found twice, and none that both sides leave to the other is lost.
    """
    return _deconvolve(clean, noise, bank, n_samples, even, params, backend)


def _deconvolve(
    clean: Clean,
    noise: Noise,
    bank: StoredBank,
    n_samples: int,
    even: Events | None,
    params: DeconvolveParams,
    backend: str,
) -> LazyParts:
    halo = 2 * n_samples + 2 * subsample.REACH + (0 if noise.taps is None else len(noise.taps))
    pursuer = _Pursuer(clean, noise, halo, params, backend)
    parts = chunk_tasks("deconvolve", pursuer.chunk, clean.recording, halo, bank, even)
    recipe = params.model_dump() | {"stride": list(clean.recording.stride)}
    return LazyParts(parts, recipe, 2, Events, reads_traces=True)


@dataclass(frozen=True)
class _Pursuer:
    clean: Clean
    noise: Noise
    halo: int
    params: DeconvolveParams
    backend: str

    def chunk(
        self, overlapped: np.ndarray | Rows, chunk: Chunk, stored: StoredBank, even: Events | None
    ) -> dict[str, np.ndarray]:
        """Spikes of a chunk's blocks, those of its even blocks as they are given."""
        bank, sizes = stored.load(), stored.sizes()
        poses = None if stored.poses is None else stored.poses.index()
        given = EMPTY_SPIKES if even is None else even.within(chunk.start - self.halo, chunk.stop + self.halo)
        stand = [b for b in blocks(overlapped, chunk, self.halo) if even is not None and b.number % 2 == 0]
        found = {block.number: between(given, block.start, block.stop) for block in stand}
        others = [b for b in blocks(overlapped, chunk, self.halo) if b.number not in found]
        for block in read_ahead(others, self.backend in GPU):
            size = sizes.at((block.start + block.stop) / 2)
            here = bank if poses is None else of_units(bank, poses.at(block.number))
            found[block.number] = self._block(block, here, size, given, even is not None)
        in_order = [found[number] for number in sorted(found)]
        return {name: np.concatenate([empty, *(f[name] for f in in_order)]) for name, empty in EMPTY_SPIKES.items()}

    def _block(self, block: Block, bank: Bank, size: np.ndarray, given: dict, core_only: bool) -> dict[str, np.ndarray]:
        if len(bank.norms) == 0:
            return EMPTY_SPIKES
        bank = at_size(bank, size, self.params)
        noise, origin = self.noise, block.start - self.halo
        correlation = kernel("correlate", self.backend)(
            block.traces, factor=1 / COUNTS_PER_SD, filters=noise.filters, channels=noise.channels, taps=noise.taps,
            bank=bank,
        )  # fmt: skip
        near = between(given, origin, origin + len(correlation))
        rows = near["sample_index"] - origin
        unit = near["unit_index"]
        fixed = BlockSpikes(rows, unit, near["shift"], near["amplitude"] / size[unit], near["log_odds"])
        first, last = (self.halo, self.halo + block.stop - block.start) if core_only else (0, len(correlation))
        found = on_host(
            kernel("pursue", self.backend)(
                correlation,
                bank=bank,
                given=fixed if core_only else no_spikes(),
                first=first,
                stop=last,
                n_sweeps=self.params.n_sweeps,
            )
        )
        spikes: dict[str, np.ndarray] = {
            "sample_index": found.row.astype(np.int64) + origin,
            "unit_index": found.unit,
            "shift": found.shift,
            "amplitude": found.amplitude * size[found.unit],
            "log_odds": found.gain / (2 * bank.noise[found.unit]),
        }
        return between(spikes, block.start, block.stop)
