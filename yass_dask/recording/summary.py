"""What a recording tells a person about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yass_dask.recording import Recording


def summary(recording: Recording) -> list[tuple[str, str]]:
    size = recording.n_samples * recording.n_channels * recording.dtype.itemsize
    n_chunks, seconds = len(recording.chunks), recording.block_samples * recording.chunk_blocks
    return [
        ("duration", f"{recording.duration_s:g} s ({recording.n_samples} samples)"),
        ("channels", f"{recording.n_channels}, {len(recording.bad_channels)} of them bad"),
        ("sampling rate", f"{recording.sampling_rate:g} Hz"),
        ("dtype", f"{recording.dtype}, gain {'not known' if recording.gain_to_uv is None else 'known'}"),
        ("size", _format_bytes(size)),
        ("chunks", f"{n_chunks} of {seconds / recording.sampling_rate:g} s ({recording.n_blocks} blocks)"),
        ("probe", repr(recording.probe).removeprefix("Probe: ")),
    ]


def _format_bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.4g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"
