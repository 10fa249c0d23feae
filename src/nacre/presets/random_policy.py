"""Settings of the random policy: how it is scored."""

from __future__ import annotations

from dataclasses import dataclass

from nacre.presets.checks import check_numbers
from nacre.presets.pearl import family_rows


@dataclass(frozen=True)
class RandomConfig:
    """A policy that learns nothing, for the lower line of a plot."""

    num_train_tasks: int = 100
    """Tasks that other methods meta-train on."""
    num_test_tasks: int = 30
    """Held-out tasks that score the run."""
    iterations: int = 1
    """How often it is scored."""
    num_evaluation_episodes: int = 3
    """Episodes of a trial; the last one is scored."""
    num_evaluation_repeats: int = 1
    """Independent trials per task in an evaluation."""
    action_scale: float = 1.0
    """Numbers of an action are uniform within this, at most 1, of 0. At 0 it does nothing, which for a robot that is
    paid for not falling is a higher line."""

    def __post_init__(self) -> None:
        check_numbers(self, may_be_zero=("action_scale",), at_most_one=("action_scale",))

    @property
    def num_train_steps_per_iteration(self) -> int:
        """An iteration counts as one update, which changes nothing."""
        return 1


PRESETS = {preset: family_rows(preset) for preset in ("paper", "smoke")}
"""preset -> family -> the fields that differ from the defaults."""
