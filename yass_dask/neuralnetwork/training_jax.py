"""Training in JAX: losses, Adam, and the loop that stops when held-out examples gain no more.

The only file of the package that needs JAX outside of the kernels. Everything random is drawn by NumPy from a seed, so
that one machine gives the same weights bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from yass_dask.kernels.classify_jax import log_odds
from yass_dask.kernels.denoise_jax import denoised
from yass_dask.kernels.network import Classifier, Denoiser
from yass_dask.neuralnetwork.settings import Report, Settings, Told

FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8
HELD_AT_ONCE = 16_384


def train(kind: str, network: Any, x: np.ndarray, y: np.ndarray, held: tuple[np.ndarray, np.ndarray],
          settings: Settings, told: Told) -> Any:  # fmt: skip
    """Weights with the least loss on the held-out examples.

    Parameters
    ----------
    kind : "classify" (x (n, n_window, n_neighbors), y (n,) 0 or 1) or "denoise" (x and y (n, n_window))
    held : x and y that the weights are not fitted to
    told : called with a Report every `settings.n_report` iterations
    """
    data, kept = _arrays(kind, x, y), _arrays(kind, *held)
    state = (jax.tree.map(jnp.asarray, network), *(jax.tree.map(jnp.zeros_like, network) for _ in range(2)))
    best, best_loss, rate, waited = state[0], np.inf, settings.train_step_size, 0
    for n, batches in enumerate(_batches(len(x), settings), 1):
        first = (n - 1) * settings.n_report
        state, loss = _steps(kind, settings.l2_reg_scale, state, data, batches, jnp.float32(rate), jnp.float32(first))
        held_loss = _mean_loss(kind, state[0], kept)
        told(Report(first + len(batches), float(loss), held_loss))
        if held_loss < best_loss:
            waited = waited if held_loss > best_loss - settings.least_gain * abs(best_loss) else 0
            best, best_loss = state[0], held_loss
        else:
            waited += 1
        if waited >= settings.patience:
            # A smaller step first: only where that does not help either is there nothing more to gain.
            rate, waited = rate * settings.step_fall, 0
            if rate < settings.train_step_size * settings.least_step:
                break
            state = (best, *state[1:])
    return type(network)(*(np.array(layer) for layer in best))


def _batches(n: int, settings: Settings) -> Iterator[np.ndarray]:
    """Rows of the examples of `n_report` iterations at a time, (n_report, n_batch)."""
    draw = np.random.default_rng([settings.seed, 2])
    for first in range(0, settings.n_iter, settings.n_report):
        count = min(settings.n_report, settings.n_iter - first)
        yield draw.integers(0, n, (count, min(settings.n_batch, n))).astype(np.int32)


def _arrays(kind: str, x: np.ndarray, y: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Examples as the kernels take them: channels before time."""
    return jnp.asarray(x.swapaxes(1, 2) if kind == "classify" else x, jnp.float32), jnp.asarray(y, jnp.float32)


def _loss(kind: str, network: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Cross entropy of a classifier; of a denoiser, the mean squared error relative to what is to be taken away.

    Relative, or else it would be learned from a few collisions of large spikes.
    """
    if kind == "classify":
        odds = log_odds(x, network)
        return jnp.mean(jax.nn.softplus(odds) - y * odds)
    error, raw = (jnp.mean((found - y) ** 2, axis=1) for found in (denoised(x, network), x))
    return jnp.mean(error / (1 + raw))


@partial(jax.jit, static_argnums=(0, 1))
def _steps(
    kind: str, l2: float, state: tuple, data: tuple, batches: jax.Array, rate: jax.Array, first: jax.Array
) -> tuple[tuple, jax.Array]:
    """One step of Adam (Kingma and Ba 2015) for each row of `batches`; the state, and the mean loss."""

    def penalised(network: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        loss = _loss(kind, network, x, y)
        return loss + l2 * sum(jnp.sum(layer**2) for layer in network), loss

    def step(carry: tuple, batch: jax.Array) -> tuple[tuple, jax.Array]:
        (network, mean, square), n = carry
        slope, loss = jax.grad(penalised, has_aux=True)(network, data[0][batch], data[1][batch])
        n = n + 1
        mean = jax.tree.map(lambda m, g: FIRST_DECAY * m + (1 - FIRST_DECAY) * g, mean, slope)
        square = jax.tree.map(lambda v, g: SECOND_DECAY * v + (1 - SECOND_DECAY) * g * g, square, slope)
        size = rate * jnp.sqrt(1 - SECOND_DECAY**n) / (1 - FIRST_DECAY**n)
        network = jax.tree.map(lambda w, m, v: w - size * m / (jnp.sqrt(v) + EPSILON), network, mean, square)
        return ((network, mean, square), n), loss

    (state, _), losses = jax.lax.scan(step, (state, first), batches)
    return state, losses.mean()


_loss_of_many = jax.jit(_loss, static_argnums=0)


def _mean_loss(kind: str, network: Classifier | Denoiser, kept: tuple[jax.Array, jax.Array]) -> float:
    total = 0.0
    for start in range(0, len(kept[0]), HELD_AT_ONCE):
        x, y = (part[start : start + HELD_AT_ONCE] for part in kept)
        total += len(x) * float(_loss_of_many(kind, network, x, y))
    return total / len(kept[0])
