"""Whitening of a block with CuPy."""

from typing import Any

import cupy
import numpy as np

from yass_dask.kernels.cuda import as_float, as_int, compiled, over
from yass_dask.kernels.filter_time_cupy import filter_time

SOURCE = """
extern "C" __global__ void in_space(
    const float* traces, const float* filters, const int* channels, float* white,
    long long n_rows, int n_channels, int n_neighbors
) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n_rows * n_channels) return;
    int c = i % n_channels;
    const float* row = traces + (i - c);
    float sum = 0;
    for (int k = 0; k < n_neighbors; k++) {
        int near = channels[c * n_neighbors + k];
        if (near < n_channels) sum += filters[c * n_neighbors + k] * row[near];
    }
    white[i] = sum;
}
"""


def whiten(
    traces: np.ndarray, *, filters: np.ndarray, channels: np.ndarray, taps: np.ndarray | None = None
) -> np.ndarray:
    """See `whiten_numpy`; the result stays on the device."""
    white = in_space(as_float(traces), filters, channels)
    return white if taps is None else filter_time(white, taps=taps)


def in_space(traces: Any, filters: np.ndarray, channels: np.ndarray) -> Any:
    """Each channel a weighted sum of its neighbours; traces on the device, float32."""
    white = cupy.zeros(traces.shape, cupy.float32)
    if traces.size:
        sizes = np.int64(len(traces)), np.int32(traces.shape[1]), np.int32(channels.shape[1])
        compiled(SOURCE, "in_space")(*over(traces.size), (traces, as_float(filters), as_int(channels), white, *sizes))
    return white
