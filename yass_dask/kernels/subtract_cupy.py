"""Subtract spikes from a block of traces with CuPy."""

import cupy
import numpy as np

from yass_dask.kernels.cuda import THREADS, as_float, as_int, compiled
from yass_dask.kernels.device import FINE

SOURCE = """
extern "C" __global__ void add_spikes(
    int* total, const int* rows, const int* units, const int* shifts, const float* amplitudes,
    const float* waveforms, const int* channels, const float* filters,
    float fine, int n_rows, int n_channels, int n_samples, int n_local, int n_taps, int peak
) {
    int i = blockIdx.x, unit = units[i], reach = n_taps / 2;
    const float* waveform = waveforms + (long long)unit * n_samples * n_local;
    const float* taps = filters + shifts[i] * n_taps;
    int length = n_samples + 2 * reach, start = rows[i] - peak - reach;
    for (int k = threadIdx.x; k < length * n_local; k += blockDim.x) {
        int t = k / n_local, site = k % n_local, row = start + t, channel = channels[unit * n_local + site];
        if (row < 0 || row >= n_rows || channel >= n_channels) continue;
        float sum = 0;
        for (int m = 0; m < n_taps; m++) {
            int at = t + m - 2 * reach;
            if (at >= 0 && at < n_samples) sum += taps[m] * waveform[at * n_local + site];
        }
        atomicAdd(total + (long long)row * n_channels + channel, (int)rintf(fine * amplitudes[i] * sum));
    }
}
"""


def subtract(
    traces: np.ndarray,
    *,
    factor: float,
    rows: np.ndarray,
    units: np.ndarray,
    shifts: np.ndarray,
    amplitudes: np.ndarray,
    waveforms: np.ndarray,
    channels: np.ndarray,
    peak: int,
    filters: np.ndarray,
) -> np.ndarray:
    """See `subtract_numpy`; the result stays on the device."""
    total = cupy.zeros(traces.shape, cupy.int32)
    if traces.size and len(rows):
        spikes = as_int(rows), as_int(units), as_int(shifts), as_float(amplitudes)
        shapes = as_float(waveforms), as_int(channels), as_float(filters)
        integers = (*traces.shape, *waveforms.shape[1:], filters.shape[1], peak)
        arguments = (total, *spikes, *shapes, np.float32(FINE), *map(np.int32, integers))
        compiled(SOURCE, "add_spikes")((len(rows),), (THREADS,), arguments)
    scaled = cupy.asarray(traces).astype(cupy.float32) * np.float32(factor)
    return scaled - total.astype(cupy.float32) * np.float32(1 / FINE)
