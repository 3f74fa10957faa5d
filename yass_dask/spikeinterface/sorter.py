"""The sorter as SpikeInterface's run_sorter sees it."""

from __future__ import annotations

import ast
import inspect
import textwrap
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from spikeinterface.core.job_tools import fix_job_kwargs
from spikeinterface.sorters import BaseSorter, sorterlist

from yass_dask import backends
from yass_dask.config import parse_size, sort_params
from yass_dask.pipeline import SortParams
from yass_dask.sorting import Sorting
from yass_dask.spikeinterface.convert import make_sorting

RUN_PARAMS: dict[str, Any] = {
    "backend": "auto",
    "seed": 0,
    "scheduler": "threads",
    "memory_limit": None,
    "store_traces": True,
    "keep_traces": True,
    "known_units": None,
    "job_kwargs": {},
}
"""How it runs; what is sorted does not depend on them, but for the backend's last bits."""
RUN_DESCRIPTIONS = {
    "backend": "What kernels run on: auto, numpy, numba, jax or cupy",
    "seed": "Part of the recipe; no stage draws random numbers at present",
    "scheduler": "threads, local (processes of this machine), sync, or the address or file of a dask scheduler",
    "memory_limit": "Most memory that the whole sort may take, such as 8GB; None: no limit",
    "store_traces": "Store the preprocessed traces; False makes them anew whenever they are read",
    "keep_traces": "Keep the preprocessed traces, for report, phy and analyzers",
    "known_units": "Folder of an earlier sort of the same channels (sorter_output), whose units keep their ids; "
    "None: units are found anew",
    "job_kwargs": "SpikeInterface's: n_jobs is the number of workers, progress_bar is heeded; chunks are planned by "
    "memory_limit in place of chunk_size and the like",
}


class YassDaskSorter(BaseSorter):
    """Triage, then cluster, then pursuit, on Dask."""

    sorter_name = "yass_dask"
    requires_locations = False
    gpu_capability = "nvidia-optional"
    requires_binary_data = False
    handle_multi_segment = True
    sorter_description = (
        "yass_dask follows YASS (Lee et al. 2017): detect events, cluster the clear ones, then recover every spike by "
        "matching pursuit; as chunked array computing on Dask, the same spikes on one machine and on many."
    )
    installation_mesg = "pip install 'yass-dask[spikeinterface]', then import yass_dask.spikeinterface"
    _default_params = SortParams().model_dump(mode="json") | RUN_PARAMS

    @classmethod
    def _dynamic_params(cls) -> tuple[dict[str, Any], dict[str, str]]:
        return cls._default_params, describe_params() | RUN_DESCRIPTIONS

    @classmethod
    def is_installed(cls) -> bool:
        return True

    @classmethod
    def get_sorter_version(cls) -> str:
        return version("yass-dask")

    @classmethod
    def _check_params(cls, recording: Any, output_folder: Any, params: dict[str, Any]) -> dict[str, Any]:
        """A stage's mapping may name some of its keys only; what is not named is as by default."""
        science = {name: value for name, value in params.items() if name not in RUN_PARAMS}
        backends.checked(params["backend"])
        if params["memory_limit"] is not None:
            parse_size(params["memory_limit"])
        return params | sort_params(science, "run_sorter").model_dump(mode="json")

    @classmethod
    def _check_apply_filter_in_params(cls, params: dict[str, Any]) -> bool:
        filters = (params["preprocess"][name] for name in ("filter_low_hz", "filter_high_hz"))
        return any(corner is not None for corner in filters)

    @classmethod
    def _setup_recording(cls, recording: Any, sorter_output_folder: Path, params: Any, verbose: bool) -> None:
        """Nothing is copied: workers read binary files themselves, anything else by get_traces."""

    @classmethod
    def _run_from_folder(cls, sorter_output_folder: Path, params: dict[str, Any], verbose: bool) -> None:
        from yass_dask.logs import FILE_NAME, logging_to
        from yass_dask.monitor import progress
        from yass_dask.pipeline import sort
        from yass_dask.readers import from_spikeinterface
        from yass_dask.runtime import Executor, plan
        from yass_dask.store import Store

        recording = from_spikeinterface(cls.load_recording_from_folder(sorter_output_folder.parent))
        jobs = fix_job_kwargs(params["job_kwargs"])
        limit = None if params["memory_limit"] is None else parse_size(params["memory_limit"])
        local = params["scheduler"] == "local"
        stored = params["store_traces"]
        planned = plan(recording, None, limit, jobs["n_jobs"], processes=local, store_traces=stored)
        shown = progress.choose(silent=not (verbose and jobs["progress_bar"]))
        executor = Executor(params["scheduler"], planned.n_workers, limit)
        science = {name: value for name, value in params.items() if name not in RUN_PARAMS}
        store = Store(sorter_output_folder, store_traces=stored)
        try:
            with store.lock(), logging_to(store.path, "INFO" if verbose else "WARNING"), executor.open() as opened:
                sort(
                    recording.with_chunks(planned.chunk_blocks, planned.part_blocks), store, sort_params(science),
                    backend=params["backend"], client=opened, seed=params["seed"], progress=shown,
                    templates=params["known_units"],
                )  # fmt: skip
        finally:
            shown.close()
            # SpikeInterface takes a sorter's log from a file of the sorter's name.
            log = store.path / FILE_NAME
            if log.is_file():
                (store.path / f"{cls.sorter_name}.log").write_bytes(log.read_bytes())
        if not params["keep_traces"]:
            store.drop_traces()

    @classmethod
    def _get_result_from_folder(cls, sorter_output_folder: Path) -> Any:
        recording = cls.load_recording_from_folder(Path(sorter_output_folder).parent)
        lengths = [recording.get_num_samples(segment) for segment in range(recording.get_num_segments())]
        return make_sorting(Sorting.open(sorter_output_folder), lengths)


def register() -> None:
    """Put the sorter into SpikeInterface's list."""
    sorterlist.sorter_dict[YassDaskSorter.sorter_name] = YassDaskSorter
    if YassDaskSorter not in sorterlist.sorter_full_list:
        sorterlist.sorter_full_list.append(YassDaskSorter)


def describe_params() -> dict[str, str]:
    """What each parameter means: a stage's keys with their defaults, in the words under its fields."""
    described = {}
    words = field_words(SortParams)
    for name, field in SortParams.model_fields.items():
        stage = field.default
        if isinstance(stage, BaseModel):
            own = field_words(type(stage))
            described[name] = "\n".join(f"{key} ({value!r}): {own.get(key, '')}" for key, value in stage)
        else:
            described[name] = words.get(name, "")
    return described


def field_words(model: type[BaseModel]) -> dict[str, str]:
    """The line of documentation under each field of a model."""
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0].body  # type: ignore[attr-defined]
    return {
        field.target.id: " ".join(inspect.cleandoc(str(words.value.value)).split())
        for field, words in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(words, ast.Expr) and isinstance(words.value, ast.Constant)
        if isinstance(field.target, ast.Name)
    }
