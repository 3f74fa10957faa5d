"""The CUDA source of the pursuit."""

SOURCE = """
struct Pursuit {
    float* correlation; int* closed;
    const float* norms; const float* thresholds; const float* precision;
    const int* pair_start; const int* pair_unit; const float* pair_overlap; const float* filters;
    int* row; int* unit; int* shift; float* amplitude; float* gain; int* there;
    float* best; int* best_at; int* dirty; unsigned* counters;
    int n_rows, n_units, n_samples, n_shifts, n_taps, first, stop, refractory, tile, n_tiles, apart;
    float low, high;
};

// All blocks wait here for each other; they all run at the same time. counters[0] counts arrivals.
__device__ void wait_for_all(Pursuit& p) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        unsigned ticket = atomicAdd(p.counters, 1u);
        unsigned goal = (ticket / gridDim.x + 1) * gridDim.x;
        while (atomicAdd(p.counters, 0u) < goal) PAUSE();
        __threadfence();
    }
    __syncthreads();
}

__device__ float gain_of(const Pursuit& p, float c, int unit, float* amplitude) {
    float n = p.norms[unit], k = p.precision[unit];
    float a = fminf(fmaxf((c + k) / (n + k), p.low), p.high);
    *amplitude = a;
    return 2 * a * c - a * a * n - k * (a - 1) * (a - 1);
}

// Gain of a unit at a row, -inf where it is closed, outside or below the threshold.
__device__ float open_gain(const Pursuit& p, int row, int unit) {
    long long at = (long long)unit * p.n_rows + row;
    if (row < p.first || row >= p.stop || p.closed[at] > 0) return -INFINITY;
    float amplitude, gain = gain_of(p, p.correlation[at], unit, &amplitude);
    return gain > p.thresholds[unit] ? gain : -INFINITY;
}

// Subtract (sign -1) or put back (1) the spikes begin to end, which stand apart; close or open their units around them.
__device__ void add(
    Pursuit& p, const int* row, const int* unit, const int* shift, const float* amplitude, const int* there,
    int begin, int end, int sign
) {
    int length = 2 * p.n_samples - 1, reach = p.n_taps / 2, wide = length + 2 * reach;
    for (int i = begin; i < end; i++) {
        if (there && !there[i]) continue;
        int u = unit[i], low = row[i] - wide / 2;
        const float* taps = p.filters + shift[i] * p.n_taps;
        float size = sign * amplitude[i];
        for (int pair = p.pair_start[u] + blockIdx.x; pair < p.pair_start[u + 1]; pair += gridDim.x) {
            const float* overlap = p.pair_overlap + (long long)pair * length;
            float* changed = p.correlation + (long long)p.pair_unit[pair] * p.n_rows;
            for (int j = threadIdx.x; j < wide; j += blockDim.x) {
                if (low + j < 0 || low + j >= p.n_rows) continue;
                float sum = 0;
                for (int m = 0; m < p.n_taps; m++) {
                    int at = j + m - 2 * reach;
                    if (at >= 0 && at < length) sum += taps[m] * overlap[at];
                }
                changed[low + j] += size * sum;
            }
        }
        if (i % gridDim.x != blockIdx.x) continue;
        int from = max(row[i] - p.refractory, 0), to = min(row[i] + p.refractory, p.n_rows - 1);
        for (int r = from + threadIdx.x; r <= to; r += blockDim.x)
            atomicAdd(p.closed + (long long)u * p.n_rows + r, -sign);
        int around = max(wide / 2, p.refractory);
        int last = min(row[i] + around, p.n_rows - 1) / p.tile;
        for (int t = max(row[i] - around, 0) / p.tile + threadIdx.x; t <= last; t += blockDim.x) p.dirty[t] = 1;
    }
}

// The best spike of each tile that has changed: the largest gain, of equal ones the earlier row, then the lower unit.
__device__ void look(Pursuit& p) {
    SHARED(float, gains, 1024);
    SHARED(int, places, 1024);
    for (int t = blockIdx.x; t < p.n_tiles; t += gridDim.x) {
        if (!p.dirty[t]) continue;
        float best = -INFINITY;
        int at = 0, start = t * p.tile, n = min(p.tile, p.n_rows - start);
        for (int k = threadIdx.x; k < n * p.n_units; k += blockDim.x) {
            int unit = k / n, row = start + k % n, place = (row - start) * p.n_units + unit;
            float gain = open_gain(p, row, unit);
            if (gain > best || (gain == best && place < at)) { best = gain; at = place; }
        }
        gains[threadIdx.x] = best;
        places[threadIdx.x] = at;
        for (int half = blockDim.x / 2; half > 0; half /= 2) {
            __syncthreads();
            int other = threadIdx.x + half;
            if (threadIdx.x < half && (gains[other] > gains[threadIdx.x] || (
                gains[other] == gains[threadIdx.x] && places[other] < places[threadIdx.x]))) {
                gains[threadIdx.x] = gains[other];
                places[threadIdx.x] = places[other];
            }
        }
        __syncthreads();
        if (threadIdx.x == 0) { p.best[t] = gains[0]; p.best_at[t] = places[0]; p.dirty[t] = 0; }
        __syncthreads();
    }
}

// Shift, amplitude and gain of spike i: the top of a parabola through three rows of the correlation.
__device__ void fit(Pursuit& p, int i, int row, int unit) {
    const float* c = p.correlation + (long long)unit * p.n_rows + row;
    int steps = p.n_shifts - 1, index = 0;
    float top = c[0];
    if (row > 0 && row < p.n_rows - 1) {
        float bend = c[-1] - 2 * c[0] + c[1];
        if (bend < 0) {
            float offset = fminf(fmaxf(0.5f * (c[-1] - c[1]) / bend, -0.5f), 0.5f);
            index = (int)floorf(offset * steps + 0.5f);
            float at = (float)index / steps;
            top = c[0] + 0.5f * (c[1] - c[-1]) * at + 0.5f * bend * at * at;
        }
    }
    p.row[i] = row; p.unit[i] = unit; p.shift[i] = index + steps / 2; p.there[i] = 1;
    p.gain[i] = gain_of(p, top, unit, p.amplitude + i);
}

// Accept the best spike of every tile within reach of which there is no better one. counters[1] counts spikes.
__device__ void accept(Pursuit& p) {
    for (int t = blockIdx.x * blockDim.x + threadIdx.x; t < p.n_tiles; t += gridDim.x * blockDim.x) {
        float best = p.best[t];
        bool wins = best > -INFINITY;
        for (int d = 1; d <= p.apart && wins; d++)
            wins = (t - d < 0 || best > p.best[t - d]) && (t + d >= p.n_tiles || best >= p.best[t + d]);
        if (wins) {
            int i = atomicAdd(p.counters + 1, 1u), place = p.best_at[t];
            fit(p, i, t * p.tile + place / p.n_units, place % p.n_units);
        }
    }
}

// Rounds until no gain reaches its threshold; rounds[r] is the first spike of round r.
__device__ int greedy(Pursuit& p, int* rounds, int n_rounds) {
    while (true) {
        look(p);
        wait_for_all(p);
        accept(p);
        wait_for_all(p);
        int begin = rounds[n_rounds], end = p.counters[1];
        if (begin == end) return n_rounds;
        n_rounds++;
        if (blockIdx.x == 0 && threadIdx.x == 0) rounds[n_rounds] = end;
        add(p, p.row, p.unit, p.shift, p.amplitude, p.there, begin, end, -1);
        wait_for_all(p);
    }
}

// Spikes of a round that were put back: fitted again within one row of where they were, or dropped.
__device__ void refit(Pursuit& p, int begin, int end) {
    for (int i = begin + blockIdx.x * blockDim.x + threadIdx.x; i < end; i += gridDim.x * blockDim.x) {
        if (!p.there[i]) continue;
        int unit = p.unit[i], best = -1;
        float most = -INFINITY;
        for (int row = max(p.row[i] - 1, 0); row <= min(p.row[i] + 1, p.n_rows - 1); row++) {
            float gain = open_gain(p, row, unit);
            if (gain > most) { most = gain; best = row; }
        }
        if (best < 0) p.there[i] = 0;
        else fit(p, i, best, unit);
    }
}

extern "C" __global__ void pursue(
    float* correlation, int* closed, const float* norms, const float* thresholds, const float* precision,
    const int* pair_start, const int* pair_unit, const float* pair_overlap, const float* filters,
    const int* given_row, const int* given_unit, const int* given_shift, const float* given_amplitude,
    int* row, int* unit, int* shift, float* amplitude, float* gain, int* there, int* rounds,
    float* best, int* best_at, int* dirty, unsigned* counters,
    int n_rows, int n_units, int n_samples, int n_shifts, int n_taps, int n_given, int first, int stop, int refractory,
    int tile, int n_tiles, int apart, int n_sweeps, float low, float high
) {
    Pursuit p = {
        correlation, closed, norms, thresholds, precision, pair_start, pair_unit, pair_overlap, filters,
        row, unit, shift, amplitude, gain, there, best, best_at, dirty, counters,
        n_rows, n_units, n_samples, n_shifts, n_taps, first, stop, refractory, tile, n_tiles, apart, low, high
    };
    for (int i = 0; i < n_given; i++) {  // one after the other: they may overlap
        add(p, given_row, given_unit, given_shift, given_amplitude, nullptr, i, i + 1, -1);
        wait_for_all(p);
    }
    int n_rounds = greedy(p, rounds, 0);
    for (int sweep = 0; sweep < n_sweeps; sweep++) {
        for (int r = 0; r < n_rounds; r++) {
            int begin = rounds[r], end = rounds[r + 1];
            add(p, row, unit, shift, amplitude, there, begin, end, 1);
            wait_for_all(p);
            refit(p, begin, end);
            wait_for_all(p);
            add(p, row, unit, shift, amplitude, there, begin, end, -1);
            wait_for_all(p);
        }
        n_rounds = greedy(p, rounds, n_rounds);
    }
}
"""
