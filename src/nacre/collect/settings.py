"""Settings of the policies that data sets are made by: soft actor-critic, from scratch in every task."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nacre.errors import NacreError
from nacre.families.family import Family
from nacre.presets.soft_actor_critic import SoftActorCriticSettings


@dataclass(frozen=True)
class SacSettings:
    """How the policy of a task is trained; all tasks alike. As many updates as environment steps, after random ones."""

    num_steps: int = 60_000
    """Environment steps in each task."""
    num_random_steps: int = 1_000
    """The first of them, which take uniformly random actions; no update until they are taken."""
    num_checkpoints: int = 16
    """Checkpoints that are kept, evenly spaced."""
    first_checkpoint: float = 0.0
    """Share of the steps that come before the first one; 0: as many as from one to the next."""
    hidden_dim: int = 128
    """Units in a hidden layer of the policy and of both critics."""
    num_hidden_layers: int = 2
    """Hidden layers of each."""
    batch_size: int = 256
    """Transitions in one update of a task."""
    learning_rate: float = 1e-3
    """Adam's learning rate at the first update."""
    learning_rate_decay: float = 1.0
    """What it is multiplied by at the last update, along a straight line from 1 at the first."""
    discount: float = 0.99
    """Discount factor gamma."""
    soft_target_tau: float = 0.01
    """Share of the critics that their slow copies take over after each update."""
    initial_temperature: float = 0.1
    """What the policy's entropy is worth at first, in rewards; it is learnt, towards an entropy of -action_dim nats."""
    normalise_critics: bool = True
    """Whether the critics' hidden layers are normalised (Ba et al. 2016), which lets them take larger steps."""
    normalise_inputs: bool = True
    """Whether networks see observations and actions with mean 0 and variance 1 over all that the task has collected,
    taken anew in every round."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """What matrix products round their inputs to; bfloat16 takes two thirds of the time on CPUs with AMX."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str):
                continue
            least = 0 if field.name == "first_checkpoint" or isinstance(value, bool) else 1e-9
            if not least <= value < np.inf:
                raise NacreError(f"{field.name} is {value}, but must be above 0; change it.")
        if self.num_random_steps >= self.num_steps:
            raise NacreError(
                f"{self.num_random_steps} of {self.num_steps} steps are random, which leaves none to learn in; raise "
                "--num-steps."
            )
        if self.first_checkpoint >= 1:
            raise NacreError(
                f"first_checkpoint is {self.first_checkpoint}, but must be a share of the steps, below 1; change it."
            )

    def rounds(self, family: Family) -> int:
        """How often every task plays for a horizon's steps, and then learns."""
        return -(-self.num_steps // family.horizon)

    def random_rounds(self, family: Family) -> int:
        """The first of them, whose actions are random."""
        return -(-self.num_random_steps // family.horizon)

    def checkpoint_rounds(self, family: Family) -> list[int]:
        """After how many rounds a checkpoint is kept, rising; the last is the end."""
        first = (self.first_checkpoint or 1 / self.num_checkpoints) * self.num_steps
        steps = np.linspace(first, self.num_steps, self.num_checkpoints) if self.num_checkpoints > 1 else [np.inf]
        rounds = np.ceil(np.asarray(steps) / family.horizon - 1e-9)
        return sorted({int(min(max(r, 1), self.rounds(family))) for r in rounds})

    def learner(self) -> SoftActorCriticSettings:
        """These settings for `learning/soft_actor_critic.py`, without z."""
        return SoftActorCriticSettings(
            iterations=1, num_train_steps_per_iteration=self.num_steps - self.num_random_steps,
            learning_rate_decay=self.learning_rate_decay,
            use_value_network=False, automatic_temperature=True, reward_scale=1.0, meta_batch=1,
            batch_size=self.batch_size, hidden_dim=self.hidden_dim, num_hidden_layers=self.num_hidden_layers,
            learning_rate=self.learning_rate, discount=self.discount, soft_target_tau=self.soft_target_tau,
            normalise_critics=self.normalise_critics, normalise_inputs="all" if self.normalise_inputs else "none",
            precision=self.precision,
        )  # fmt: skip

    def update_flops(self, family: Family) -> int:
        """Operations of the matrix products of one update of one task."""
        return self.learner().update_flops(family.obs_dim, family.action_dim, 0)


_POINT: dict[str, Any] = dict(
    num_steps=5_000, num_random_steps=200, num_checkpoints=14, hidden_dim=64, batch_size=128, discount=0.9,
    soft_target_tau=0.005, normalise_critics=False, normalise_inputs=False,
)  # fmt: skip
DEPARTURES: dict[str, dict[str, Any]] = {
    "point-robot": _POINT,
    "sparse-point-robot": _POINT,
    "point-robot-half-circle": _POINT,
    "point-wind": _POINT,
    "ant-dir": dict(num_steps=100_000),
    "ant-dir-360": dict(num_steps=100_000),
    "ant-goal": dict(num_steps=100_000),
    "walker-params": dict(num_steps=200_000),
    "hopper-params": dict(num_steps=100_000),
}
"""family -> the settings that differ from the defaults."""


def settings_for(family: Family, **changed: Any) -> SacSettings:
    """The settings for a family, with what is changed (None: is not)."""
    given = {name: value for name, value in changed.items() if value is not None}
    return SacSettings(**DEPARTURES.get(family.name, {}) | given)
