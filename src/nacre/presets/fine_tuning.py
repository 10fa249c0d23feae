"""Settings of online fine-tuning: how a run continues to learn in one task after adaptation."""

from __future__ import annotations

from dataclasses import dataclass

from nacre.presets.checks import check_numbers


@dataclass(frozen=True)
class FineTuneSettings:
    """Online fine-tuning. The defaults are those of MACAW's released code."""

    rounds: int = 500
    """Rounds of episodes and updates in every task."""
    episodes_per_round: int = 3
    """Deterministic episodes of a round. Their mean return is reported, and nothing is learnt from them. Updates learn
    from one more episode of the round, with the policy's noise."""
    rounds_before_updates: int = 25
    """Rounds at the beginning that only collect episodes, without updates."""
    value_updates_per_round: int = 100
    """Updates of the value network in a round, before the updates of the policy."""
    policy_updates_per_round: int = 200
    """Updates of the policy in a round."""
    learning_rate: float = 1e-5
    """Adam's learning rate of both networks."""
    batch_size: int = 256
    """Transitions of a task in an update."""

    def __post_init__(self) -> None:
        may_be_zero = (
            "rounds_before_updates", "value_updates_per_round", "policy_updates_per_round", "learning_rate"
        )  # fmt: skip
        check_numbers(self, may_be_zero=may_be_zero)
