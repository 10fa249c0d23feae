"""Settings of MACAW's baselines: behaviour cloning, and one policy for all train tasks that is fine-tuned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nacre.errors import NacreError
from nacre.families.family import Family
from nacre.presets.macaw import FAST, SMOKE, SMOKE_TRANSFORM, AdaptingSettings, TransformSettings
from nacre.presets.offline import rows
from nacre.presets.settings import Presets


@dataclass(frozen=True)
class BcSettings(TransformSettings):
    """Behaviour cloning: the likelihood of logged actions, before and after adaptation."""

    meta: bool = True
    """Meta-learns parameters that adapt to the behaviour of a task. False: clones all train tasks together, and
    training does not adapt."""

    @property
    def usual_steps(self) -> int:
        return self.num_inner_steps if self.meta else 0

    def update_flops(self, obs_dim: int, action_dim: int, task_dim: int = 1) -> int:
        passes = self.num_passes(self.num_inner_steps if self.meta else 0)
        return 2 * self.meta_batch * passes * self.num_weights(obs_dim, action_dim)


@dataclass(frozen=True)
class MultitaskSettings(AdaptingSettings):
    """Advantage-weighted regression on all train tasks, told the number of the task; on a new task it is told none and
    is fine-tuned."""

    # Networks
    learning_rate: float = 3e-4
    """Adam's learning rate for the policy."""
    value_learning_rate: float = 3e-4
    """Adam's learning rate for the value network."""

    # Losses
    temperature: float = 1.0
    """T in the weight exp(A / T) of an action with advantage A. With `normalise_advantages`, A is in standard
    deviations."""
    normalise_advantages: bool = True
    """Scales the advantages of a task's batch to mean 0 and standard deviation 1 before they become weights."""
    max_weight: float = 20.0
    """Largest weight of an action."""
    bootstrap: Literal["masked", "none", "unmasked"] = "masked"
    """Value that is added after the last step of an episode, in advantages and in the value loss. masked: V of the last
    observation, unless the task terminated there. none: 0. unmasked: always V."""

    # Meta-test
    protocol: str = "gradient-steps:20"
    """What the agent is given of a task before the scored episode in a test (docs/protocols.md)."""

    @property
    def usual_steps(self) -> int:
        return 20

    def update_flops(self, obs_dim: int, action_dim: int, task_dim: int = 1) -> int:
        in_dim = obs_dim + self.num_train_tasks
        weights = self.num_weights(in_dim, 1) + self.num_weights(in_dim, action_dim)
        return 2 * self.meta_batch * 3 * self.batch_size * weights

    def check_family(self, family: Family) -> None:
        super().check_family(family)
        if self.num_train_tasks == 0:
            raise NacreError(
                "multitask-awr is told the number of the train task, so it must know how many there are; "
                "set --num-train-tasks to the data set's number."
            )


PRESETS: dict[str, Presets] = {
    "bc": {"paper": rows(), "fast": rows(**FAST), "smoke": rows(**SMOKE_TRANSFORM)},
    "multitask-awr": {"paper": rows(), "fast": rows(iterations=10), "smoke": rows(**SMOKE)},
}
"""method -> preset -> family ("*": any) -> the fields that differ from the defaults."""
