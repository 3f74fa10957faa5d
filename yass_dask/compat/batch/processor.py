"""`BatchProcessor`: functions applied to large files, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from dask.base import tokenize
from dask.delayed import Delayed

from yass_dask.chunked import lazy_call
from yass_dask.compat.batch import outputs
from yass_dask.compat.batch.about import PathLike, size_of
from yass_dask.compat.batch.batches import Batch, Index, channels_of, computed, cut, n_processes, span_of, timed
from yass_dask.compat.batch.reader import Columns, RecordingsReader
from yass_dask.errors import InputError

Result = tuple[str, dict[str, Any]] | list[Any] | Any


class BatchProcessor:
    """Goes through a recording in a flat binary file in batches of at most `max_memory`.

    Parameters
    ----------
    path_to_recordings : file
    dtype, n_channels, data_order : what the file holds; each one that is None is read from the YAML file beside it
    max_memory : bytes of a batch as the file holds it, or a size such as "500MB"
    buffer_size : samples that a multi-channel batch is given more on both sides, zeros where the file has none
    loader : "memmap", "array" or "python", see RecordingsReader
    show_progress_bar : show on stderr how far an operation is
    data_format : "wide" or "long", the older words for data_order "channels" and "samples"

    Raises
    ------
    InputError
        The file's size does not fit, or something is not known of it.
    """

    def __init__(
        self, path_to_recordings: PathLike, dtype: Any = None, n_channels: int | None = None,
        data_order: str | None = None, max_memory: int | str = "1GB", buffer_size: int = 0, loader: str = "memmap",
        show_progress_bar: bool = True, data_format: str | None = None,
    ) -> None:  # fmt: skip
        self.reader = RecordingsReader(
            path_to_recordings, dtype, n_channels, data_order, loader=loader, data_format=data_format
        )
        self.path, self.max_bytes = Path(path_to_recordings).absolute(), size_of(max_memory)
        self.buffer_size, self.show_progress_bar = int(buffer_size), show_progress_bar

    def multi_channel(
        self, from_time: int | None = None, to_time: int | None = None, channels: Any = "all", return_data: bool = True
    ) -> Iterator[tuple[np.ndarray, Index, Index] | tuple[Index, Index]]:
        """Yield (data with its buffer, index of the batch in data, index of the batch in the file).

        Both indices are [observations, channels]. With return_data=False the data are left out, and not read.
        """
        for batch in self._batches(from_time, to_time, channels):
            indices = (batch.local, batch.absolute)
            yield (batch.read(), *indices) if return_data else indices

    def multi_channel_apply(
        self, function: Callable[..., Any], mode: str, cleanup_function: Callable[..., Any] | None = None,
        output_path: PathLike | None = None, from_time: int | None = None, to_time: int | None = None,
        channels: Any = "all", if_file_exists: str = "overwrite", cast_dtype: Any = None,
        pass_batch_info: bool = False, pass_batch_results: bool = False, processes: int | str = 1, **kwargs: Any,
    ) -> Result:  # fmt: skip
        """Apply a function to batches in time.

        Parameters
        ----------
        function : takes an array (observations with their buffer, channels), then `kwargs`
        mode : "disk" (results go to `output_path`, in 'samples' order) or "memory" (results are returned)
        cleanup_function : takes a result, the index of the batch in its data, its index in the file, and the buffer
            size; gives what is kept. Without it the result is kept with its buffer
        output_path : file for the results; a YAML file beside it tells what it holds
        from_time, to_time : samples
        channels : "all", a channel or several
        if_file_exists : "overwrite", "abort" or "skip", where `output_path` is there
        cast_dtype : type of the results
        pass_batch_info : call the function with keyword arguments idx_local and idx, the two indices
        pass_batch_results : call it with keyword argument previous_batch, the last batch's result (None at first);
            only the last result is returned
        processes : batches worked on at the same time, or "max"

        Returns
        -------
        (output_path, params) for "disk", a list of results for "memory", the last result with pass_batch_results

        Raises
        ------
        InputError
            Arguments that do not go together, or a file that must not be replaced.
        NotImplementedError
            pass_batch_results with mode "disk".
        """
        self._check(mode, output_path, if_file_exists)
        if pass_batch_results and mode == "disk":
            raise NotImplementedError("pass_batch_results works with mode='memory' only")
        batches = self._batches(from_time, to_time, channels)
        extra = [{**kwargs, **({"idx_local": b.local, "idx": b.absolute} if pass_batch_info else {})} for b in batches]
        with timed(function):
            if pass_batch_results:
                return self._reduced(function, batches, extra, cleanup_function, cast_dtype)
            tasks = [
                lazy_call("batch", apply_to, batch, function, more, cleanup_function, cast_dtype)
                for batch, more in zip(batches, extra, strict=True)
            ]
            recipe = {"cleanup": None if cleanup_function is None else outputs.name_of(cleanup_function),
                      "info": pass_batch_info, "buffer": self.buffer_size, "max_bytes": self.max_bytes}  # fmt: skip
            recipe |= self._recipe(function, kwargs, batches, cast_dtype)
            return self._run(tasks, mode, output_path, if_file_exists, processes, recipe, "samples", None)

    def single_channel(
        self, force_complete_channel_batch: bool = True, from_time: int | None = None, to_time: int | None = None,
        channels: Any = "all",
    ) -> Iterator[np.ndarray | tuple[np.ndarray, int]]:  # fmt: skip
        """Yield one-dimensional batches of one channel each.

        With force_complete_channel_batch a batch is all observations (of the given times) of its channel. Without it
        they are as many as fit, and (batch, channel) is yielded.

        Raises
        ------
        InputError
            A channel does not fit into max_memory.
        """
        for channel, batches in self._by_channel(force_complete_channel_batch, from_time, to_time, channels):
            for batch in batches:
                values = batch.read()[:, 0]
                yield values if force_complete_channel_batch else (values, channel)

    def single_channel_apply(
        self, function: Callable[..., Any], mode: str, output_path: PathLike | None = None,
        force_complete_channel_batch: bool = True, from_time: int | None = None, to_time: int | None = None,
        channels: Any = "all", if_file_exists: str = "overwrite", cast_dtype: Any = None, processes: int | str = 1,
        **kwargs: Any,
    ) -> Result:  # fmt: skip
        """Apply a function of a one-dimensional array channel by channel.

        Parameters are those of `multi_channel_apply` and `single_channel`; files are in 'channels' order.
        """
        self._check(mode, output_path, if_file_exists)
        by_channel = list(self._by_channel(force_complete_channel_batch, from_time, to_time, channels))
        batches = [batch for _, some in by_channel for batch in some]
        with timed(function):
            tasks = [lazy_call("batch", apply_to_channel, b, function, kwargs, cast_dtype) for b in batches]
            recipe = self._recipe(function, kwargs, batches, cast_dtype) | {"pieces": len(batches)}
            n = len(by_channel)
            return self._run(tasks, mode, output_path, if_file_exists, processes, recipe, "channels", n)

    def _batches(self, from_time: int | None, to_time: int | None, channels: Any) -> list[Batch]:
        columns = Columns(self.reader, channels_of(channels, self.reader))
        return cut(columns, from_time, to_time, self.max_bytes, self.buffer_size)

    def _by_channel(
        self, whole: bool, from_time: int | None, to_time: int | None, channels: Any
    ) -> Iterator[tuple[int, list[Batch]]]:
        start, stop = span_of(self.reader.observations, from_time, to_time)
        needed = (stop - start) * self.reader.dtype.itemsize
        if whole and needed > self.max_bytes:
            raise InputError(
                f"a channel takes {needed} bytes, more than max_memory ({self.max_bytes} bytes); give more, or "
                "force_complete_channel_batch=False"
            )
        picked = channels_of(channels, self.reader)
        listed = list(range(self.reader.channels)) if isinstance(picked, slice) else picked
        for channel in listed:
            yield channel, cut(Columns(self.reader, [channel]), start, stop, self.max_bytes)

    def _check(self, mode: str, output_path: PathLike | None, if_file_exists: str) -> None:
        if mode not in ("disk", "memory"):
            raise InputError(f"mode is {mode!r}; allowed are 'disk' and 'memory'")
        outputs.check_rule(if_file_exists)
        if mode == "disk" and output_path is None:
            raise InputError("mode 'disk' needs an output_path")
        if mode == "disk" and output_path is not None and Path(output_path).resolve() == self.path.resolve():
            raise InputError(f"output_path is the input, {self.path}; give another file")

    def _recipe(
        self, function: Callable[..., Any], kwargs: dict[str, Any], batches: list[Batch], cast_dtype: Any
    ) -> dict[str, Any]:
        """What a file of results is made of."""
        return {
            "function": outputs.name_of(function), "arguments": tokenize(kwargs),
            "input": self.reader.params.source(self.path).identity(),
            "channels": sorted({repr(batch.columns.channels) for batch in batches}),
            "samples": [batches[0].start, batches[-1].stop], "cast_dtype": repr(cast_dtype),
        }  # fmt: skip

    def _run(
        self, tasks: list[Delayed], mode: str, output_path: PathLike | None, if_file_exists: str,
        processes: int | str, recipe: dict[str, Any], data_order: str, n_channels: int | None,
    ) -> Result:  # fmt: skip
        results = computed(tasks, n_processes(processes), self.show_progress_bar, recipe["function"].split()[0])
        if mode == "memory" or output_path is None:
            return list(results)
        path = Path(output_path)
        params = outputs.found(path, if_file_exists, recipe)
        params = params or outputs.write(path, results, data_order, n_channels, recipe)
        return str(output_path), params._asdict()

    def _reduced(
        self, function: Callable[..., Any], batches: list[Batch], extra: list[dict[str, Any]],
        cleanup_function: Callable[..., Any] | None, cast_dtype: Any,
    ) -> Any:  # fmt: skip
        result = None
        for batch, more in zip(batches, extra, strict=True):
            more = {**more, "previous_batch": result}
            task = lazy_call("batch", apply_to, batch, function, more, cleanup_function, cast_dtype)
            (result,) = computed([task], 1, False, "")
        return result


def apply_to(
    batch: Batch, function: Callable[..., Any], kwargs: dict[str, Any], cleanup: Callable[..., Any] | None, dtype: Any
) -> Any:
    """What a function makes of a batch; the task of a multi-channel operation."""
    result = function(batch.read(), **kwargs)
    if cleanup is not None:
        result = cleanup(result, batch.local, batch.absolute, batch.buffer)
    return result if dtype is None else np.asarray(result).astype(dtype)


def apply_to_channel(batch: Batch, function: Callable[..., Any], kwargs: dict[str, Any], dtype: Any) -> Any:
    """What a function makes of a piece of one channel."""
    result = function(batch.read()[:, 0], **kwargs)
    return result if dtype is None else np.asarray(result).astype(dtype)
