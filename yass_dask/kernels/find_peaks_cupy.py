"""Threshold extrema with spatio-temporal exclusion with CuPy."""

import cupy
import numpy as np

from yass_dask.kernels.cuda import as_float, as_int, compiled, over

SOURCE = """
__device__ float strength_of(float x, int sign) { return sign == 0 ? fabsf(x) : sign * x; }

extern "C" __global__ void mark_peaks(
    const float* traces, const int* neighbors, signed char* is_peak,
    float threshold, int sign, int exclusion, int first, int stop, int n_rows, int n_channels, int n_neighbors
) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (long long)n_rows * n_channels) return;
    int t = i / n_channels, c = i % n_channels;
    float mine = strength_of(traces[i], sign);
    if (t < first || t >= stop || mine < threshold) return;
    int low = max(t - exclusion, 0), high = min(t + exclusion, n_rows - 1);
    for (int k = 0; k < n_neighbors; k++) {
        int near = neighbors[c * n_neighbors + k];
        if (near >= n_channels) continue;
        for (int s = low; s <= high; s++) {
            float other = strength_of(traces[(long long)s * n_channels + near], sign);
            bool before = s < t || (s == t && near < c);
            if (other > mine || (before && other == mine)) return;
        }
    }
    is_peak[i] = 1;
}
"""


def find_peaks(
    traces: np.ndarray,
    *,
    threshold: float,
    sign: int,
    exclusion: int,
    neighbors: np.ndarray,
    first: int,
    stop: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `find_peaks_numpy`; the results stay on the device."""
    is_peak = cupy.zeros(traces.shape, cupy.int8)
    if traces.size:
        integers = (sign, exclusion, first, stop, *traces.shape, neighbors.shape[1])
        arguments = (as_float(traces), as_int(neighbors), is_peak, np.float32(threshold), *map(np.int32, integers))
        compiled(SOURCE, "mark_peaks")(*over(traces.size), arguments)
    samples, channels = cupy.nonzero(is_peak)
    return samples.astype(cupy.int32), channels.astype(cupy.int32), cupy.asarray(traces)[samples, channels]
