"""Settings of RL2 (Duan et al. 2016, Wang et al. 2016), trained by PPO (Schulman et al. 2017), and its presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nacre.errors import NacreError
from nacre.families.family import Family
from nacre.presets.checks import check_numbers
from nacre.presets.pearl_presets import family_rows
from nacre.presets.settings import MethodSettings


@dataclass(frozen=True)
class Rl2Settings(MethodSettings):
    """RL2's settings. The defaults are those of the public runs made for the PEARL paper, but for `credit`."""

    # Task set
    fresh_tasks: bool = False
    """Draws new tasks from the family in every iteration. False: draws from the train tasks."""

    # Meta-training loop
    iterations: int = 501
    """Meta-iterations of the whole run. `resume --iterations` raises it."""
    tasks_per_iteration: int = 100
    """Tasks drawn (with replacement) in each iteration."""
    trials_per_task: int = 1
    """Trials in every drawn task. They share a baseline and the scale of their advantages, so from 2 on a better trial
    has larger advantages. 1: only steps of the same trial are compared."""
    episodes_per_trial: int = 2
    """Episodes of a trial in meta-training. The hidden state is kept between them."""

    # Network
    cell: Literal["lstm", "gru"] = "lstm"
    """Recurrent cell of the policy."""
    hidden_dim: int = 64
    """Units of the cell."""

    # Objective
    credit: Literal["trial", "episode"] = "trial"
    """Rewards that an action is credited with. trial: of the rest of the trial, as in the paper's text. episode: of the
    same episode only, as in the public code; then an action gets no credit for what it reveals to the next episode."""
    discount: float = 0.99
    """Discount factor gamma."""
    gae_lambda: float = 1.0
    """Lambda of generalised advantage estimation."""
    clip_ratio: float = 0.2
    """Clips the ratio of densities to 1 +- this value."""
    learning_rate: float = 1e-3
    """Adam's learning rate."""
    num_epochs: int = 5
    """Adam steps on the data of each iteration. Each step uses all of the data."""
    backpropagation_steps: int = 32
    """Number of control steps that gradients go back in time."""

    # Meta-test
    sample_in_trials: bool = False
    """Samples actions in evaluations, as in training. False: takes the policy's means."""

    def __post_init__(self) -> None:
        check_numbers(self, may_be_zero=("discount", "gae_lambda"), at_most_one=("discount", "gae_lambda"))
        if self.clip_ratio >= 1:
            raise NacreError(f"clip_ratio is {self.clip_ratio}, but must be below 1; change --clip-ratio.")

    @property
    def protocols(self) -> tuple[str, ...]:
        return ("online-prior", "zero-shot")

    @property
    def num_train_steps_per_iteration(self) -> int:
        """Updates in an iteration."""
        return self.num_epochs

    def env_steps(self, family: Family) -> int:
        trials = self.iterations * self.tasks_per_iteration * self.trials_per_task
        return trials * self.episodes_per_trial * family.horizon


_SMOKE: dict[str, object] = dict(iterations=2, tasks_per_iteration=2, hidden_dim=8, num_epochs=2)

PRESETS: dict[str, dict[str, dict[str, object]]] = {
    "paper": family_rows("paper"),
    "smoke": {family: row | _SMOKE for family, row in family_rows("smoke").items()},
}
"""preset -> family -> the fields that differ from the defaults."""
