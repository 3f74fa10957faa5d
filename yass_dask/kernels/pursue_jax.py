"""Matching pursuit on a block on a GPU: in every round all spikes at once that stand too far apart to meet.

The rows are cut into tiles. A tile's best spike is accepted if none within reach is better, so that the largest gain is
always among those accepted and spikes that overlap are taken in the order of the specification. A spike that stands
apart may be taken before a larger one elsewhere, which changes nothing but the order.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from yass_dask.kernels.bank import Bank, Spikes, no_spikes, sorted_spikes
from yass_dask.kernels.device import EVENTS, Latest, few_lengths, filled

TILE = 64
ROUNDS = 256
"""Room for so many rounds at first; where they do not do, the pursuit is done again with more."""


class _Templates(NamedTuple):
    """The bank on the device; units and pairs filled up with such as are never accepted."""

    norms: Any
    thresholds: Any
    precision: Any
    pairs: Any
    """(n_units, most pairs) index into `overlaps`, the last row of which is zero"""
    pair_unit: Any
    """(n_units, most pairs), n_units for none"""
    overlaps: Any
    """(n_pairs + 1, 2 * n_samples - 1 + 4 * reach): zeros on both sides"""
    filters: Any
    amplitude_low: Any
    amplitude_high: Any


class _Batch(NamedTuple):
    """Spikes that do not change each other, and which of them are there."""

    row: Any
    unit: Any
    shift: Any
    amplitude: Any
    gain: Any
    there: Any


class _State(NamedTuple):
    correlation: Any
    closed: Any
    found: _Batch
    """(rounds, slots)"""
    n_rounds: Any
    ended: Any


def pursue(correlation: np.ndarray, *, bank: Bank, given: Spikes, first: int, stop: int, n_sweeps: int) -> Spikes:
    """See `pursue_numpy`; the spikes come back to the host, their number is not known before."""
    if correlation.size == 0:
        return no_spikes()
    templates = _on_device(bank)
    n_given = few_lengths(len(given.row), EVENTS)
    there = filled(np.ones(len(given.row), bool), n_given)
    row, unit, shift, amplitude, gain = (filled(part, n_given) for part in given)
    standing = _Batch(row, unit, shift, amplitude, gain, there)
    reach = max(templates.overlaps.shape[1], bank.refractory) + 4
    rounds = ROUNDS
    while True:
        found, n_rounds = _pursue(
            jnp.asarray(correlation), templates, standing, len(given.row), first, stop, n_sweeps,
            refractory=bank.refractory, apart=-(-reach // TILE), rounds=rounds,
        )  # fmt: skip
        if n_rounds < rounds:
            break
        rounds *= 4
    there = np.asarray(found.there)
    return sorted_spikes(Spikes(*(np.asarray(part)[there] for part in found[:5])))


def _to_device(bank: Bank) -> _Templates:
    n_units, n_pairs = len(bank.norms), len(bank.pair_unit)
    length, reach = few_lengths(n_units), bank.filters.shape[1] // 2
    counts = np.diff(bank.pair_start)
    most = few_lengths(int(counts.max(initial=0)))
    index = bank.pair_start[:-1, None] + np.arange(most)[None, :]
    pairs = filled(np.where(np.arange(most) < counts[:, None], index, n_pairs), length, n_pairs).astype(np.int32)
    pair_unit = np.append(bank.pair_unit, length)[pairs].astype(np.int32)
    overlap = np.pad(filled(bank.pair_overlap, few_lengths(n_pairs + 1)), ((0, 0), (2 * reach, 2 * reach)))
    arrays = (
        filled(bank.norms, length, 1), filled(bank.thresholds, length, np.inf), filled(bank.precision, length),
        pairs, pair_unit, overlap, bank.filters, np.float32(bank.amplitude_low), np.float32(bank.amplitude_high),
    )  # fmt: skip
    return _Templates(*(jnp.asarray(array) for array in arrays))


_on_device = Latest(_to_device)


@partial(jax.jit, static_argnames=("refractory", "apart", "rounds"))
def _pursue(
    correlation: Any, templates: _Templates, given: _Batch, n_given: Any, first: Any, stop: Any, n_sweeps: Any,
    *, refractory: int, apart: int, rounds: int,
) -> tuple[_Batch, Any]:  # fmt: skip
    n_rows, n_units = len(correlation), len(templates.norms)
    n_tiles = -(-n_rows // TILE)
    room = jnp.zeros((n_tiles * TILE, n_units), jnp.float32)
    pursuit = _Pursuit(templates, n_rows, first, stop, refractory, apart)
    slots = (rounds, -(-n_tiles // (apart + 1)))
    none = _Batch(*(jnp.zeros(slots, kind) for kind in ("int32", "int32", "int32", "float32", "float32", "bool")))
    state = _State(room.at[:n_rows, : correlation.shape[1]].set(correlation), jnp.zeros(room.shape, jnp.int16),
                   none, jnp.int32(0), jnp.bool_(False))  # fmt: skip
    # One after the other: they may overlap.
    state = jax.lax.fori_loop(0, n_given, lambda i, s: pursuit.stand(s, given, i), state)

    def sweep(_: Any, state: _State) -> _State:
        return pursuit.greedy(jax.lax.fori_loop(0, state.n_rounds, pursuit.refit, state))

    state = jax.lax.fori_loop(0, n_sweeps + 1, sweep, state)  # before the first there is nothing to fit again
    return state.found, state.n_rounds


class _Pursuit(NamedTuple):
    """What stays the same while spikes are subtracted."""

    templates: _Templates
    n_rows: int
    first: Any
    stop: Any
    refractory: int
    apart: int
    """Tiles between two spikes of a round, at least"""

    def stand(self, state: _State, given: _Batch, i: Any) -> _State:
        """Subtract a given spike and close its unit around it."""
        one = _Batch(*(jax.lax.dynamic_slice_in_dim(part, i, 1) for part in given))
        return self.add(state, one, -1)

    def greedy(self, state: _State) -> _State:
        """Rounds until no gain reaches its threshold."""
        rounds = len(state.found.row)
        state = state._replace(ended=jnp.bool_(False))
        return jax.lax.while_loop(lambda s: ~s.ended & (s.n_rounds < rounds), self.round, state)

    def round(self, state: _State) -> _State:
        """Accept the best spikes that stand apart, and subtract them."""
        n_units, n_tiles = len(self.templates.norms), len(state.correlation) // TILE
        gain = self.gains(state, slice(None), jnp.arange(len(state.correlation))[:, None])
        gain = jnp.where(gain > self.templates.thresholds, gain, -jnp.inf).reshape(n_tiles, TILE * n_units)
        at, best = gain.argmax(axis=1), gain.max(axis=1)
        accepted = best > -jnp.inf
        for d in range(1, self.apart + 1):
            accepted &= (best > _moved(best, d)) & (best >= _moved(best, -d))
        slots = state.found.row.shape[1]
        tile = jnp.nonzero(accepted, size=slots, fill_value=n_tiles)[0]
        there, tile = tile < n_tiles, jnp.minimum(tile, n_tiles - 1)
        row, unit = tile * TILE + at[tile] // n_units, at[tile] % n_units
        batch = self.fitted(state, row, unit, there)
        any_there = there.any()
        found = _Batch(*(
            old.at[state.n_rounds].set(new) for old, new in zip(state.found, batch, strict=True)
        ))  # fmt: skip
        state = state._replace(found=found, n_rounds=state.n_rounds + any_there, ended=~any_there)
        return self.add(state, batch, -1)

    def refit(self, i: Any, state: _State) -> _State:
        """Put the spikes of a round back and fit them again within one row of where they were."""
        batch = _Batch(*(part[i] for part in state.found))
        state = self.add(state, batch, 1)
        rows = jnp.clip(batch.row[:, None] + jnp.arange(-1, 2)[None, :], 0, self.n_rows - 1)
        gain = self.gains(state, batch.unit[:, None], rows)
        best = gain.argmax(axis=1)[:, None]
        kept = jnp.take_along_axis(gain, best, 1)[:, 0] > self.templates.thresholds[batch.unit]
        row = jnp.take_along_axis(rows, best, 1)[:, 0]
        batch = self.fitted(state, row, batch.unit, batch.there & kept)
        found = _Batch(*(old.at[i].set(new) for old, new in zip(state.found, batch, strict=True)))
        return self.add(state._replace(found=found), batch, -1)

    def gains(self, state: _State, unit: Any, rows: Any) -> Any:
        """Gains of units at rows, -inf where closed or outside."""
        at = (rows, unit) if not isinstance(unit, slice) else (slice(None), unit)
        gain, _ = self.gain(state.correlation[at], unit)
        shut = (state.closed[at] > 0) | (rows < self.first) | (rows >= jnp.minimum(self.stop, self.n_rows))
        return jnp.where(shut, -jnp.inf, gain)

    def gain(self, c: Any, unit: Any) -> tuple[Any, Any]:
        """Gain and amplitude of correlations of units."""
        t = self.templates
        n, k = t.norms[unit], t.precision[unit]
        amplitude = jnp.clip((c + k) / (n + k), t.amplitude_low, t.amplitude_high)
        return 2 * amplitude * c - amplitude * amplitude * n - k * (amplitude - 1) ** 2, amplitude

    def fitted(self, state: _State, row: Any, unit: Any, there: Any) -> _Batch:
        """Shift, amplitude and gain of spikes: the top of a parabola through three rows of the correlation."""
        steps = len(self.templates.filters) - 1
        left, middle, right = (
            state.correlation[jnp.clip(row + d, 0, self.n_rows - 1), unit] for d in (-1, 0, 1)
        )  # fmt: skip
        bend = left - 2 * middle + right
        level = (row == 0) | (row == self.n_rows - 1) | (bend >= 0)
        offset = jnp.clip(0.5 * (left - right) / jnp.where(level, -1, bend), -0.5, 0.5)
        index = jnp.where(level, 0, jnp.floor(offset * steps + 0.5))
        at = index / steps
        top = middle + 0.5 * (right - left) * at + 0.5 * bend * at * at
        gain, amplitude = self.gain(jnp.where(level, middle, top), unit)
        shift = index.astype(jnp.int32) + steps // 2
        return _Batch(row.astype(jnp.int32), unit.astype(jnp.int32), shift, amplitude, gain, there)

    def add(self, state: _State, batch: _Batch, sign: int) -> _State:
        """Change all correlations as if the spikes were added to the traces (1) or taken away (-1), and reopen or close
        their units around them.
        """
        t = self.templates
        n_taps = t.filters.shape[1]
        length = t.overlaps.shape[1] - n_taps + 1
        overlap, taps = t.overlaps[t.pairs[batch.unit]], t.filters[batch.shift]

        def moved(m: Any, change: Any) -> Any:
            return change + taps[:, m, None, None] * jax.lax.dynamic_slice_in_dim(overlap, m, length, 2)

        change = jax.lax.fori_loop(0, n_taps, moved, jnp.zeros((*overlap.shape[:2], length), jnp.float32))
        change *= (sign * jnp.where(batch.there, batch.amplitude, 0))[:, None, None]
        rows = self.inside(batch.row[:, None] + jnp.arange(length) - length // 2)
        correlation = state.correlation.at[rows[:, None, :], t.pair_unit[batch.unit][:, :, None]].add(
            change, mode="drop"
        )
        around = self.inside(batch.row[:, None] + jnp.arange(-self.refractory, self.refractory + 1))
        closing = (-sign * batch.there).astype(jnp.int16)[:, None]
        closed = state.closed.at[around, batch.unit[:, None]].add(closing, mode="drop")
        return state._replace(correlation=correlation, closed=closed)

    def inside(self, rows: Any) -> Any:
        """Rows of the block as they are; those outside so far away that they are dropped."""
        return jnp.where((rows >= 0) & (rows < self.n_rows), rows, np.iinfo(np.int32).max)


def _moved(best: Any, d: int) -> Any:
    """The value `d` tiles before each; -inf beyond the ends."""
    beyond = jnp.full(min(abs(d), len(best)), -jnp.inf)
    return jnp.concatenate([beyond, best[: len(best) - len(beyond)]]) if d > 0 else jnp.concatenate(
        [best[len(beyond) :], beyond]
    )  # fmt: skip
