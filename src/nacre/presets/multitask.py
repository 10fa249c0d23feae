"""Settings of MACAW's baselines: behaviour cloning, and one policy for all train tasks that is fine-tuned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nacre.errors import NacreError
from nacre.families.family import Family
from nacre.presets.macaw import FAST, SMOKE, SMOKE_TRANSFORM, AdaptingSettings, TransformSettings
from nacre.presets.offline import rows


@dataclass(frozen=True)
class BcSettings(TransformSettings):
    """Behaviour cloning: the likelihood of logged actions, before and after adaptation."""

    meta: bool = True
    """Whether parameters are learnt from which adaptation leads to a task's behaviour. False: the behaviour of all
    train tasks together is cloned, and training does not adapt."""

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
    """Adam's learning rate of the policy."""
    value_learning_rate: float = 3e-4
    """Adam's learning rate of the value network."""

    # Losses
    temperature: float = 1.0
    """T: how much an advantage counts, exp(A / T); with `normalise_advantages`, A in standard deviations."""
    normalise_advantages: bool = True
    """Whether the advantages of a task's batch are brought to mean 0 and standard deviation 1 before they become
    weights."""
    max_weight: float = 20.0
    """Largest weight of an action."""
    bootstrap: Literal["masked", "none", "unmasked"] = "masked"
    """What is expected after the last step of an episode: V of its last observation unless the task terminated there,
    nothing, or V always. It counts in advantages and in the value loss."""

    # Meta-test
    protocol: str = "gradient-steps:20"
    """How the agent meets a task when it is tested: see docs/protocols.md."""

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


PRESETS: dict[str, dict[str, dict[str, dict[str, object]]]] = {
    "bc": {"paper": rows(), "fast": rows(**FAST), "smoke": rows(**SMOKE_TRANSFORM)},
    "multitask-awr": {"paper": rows(), "fast": rows(iterations=10), "smoke": rows(**SMOKE)},
}
"""method -> preset -> family ("*": any) -> the fields that differ from the defaults."""
