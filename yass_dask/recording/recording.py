"""The Recording itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import tokenize

from yass_dask import chunked
from yass_dask.errors import InputError
from yass_dask.geometry import Probe
from yass_dask.recording.checks import as_gain, channel_index, check_fields
from yass_dask.recording.overlap import (
    Boundary,
    UnreadRows,
    check_overlap,
    map_blocks,
    overlap_dask,
    read_core,
    read_overlapped,
)
from yass_dask.recording.spans import len_of
from yass_dask.recording.summary import summary
from yass_dask.sources import DaskSource, Source, fill, slice_source

if TYPE_CHECKING:
    import dask.array as da


@dataclass(frozen=True, eq=False)
class Recording:
    """Lazy traces of a recording, its sampling rate and its probe.

    Parameters
    ----------
    source : Source
        Where samples are read from, (n_samples, n_channels).
    sampling_rate : float, Hz
    probe : Probe of n_channels channels
    gain_to_uv : (n_channels,) float64 array, optional
        Microvolts per count; None where it is not known.
    channel_ids : (n_channels,) array, optional
        Names of the channels, 0 ... n_channels - 1 by default.
    bad_channels : indices of channels to leave out of account
    excluded_samples : [start, stop) pairs of samples to leave out of account
    chunk_blocks : int
        Blocks a task takes at once: bounds memory, never changes a result.
    part_blocks : int, optional
        Blocks of preprocessed traces that a task goes through, one at a time; by default chunk_blocks.
    stride : Stride
        The blocks that a stage looks at; all by default.

    Raises
    ------
    InputError
        Where these do not fit together.
    """

    source: Source
    sampling_rate: float
    probe: Probe
    gain_to_uv: np.ndarray | None = None
    channel_ids: np.ndarray = None  # type: ignore[assignment]  # filled below, never None from outside
    bad_channels: tuple[int, ...] = ()
    excluded_samples: tuple[tuple[int, int], ...] = ()
    chunk_blocks: int = 10
    part_blocks: int | None = None
    stride: chunked.Stride = chunked.EVERY_BLOCK

    def __post_init__(self) -> None:
        check_fields(self)
        n = self.n_channels
        ids = np.arange(n) if self.channel_ids is None else np.asarray(self.channel_ids)
        gain = None if self.gain_to_uv is None else as_gain(self.gain_to_uv, n)
        if ids.shape != (n,) or len(np.unique(ids)) != n:
            raise InputError(f"channel_ids: expected {n} different names, found {ids.tolist()[:8]}")
        bad = tuple(sorted({int(channel) for channel in self.bad_channels}))
        excluded = tuple((int(start), int(stop)) for start, stop in self.excluded_samples)
        fill(self, sampling_rate=float(self.sampling_rate), channel_ids=ids, gain_to_uv=gain)
        fill(self, bad_channels=bad, excluded_samples=excluded, chunk_blocks=int(self.chunk_blocks))

    @property
    def n_samples(self) -> int:
        return self.source.shape[0]

    @property
    def n_channels(self) -> int:
        return self.source.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.source.dtype

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.sampling_rate

    @property
    def block_samples(self) -> int:
        return chunked.block_samples(self.sampling_rate, self.n_channels)

    @property
    def n_blocks(self) -> int:
        return -(-self.n_samples // self.block_samples)

    @property
    def chunks(self) -> list[chunked.Chunk]:
        """The pieces one task takes, in time order; they never depend on the halo."""
        return chunked.chunks(self.n_samples, self.block_samples, self.chunk_blocks, self.stride)

    def n_kept(self, start: int = 0, stop: int | None = None) -> int:
        """Count the samples of [start, stop) that are not excluded."""
        stop = self.n_samples if stop is None else stop
        return stop - start - len_of(self.excluded_samples, start, stop)

    def samples(self, ms: float) -> int:
        """Turn milliseconds into samples, half rounded up."""
        return int(np.floor(ms * self.sampling_rate / 1000 + 0.5))

    def neighbors(self, radius_um: float) -> np.ndarray:
        """Tell which channels lie within a radius: bool (n_channels, n_channels), never across shanks."""
        return self.probe.neighbors(radius_um)

    def identity(self) -> dict[str, Any]:
        """Describe everything that may change a result, JSON-able. `chunk_blocks` is not part of it."""
        return {
            "source": self.source.identity(),
            "sampling_rate": self.sampling_rate,
            "probe": self.probe.identity(),
            "gain_to_uv": None if self.gain_to_uv is None else self.gain_to_uv.tolist(),
            "channel_ids": self.channel_ids.tolist(),
            "bad_channels": list(self.bad_channels),
            "excluded_samples": [list(span) for span in self.excluded_samples],
        }

    def with_chunks(self, chunk_blocks: int, part_blocks: int | None = None) -> Recording:
        """Give the same recording, cut in chunks of another number of blocks."""
        return replace(self, chunk_blocks=chunk_blocks, part_blocks=part_blocks)

    def strided(self, stride: chunked.Stride) -> Recording:
        """Give the same recording, of which stages look at some blocks only; a chunk spans more of them."""
        return replace(self, stride=stride, chunk_blocks=self.chunk_blocks * max(1, stride.step // 2))

    def slice_time(self, start_s: float = 0.0, stop_s: float | None = None) -> Recording:
        """Give the samples from `start_s` to `stop_s` (None: the end), in seconds, without reading."""
        start = self.samples(1000 * start_s)
        return self._slice_samples(start, self.n_samples if stop_s is None else self.samples(1000 * stop_s))

    def _slice_samples(self, start: int, stop: int) -> Recording:
        if not 0 <= start < stop <= self.n_samples:
            raise InputError(
                f"samples {start} to {stop} "
                f"({start / self.sampling_rate:g} s to {stop / self.sampling_rate:g} s) "
                f"are not a stretch of the recording of {self.n_samples} samples ({self.duration_s:g} s); "
                "give 0 <= start < stop <= length"
            )
        excluded = [(max(a, start) - start, min(b, stop) - start) for a, b in self.excluded_samples]
        return replace(
            self,
            source=slice_source(self.source, start, stop),
            excluded_samples=tuple((a, b) for a, b in excluded if a < b),
        )

    def slice_channels(self, channels: slice | Sequence[int] | np.ndarray) -> Recording:
        """Give some channels (indices, a slice or a mask), in the order asked for, without reading."""
        index = channel_index(channels, self.n_channels)
        picked = index.tolist()
        return replace(
            self,
            source=slice_source(self.source, 0, self.n_samples, picked),
            probe=self.probe.subset(index),
            gain_to_uv=None if self.gain_to_uv is None else self.gain_to_uv[index],
            channel_ids=self.channel_ids[index],
            bad_channels=tuple(new for new, old in enumerate(picked) if old in self.bad_channels),
        )

    def __getitem__(self, key: Any) -> Recording:
        """Slice lazily: `recording[start:stop]` or `recording[start:stop, channels]`, in samples."""
        rows, *channels = key if isinstance(key, tuple) else (key,)
        if not isinstance(rows, slice) or rows.step not in (None, 1) or len(channels) > 1:
            raise InputError(f"recording[{key!r}]: give recording[start:stop] or recording[start:stop, channels]")
        start, stop, _ = rows.indices(self.n_samples)
        sliced = self._slice_samples(start, stop)
        return sliced.slice_channels(channels[0]) if channels else sliced

    @property
    def traces(self) -> da.Array:
        """The traces as a dask array (n_samples, n_channels), one dask chunk per Chunk."""
        lengths = tuple(chunk.stop - chunk.start for chunk in self.chunks)
        if isinstance(self.source, DaskSource):
            return self.source.array.rechunk((lengths, (self.n_channels,)))
        return self._map(read_core, (), lengths, self.dtype, token="traces", source=self.source)

    def overlapped(self, halo: int, boundary: Boundary = "edge") -> da.Array:
        """Give the traces in chunks that hold their halo.

        Parameters
        ----------
        halo : samples before and after each chunk
        boundary : "edge" or "zero"
            What fills rows outside the recording: copies of its first and last sample, or zeros.

        Returns
        -------
        dask array of one chunk per Chunk, each (chunk.n_blocks * block_samples + 2 * halo, n_channels):
        the last block is filled up to full length. Rows repeat from chunk to chunk; `chunked.blocks` cuts
        a chunk up.
        """
        check_overlap(halo, boundary)
        if isinstance(self.source, DaskSource):
            return overlap_dask(self.source.array, self.chunks, halo, boundary)
        lengths = tuple(c.n_blocks * self.block_samples + 2 * halo for c in self.chunks)
        how = {"source": self.source, "halo": halo, "boundary": boundary}
        return self._map(read_overlapped, (), lengths, self.dtype, token="overlapped", **how)

    def pieces(self, halo: int, boundary: Boundary = "edge") -> Iterator[tuple[chunked.Chunk, Any]]:
        """Yield (chunk, the same as `overlapped` gives for it): what a task of `chunked.chunk_tasks` takes.

        A dask array's own tasks compute theirs; of any other source a task reads each block when it comes to it.
        """
        check_overlap(halo, boundary)
        if isinstance(self.source, DaskSource):
            yield from zip(self.chunks, self.overlapped(halo, boundary).to_delayed()[:, 0], strict=True)
        else:
            rows = UnreadRows(self.source, boundary)
            yield from ((chunk, rows) for chunk in self.chunks)

    def map_overlap(
        self, func: Callable[[np.ndarray], np.ndarray], depth: int, dtype: Any, boundary: Boundary = "edge"
    ) -> da.Array:
        """Run an array function over the recording in overlapping blocks.

        Parameters
        ----------
        func : array function
            Takes a block with its halo, always (block_samples + 2 * depth, n_channels), and returns an
            array of that shape; the halo is then cut off. Blocks do not depend on chunks, so neither does
            the result.
        depth : samples of halo at each side
        dtype : of what `func` returns
        boundary : "edge" or "zero", as for `overlapped`

        Returns
        -------
        dask array (n_samples, n_channels), one chunk per Chunk.
        """
        lengths = tuple(chunk.stop - chunk.start for chunk in self.chunks)
        before = (self.overlapped(depth, boundary),)
        dtype = np.dtype(dtype)
        how = {"token": "map_overlap", "function": func, "depth": depth, "result_dtype": dtype}
        return self._map(map_blocks, before, lengths, dtype, **how)

    def _map(
        self,
        task: Callable[..., np.ndarray],
        arrays: tuple[Any, ...],
        lengths: tuple[int, ...],
        dtype: Any,
        **kwargs: Any,
    ) -> da.Array:
        """Run one task per chunk: it takes its chunk as data, then the chunk of each array."""
        import dask.array as da

        table = da.from_array(np.array(self.chunks, dtype=np.int64), chunks=(1, len(chunked.Chunk._fields)))
        return da.map_blocks(
            task,
            table,
            *arrays,
            chunks=(lengths, (self.n_channels,)),
            dtype=dtype,
            meta=np.empty((0, 0), dtype=dtype),
            **kwargs,
        )

    def to_spikeinterface(self) -> Any:
        """Give SpikeInterface's recording, see `yass_dask.spikeinterface.make_recording`."""
        from yass_dask.spikeinterface import make_recording

        return make_recording(self)

    def __dask_tokenize__(self) -> str:
        return tokenize("Recording", *(getattr(self, f.name) for f in fields(self)))

    def __repr__(self) -> str:
        lines = [f"{name}: {value}" for name, value in summary(self)]
        return "Recording\n  " + "\n  ".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in summary(self))
        return f'<div style="display:flex;gap:1em"><table>{rows}</table>{self.probe.sketch()}</div>'
