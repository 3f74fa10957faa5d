"""`BatchPipeline`: transformations of a file one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from yass_dask.compat.batch.about import PathLike, file_params, yaml_of
from yass_dask.compat.batch.outputs import check_rule
from yass_dask.compat.batch.processor import BatchProcessor
from yass_dask.errors import InputError

MODES = ("single_channel_one_batch", "single_channel", "multi_channel")


class PipedTransformation:
    """A function that a BatchPipeline runs.

    Parameters
    ----------
    function : takes an array, one- or two-dimensional as the mode says, then `kwargs`
    output_name : file of its results, in the pipeline's folder
    mode : "single_channel_one_batch" (all of a channel at once), "single_channel" (a channel in pieces) or
        "multi_channel" (all channels, in pieces)
    keep : keep the file when the next transformation is done
    if_file_exists : "overwrite", "abort" or "skip"
    cast_dtype : type of the results
    """

    def __init__(
        self, function: Callable[..., Any], output_name: str, mode: str, keep: bool = False,
        if_file_exists: str = "overwrite", cast_dtype: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        if mode not in MODES:
            raise InputError(f"mode is {mode!r}; allowed are {', '.join(MODES)}")
        check_rule(if_file_exists)
        self.function, self.output_name, self.mode, self.keep = function, output_name, mode, keep
        self.if_file_exists, self.cast_dtype, self.kwargs = if_file_exists, cast_dtype, kwargs

    def run(self, processor: BatchProcessor, folder: Path, **span: Any) -> tuple[str, dict[str, Any]]:
        """Apply it to a processor's file; `span` says which samples and channels."""
        how: dict[str, Any] = {
            "mode": "disk",
            "output_path": folder / self.output_name,
            "if_file_exists": self.if_file_exists,
        }
        how |= {"cast_dtype": self.cast_dtype, **span, **self.kwargs}
        if self.mode == "multi_channel":
            path, params = processor.multi_channel_apply(self.function, **how)
        else:
            whole = self.mode == "single_channel_one_batch"
            path, params = processor.single_channel_apply(self.function, force_complete_channel_batch=whole, **how)
        return path, params


class BatchPipeline:
    """Chains transformations; each reads the file of the one before it.

    Parameters
    ----------
    path_to_input : file; it is never changed or deleted
    dtype, n_channels, data_order, max_memory, data_format : as of BatchProcessor
    output_path : folder for the files
    from_time, to_time, channels : what of the input is taken
    """

    def __init__(
        self, path_to_input: PathLike, dtype: Any = None, n_channels: int | None = None,
        data_order: str | None = None, max_memory: int | str = "1GB", output_path: PathLike = ".",
        from_time: int | None = None, to_time: int | None = None, channels: Any = "all",
        data_format: str | None = None, show_progress_bar: bool = True,
    ) -> None:  # fmt: skip
        self.path = path_to_input
        self.params = file_params(path_to_input, dtype, n_channels, data_order, data_format)
        self.how: dict[str, Any] = {"max_memory": max_memory, "show_progress_bar": show_progress_bar}
        self.folder = Path(output_path)
        self.span = {"from_time": from_time, "to_time": to_time, "channels": channels}
        self.tasks: list[PipedTransformation] = []

    def add(self, tasks: Iterable[PipedTransformation] | PipedTransformation) -> None:
        """Append transformations."""
        self.tasks += [tasks] if isinstance(tasks, PipedTransformation) else list(tasks)

    def run(self) -> tuple[list[str], list[dict[str, Any]]]:
        """Run all transformations.

        Returns
        -------
        paths of their files in order (also of those that were not kept), and what each file holds

        Raises
        ------
        InputError
            Two transformations write to one file, or one of them to the input.
        """
        self._refuse_clashes()
        source, params, span = self.path, self.params._asdict(), self.span
        paths: list[str] = []
        all_params: list[dict[str, Any]] = []
        for number, task in enumerate(self.tasks):
            processor = BatchProcessor(source, **params, **self.how)
            source, params = task.run(processor, self.folder, **span)
            paths.append(str(source))
            all_params.append(params)
            span = {}
            if number and not self.tasks[number - 1].keep:
                _delete(Path(paths[number - 1]))
        return paths, all_params

    def _refuse_clashes(self) -> None:
        names = [(self.folder / task.output_name).absolute() for task in self.tasks]
        if len(set(names)) < len(names) or Path(self.path).absolute() in names:
            raise InputError("every transformation needs an output_name of its own, none of them the input's")


def _delete(path: Path) -> None:
    path.unlink(missing_ok=True)
    yaml_of(path).unlink(missing_ok=True)
