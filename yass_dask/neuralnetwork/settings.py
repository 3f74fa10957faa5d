"""How a network is trained, and what training reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """How a network is trained. The first four have YASS's names and defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_iter: int = Field(50_000, ge=1)
    """Most iterations; training stops before, when held-out examples gain no more."""
    n_batch: int = Field(512, ge=1)
    """Examples of an iteration."""
    l2_reg_scale: float = Field(5e-8, ge=0)
    """Weight of the squared weights in the loss."""
    train_step_size: float = Field(1e-3, gt=0)
    """Adam's step size at the beginning."""
    n_report: int = Field(250, ge=1)
    """The loss on held-out examples is looked at after so many iterations each."""
    patience: int = Field(3, ge=1)
    """Looks without a gain after which the step becomes smaller ..."""
    step_fall: float = Field(0.3, gt=0, lt=1)
    """... by this factor ..."""
    least_step: float = Field(0.05, gt=0, lt=1)
    """... and training stops when it would be below this share of the first one."""
    least_gain: float = Field(2e-3, ge=0, lt=1)
    """Share of the loss that counts as a gain."""
    seed: int = Field(0, ge=0)
    """Decides the first weights, the split of the examples and their order."""


class Report(NamedTuple):
    """The state of a training."""

    n_iter: int
    loss: float
    held_loss: float


Told = Callable[[Report], None]
