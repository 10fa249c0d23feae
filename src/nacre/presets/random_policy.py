"""Settings of the random policy: how it is scored."""

from __future__ import annotations

from dataclasses import dataclass

from nacre.presets.checks import check_numbers
from nacre.presets.pearl_presets import family_rows
from nacre.presets.settings import MethodSettings


@dataclass(frozen=True)
class RandomSettings(MethodSettings):
    """A policy that learns nothing, as the lower baseline of a comparison."""

    iterations: int = 1
    """Number of evaluations."""
    action_scale: float = 1.0
    """Draws the numbers of an action uniformly from [-scale, scale]; at most 1. With 0 the policy does nothing, which
    is a higher baseline for a robot that is rewarded for not falling."""

    def __post_init__(self) -> None:
        check_numbers(self, may_be_zero=("action_scale",), at_most_one=("action_scale",))

    @property
    def uniform_actions(self) -> float | None:
        return self.action_scale

    @property
    def protocols(self) -> tuple[str, ...]:
        """All in which what the agent is given makes no difference to it."""
        return ("online-prior", "offline-own-context", "offline-other-context", "zero-shot")

    @property
    def num_train_steps_per_iteration(self) -> int:
        """An iteration counts as one update, which changes nothing."""
        return 1


PRESETS = {preset: family_rows(preset) for preset in ("paper", "smoke")}
"""preset -> family -> the fields that differ from the defaults."""
