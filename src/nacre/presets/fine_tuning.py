"""Settings of online fine-tuning: how a run goes on learning in one task after it has adapted to logged transitions."""

from __future__ import annotations

from dataclasses import dataclass

from nacre.presets.checks import check_numbers


@dataclass(frozen=True)
class FineTuneSettings:
    """Online fine-tuning. The defaults are those of MACAW's released code."""

    rounds: int = 500
    """Rounds of episodes and updates in every task."""
    episodes_per_round: int = 3
    """Deterministic episodes of a round, whose mean return is told; nothing is learnt from them. One more episode, with
    the policy's noise, is what updates learn from."""
    rounds_before_updates: int = 25
    """First rounds, which collect and do not update."""
    value_updates_per_round: int = 100
    """Updates of the value network in a round, before those of the policy."""
    policy_updates_per_round: int = 200
    """Updates of the policy in a round."""
    learning_rate: float = 1e-5
    """Adam's learning rate of both networks."""
    batch_size: int = 256
    """Transitions in an update of a task."""

    def __post_init__(self) -> None:
        may_be_zero = (
            "rounds_before_updates", "value_updates_per_round", "policy_updates_per_round", "learning_rate"
        )  # fmt: skip
        check_numbers(self, may_be_zero=may_be_zero)
