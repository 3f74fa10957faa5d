"""What a round decides on units where the tissue moves: which are one neuron at several displacements; its spikes are
then averaged apart in bins of displacement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from yass_dask.geometry import Probe
from yass_dask.motion.displacement import Motion
from yass_dask.motion.joining import join_divided
from yass_dask.motion.poses import Bins
from yass_dask.recording import Recording
from yass_dask.sorting.spread import SpreadTemplates
from yass_dask.templates import StoredTemplates, Templates
from yass_dask.verdicts import Pieces, Trains, UnitFacts

NEAREST = 12
STANDING_SD = 6.0
"""A unit whose template is so far from nothing stands by itself."""


@dataclass(frozen=True)
class Moving:
    """What a round needs to know of moving tissue: a small handle that travels to tasks."""

    bins: Bins
    probe: Probe
    n_samples: int
    templates: Any = None
    """Templates, or StoredTemplates, of the units that are decided on"""

    @classmethod
    def of(
        cls, motion: Motion | None, recording: Recording, templates: Templates | StoredTemplates | None = None
    ) -> Moving | None:
        """None where no motion is followed."""
        if motion is None or motion.is_none:
            return None
        bins = Bins.of(motion, recording.block_samples, recording.sampling_rate)
        return cls(bins, recording.probe, recording.n_samples, templates)

    def depths(self, templates: Templates) -> np.ndarray:
        """(n_units,) um."""
        depths: np.ndarray = self.probe.positions[templates.main_channels(np.ones(templates.n_channels)), 1]
        return depths

    def nearest(self, templates: Templates) -> tuple[np.ndarray, np.ndarray]:
        """(n_units,) main channel of each unit, and (n_units, NEAREST) the channels nearest to it."""
        main = templates.main_channels(np.ones(templates.n_channels))
        places = self.probe.positions
        distance = np.linalg.norm(places[main, None] - places[None], axis=2)
        return main, np.argsort(distance, axis=1, kind="stable")[:, :NEAREST]

    def join(
        self, group: np.ndarray, pieces: Pieces, samples: np.ndarray, trains: Trains, facts: UnitFacts, audit: list
    ) -> np.ndarray:
        """(n_pieces,) group of each piece, those joined that divide the displacements among them.

        Parameters
        ----------
        group : (n_pieces,) as found without regard to the displacement; -1: dropped
        samples : of the spikes that `pieces` tells of
        """
        templates = self.templates.load()
        n_groups = int(group.max(initial=-1)) + 1
        largest = np.array([_first_of(g, group, pieces, facts) for g in range(n_groups)], np.int64)
        unit = pieces.unit[largest]
        alone = np.bincount(pieces.unit, minlength=len(facts.ids)) == 1
        of_piece = [trains.of(u) if alone[u] else samples[pieces.of_spike == p] for p, u in enumerate(pieces.unit)]
        trains_of = [
            np.sort(np.concatenate([of_piece[p] for p in np.flatnonzero(group == g)])) for g in range(n_groups)
        ]
        main, near = self.nearest(templates)
        meets = (main[unit, None, None] == near[unit][None]).any(axis=2)
        # A part of a unit has no template yet that tells what it looks like.
        whole = pieces.ids[largest] == facts.ids[unit]
        same = unit[:, None] == unit
        waveforms = SpreadTemplates(templates.waveforms[unit], templates.channels[unit], templates.n_channels)
        joined = join_divided(
            trains_of, waveforms, self.depths(templates)[unit], (meets | meets.T) & (whole & whole[:, None] | same),
            self.bins.motion, self.n_samples, self.bins.sampling_rate, pieces.ids[largest] < facts.first_new,
            facts.levels[unit] >= STANDING_SD, unit,
        )  # fmt: skip
        into = np.arange(n_groups)
        for g, (other, _) in joined.items():
            into[g] = other
        _, home = np.unique(into, return_inverse=True)
        result = np.where(group >= 0, home[group], -1) if n_groups else group
        first = [_first_of(g, result, pieces, facts) for g in range(int(home.max(initial=-1)) + 1)]
        for g, why in sorted(joined.items()):
            # A group has the id of its largest piece, be it one that was joined: then the other one is gone.
            gone = largest[g] if largest[g] != first[home[g]] else largest[into[g]]
            audit.append({"unit": int(pieces.ids[gone]), "action": "merge", "into": int(pieces.ids[first[home[g]]]),
                          "reason": why[1]})  # fmt: skip
        return result

    def cells(
        self, pieces: Pieces, group: np.ndarray, samples: np.ndarray, units: np.ndarray
    ) -> tuple[Pieces, np.ndarray, np.ndarray]:
        """Pieces cut into bins of displacement, the group of each, and its bin (0 for one without spikes).

        Parameters
        ----------
        samples, units : of the spikes that `pieces` tells of
        """
        kept = np.flatnonzero(pieces.of_spike >= 0)
        bins = self.bins.of_spikes(units[kept], samples[kept], self.depths(self.templates.load()))
        keys = np.concatenate(
            [pieces.of_spike[kept] * self.bins.n_bins + bins, np.arange(len(group)) * self.bins.n_bins]
        )
        cells, of_key = np.unique(keys, return_inverse=True)
        of_spike = np.full(len(samples), -1)
        of_spike[kept] = of_key[: len(kept)]
        piece, cell_bin = np.divmod(cells, self.bins.n_bins)
        cut = replace(
            pieces, of_spike=of_spike, unit=pieces.unit[piece], ids=pieces.ids[piece], count=pieces.count[piece]
        )
        return cut, group[piece], cell_bin


def _first_of(g: int, group: np.ndarray, pieces: Pieces, facts: UnitFacts) -> Any:
    """The piece that a group has its id from: a known one, or its largest."""
    members = np.flatnonzero(group == g)
    known = pieces.ids[members] < facts.first_new
    return members[np.argmax(np.where(known, np.inf, pieces.count[members]))]
