"""The units of a finished sort for another recording of the same channels: are they of these?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yass_dask.conditioning import PreprocessParams
from yass_dask.errors import InputError
from yass_dask.known import Known
from yass_dask.store import store_of
from yass_dask.store.recipe import differences, params_of

if TYPE_CHECKING:
    from yass_dask.recording import Recording
    from yass_dask.sorting import Sorting

NOT_USED = "noise"
"""Units of this label are no neurons: they are not looked for."""
MOST_APART_UM = 1.0
"""Contacts of the two recordings lie at the same places up to this."""


def known_units(templates: Sorting | str | Path, recording: Recording, params: PreprocessParams) -> Known:
    """Units of another sort, for a recording of the same channels.

    Parameters
    ----------
    templates : a sorting, or the folder of one, also of one that was curated (`yass curated`)

    Raises
    ------
    InputError
        The channels, their places, the sampling rate, the unit of the traces or their preprocessing differ.
    """
    from yass_dask.sorting import Sorting

    sorting = templates if isinstance(templates, Sorting) else Sorting.open(templates)
    name = str(sorting.path or "another sort")
    problems = _of_recording(sorting, recording) + _of_store(sorting, recording, params)
    if problems:
        raise InputError(f"the units of {name} cannot be looked for in this recording: {'; '.join(problems)}")
    labels = [str(sorting.about(unit).get("label", "")) for unit in sorting.unit_ids.tolist()]
    used = np.flatnonzero([label != NOT_USED for label in labels])
    if not len(used):
        raise InputError(f"{name} holds no unit that could be looked for (those labelled {NOT_USED} are not)")
    ids = sorting.unit_ids[used]
    given = [*sorting.unit_ids.tolist(), *(int(row["unit_id"]) for row in sorting.units)]
    counts = np.array([len(sorting.times_of(unit)) for unit in ids.tolist()], np.int64)
    waveforms = np.asarray(sorting.templates, np.float32)[used]
    return Known(waveforms, sorting.template_peak, ids, counts, max(given) + 1, name)


def _of_recording(sorting: Sorting, recording: Recording) -> list[str]:
    """How the recording differs from the one that was sorted."""
    if sorting.sampling_rate != recording.sampling_rate:
        return [f"they were sampled at {sorting.sampling_rate:g} Hz, the recording at {recording.sampling_rate:g} Hz"]
    if sorting.n_channels != recording.n_channels:
        return [f"they are on {sorting.n_channels} channels, the recording has {recording.n_channels}"]
    names = [list(map(str, some)) for some in (sorting.channel_ids, recording.channel_ids)]
    other = [f"{a} is {b} here" for a, b in zip(*names, strict=True) if a != b]
    if other:
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        return [f"channels have other names: {', '.join(other[:3])}{more}"]
    apart = np.linalg.norm(sorting.probe.positions - recording.probe.positions, axis=1)
    if apart.max() > MOST_APART_UM:
        worst = int(apart.argmax())
        return [f"contacts lie elsewhere: channel {names[0][worst]} {apart[worst]:.0f} um away"]
    return []


def _of_store(sorting: Sorting, recording: Recording, params: PreprocessParams) -> list[str]:
    """How the traces that the templates were averaged on differ; nothing where that is not known."""
    store = store_of(sorting.path)
    if store is None:
        return []
    problems = []
    if (store.recording().get("gain_to_uv") is None) != (recording.gain_to_uv is None):
        problems.append("the gain of one of the two is not known: give recordings.gain_to_uv for both or for none")
    before, now = store.params_of("preprocess"), params_of(params)
    other = differences({name: value for name, value in before.items() if name in now}, now) if before else []
    if other:
        problems.append(f"their traces were preprocessed otherwise ({', '.join(other)}): set preprocess the same")
    return problems
