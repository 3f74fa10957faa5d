"""Which spikes a unit keeps, read from the log-odds of pursuit: own spikes, noise, and both together."""

from __future__ import annotations

import numpy as np
import pytest

from yass_dask.likely import FEW, Fits, fit_units

THRESHOLD, N_SAMPLES = 6.0, 2_400_000


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def own_spikes(level: float, n: int, seed: int = 0) -> np.ndarray:
    """Log-odds of n spikes of a template so far from nothing; pursuit accepts those above the threshold."""
    mean = 0.5 * level**2
    return mean + level * rng(seed).normal(size=n)


def noise(n: int, seed: int = 1, rate: float = 0.75) -> np.ndarray:
    return THRESHOLD + rng(seed).exponential(1 / rate, n)


def fit(log_odds: np.ndarray, level: float, *, spread: bool = False) -> tuple[Fits, np.ndarray]:
    accepted = log_odds[log_odds >= THRESHOLD].astype(np.float32)
    fields = {"unit_index": np.zeros(len(accepted), np.int32), "log_odds": accepted}
    return fit_units(fields, np.array([level]), THRESHOLD, N_SAMPLES, np.array([spread])), accepted


@pytest.mark.parametrize(
    ("level", "n_own", "n_noise"), [(4.5, 1000, 500), (5.0, 400, 300), (6.0, 150, 300), (8, 50, 50)]
)
def test_the_expected_accuracy_is_what_comes_out(level, n_own, n_noise):
    own, other = own_spikes(level, n_own), noise(n_noise)
    fits, _ = fit(np.concatenate([own, other]), level)
    hit, wrong = (own >= fits.least[0]).sum(), (other >= fits.least[0]).sum()
    assert fits.accuracy[0] == pytest.approx(hit / (n_own + wrong), abs=0.08)
    # No other threshold would have done much better.
    best = max((own >= x).sum() / (n_own + (other >= x).sum()) for x in np.linspace(THRESHOLD, 20, 100))
    assert hit / (n_own + wrong) > best - 0.03


def test_the_level_may_be_wrong():
    """Small templates come out too large where only their best spikes were averaged."""
    fits, _ = fit(np.concatenate([own_spikes(5.0, 1000), noise(300)]), 5.5)
    assert fits.centre[0] == pytest.approx(5.0**2 / 5.5**2, abs=0.06)


def test_noise_alone_is_not_expected_to_be_right():
    for level in (4.5, 6.0, 9.0):
        fits, _ = fit(noise(1000), level)
        assert fits.accuracy[0] < 0.3 or fits.centre[0] < 0.6


def test_a_large_unit_keeps_its_small_spikes():
    """Those of a burst at 60 % of the size: what is surely likelier than noise is never left out."""
    log_odds = np.concatenate([own_spikes(20, 1000), np.full(100, 40.0)])
    fits, accepted = fit(log_odds, 20)
    assert (accepted >= fits.least[0]).all()
    assert fits.accuracy[0] > 0.99


def test_spikes_that_the_motion_spreads_are_kept():
    """A unit whose size the tissue's motion changes, and no noise: few of its spikes are left out as noise."""
    log_odds = rng(5).uniform(4, 45, 2000)
    steady, accepted = fit(log_odds, 7.0)
    moving, _ = fit(log_odds, 7.0, spread=True)
    left_out = [(accepted < fits.least[0]).mean() for fits in (steady, moving)]
    assert left_out[1] < left_out[0] / 2
    assert (moving.accuracy[0], moving.centre[0]) >= (0.9, 0.7)


@pytest.mark.parametrize("level", [5.0, 6.0])
def test_steady_spikes_lose_little_where_they_might_be_spread(level):
    own, other = own_spikes(level, 1000), noise(300)
    least = [fit(np.concatenate([own, other]), level, spread=spread)[0].least[0] for spread in (False, True)]
    right = [(own >= x).sum() / (len(own) + (other >= x).sum()) for x in least]
    assert right[1] > right[0] - 0.03


def test_few_spikes_are_kept_by_the_prior_odds():
    """Of a unit with so few spikes each must be likelier than noise by what its rate asks for."""
    fits, _ = fit(np.full(FEW - 1, 12.0), 5.0)
    assert fits.least[0] == pytest.approx(np.log(N_SAMPLES / 4 / (FEW - 1)))
    assert fits.accuracy[0] == fits.centre[0] == 1


def test_no_spikes_and_no_units():
    none = {"unit_index": np.zeros(0, np.int32), "log_odds": np.zeros(0, np.float32)}
    assert len(fit_units(none, np.zeros(0), THRESHOLD, N_SAMPLES).least) == 0
    assert fit_units(none, np.array([5.0]), THRESHOLD, N_SAMPLES).least.shape == (1,)
