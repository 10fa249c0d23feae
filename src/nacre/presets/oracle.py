"""Settings of the oracle, soft actor-critic that is told the task, and its presets."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from nacre.errors import NacreError
from nacre.presets import pearl
from nacre.presets.checks import check_numbers, check_test_tasks
from nacre.presets.pearl import PearlConfig


@dataclass(frozen=True)
class OracleConfig:
    """The oracle's settings: PEARL's that still mean something when the task is known. The defaults are PEARL's."""

    # Task set
    num_train_tasks: int = 100
    """Tasks to train on."""
    num_test_tasks: int = 30
    """Held-out tasks that score the run."""
    test_tasks_from: int = 0
    """As PEARL's."""
    single_task: int = -1
    """Number of a test task to train on alone, which is single-task SAC; -1: the train tasks."""

    # Training loop
    iterations: int = 500
    """Iterations of the whole run; `resume --iterations` raises it."""
    num_initial_steps: int = 2000
    """Environment steps per train task before the first update."""
    num_tasks_sample: int = 5
    """Train tasks drawn (with replacement) for collection in each iteration."""
    num_steps: int = 1000
    """Steps per drawn task."""
    num_train_steps_per_iteration: int = 2000
    """Gradient updates after the collection of each iteration."""
    meta_batch: int = 16
    """Train tasks in one update, drawn with replacement."""
    batch_size: int = 256
    """Transitions per task in one update."""
    replay_capacity: int = 1_000_000
    """Transitions that the buffer of one task keeps."""

    # Networks
    hidden_dim: int = 300
    """Units in a hidden layer of policy, Q and V."""
    num_hidden_layers: int = 3
    """Hidden layers of policy, Q and V."""
    use_value_network: bool = True
    """As PEARL's."""
    num_critics: Literal[1, 2] = 2
    """As PEARL's."""
    normalise_critics: bool = False
    """As PEARL's."""
    normalise_inputs: Literal["none", "all"] = "none"
    """As PEARL's; the task's parameters, in the place of z, are taken as they are."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """As PEARL's."""

    # Objective
    discount: float = 0.99
    """Discount factor gamma."""
    reward_scale: float = 5.0
    """As PEARL's."""
    automatic_temperature: bool = False
    """As PEARL's."""
    learning_rate: float = 3e-4
    """Adam's step size for every network."""
    learning_rate_decay: float = 1.0
    """As PEARL's."""
    soft_target_tau: float = 0.005
    """Share of V that its target takes over after each update."""
    policy_mean_reg_weight: float = 1e-3
    """Weight of the mean squared pre-tanh mean in the actor loss."""
    policy_std_reg_weight: float = 1e-3
    """Weight of the mean squared log standard deviation in the actor loss."""

    # Test
    num_evaluation_episodes: int = 3
    """Episodes of a trial; the last one is scored. All are alike: there is nothing to find out."""
    num_evaluation_repeats: int = 1
    """Independent trials per task in an evaluation."""

    def __post_init__(self) -> None:
        may_be_zero = ("policy_mean_reg_weight", "policy_std_reg_weight", "discount", "test_tasks_from")
        at_most_one = ("discount", "soft_target_tau", "learning_rate_decay")
        check_numbers(self, may_be_zero=may_be_zero, at_most_one=at_most_one, may_be_anything=("single_task",))
        check_test_tasks(self.test_tasks_from, self.num_train_tasks)
        if not -1 <= self.single_task < self.num_test_tasks:
            raise NacreError(
                f"single_task is {self.single_task}, but must be the number of a test task, 0 to "
                f"{self.num_test_tasks - 1}, or -1 for the train tasks; change --single-task."
            )

    def as_pearl(self, task_dim: int) -> PearlConfig:
        """PEARL's settings with these in their place, z being the task."""
        own = {field.name for field in dataclasses.fields(PearlConfig)}
        shared = {name: value for name, value in dataclasses.asdict(self).items() if name in own}
        return PearlConfig(**shared, latent_dim=task_dim, num_steps_prior=self.num_steps, num_exploration_episodes=0)


SHARED = {field.name for field in dataclasses.fields(OracleConfig)}


def _rows(preset: str) -> dict[str, dict[str, object]]:
    """PEARL's row of every family, as far as it concerns the oracle; as many steps an iteration."""
    rows = {}
    for family, row in pearl.PRESETS[preset].items():
        full = dataclasses.asdict(PearlConfig(**row))  # type: ignore[arg-type]
        steps = [full[f"num_{name}"] for name in ("steps_prior", "steps_posterior", "extra_rl_steps_posterior")]
        kept = {name: value for name, value in row.items() if name in SHARED}
        rows[family] = kept | {"num_steps": full["num_steps_straight"] + sum(steps)}
    return rows


PRESETS = {preset: _rows(preset) for preset in pearl.PRESETS}
"""preset -> family -> the fields that differ from the defaults."""
