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
    """False: tasks are drawn from the train tasks. True: every iteration draws new ones from the family."""

    # Meta-training loop
    iterations: int = 501
    """Meta-iterations of the whole run; `resume --iterations` raises it."""
    tasks_per_iteration: int = 100
    """Tasks drawn (with replacement) in each iteration."""
    trials_per_task: int = 1
    """Trials in every drawn task. They share a baseline and the scale of their advantages, so that from 2 on a trial
    that went better than another of its task has the larger advantages. 1: only steps of one trial are compared."""
    episodes_per_trial: int = 2
    """Episodes of a trial in meta-training, one after another with the same hidden state."""

    # Network
    cell: Literal["lstm", "gru"] = "lstm"
    """The recurrent cell."""
    hidden_dim: int = 64
    """Units of the cell."""

    # Objective
    credit: Literal["trial", "episode"] = "trial"
    """What an action is credited with: the rewards of the rest of the trial, as the paper's text wants it, or of its
    own episode, as the public code has it, which gives no credit for what one episode reveals to the next."""
    discount: float = 0.99
    """Discount factor gamma."""
    gae_lambda: float = 1.0
    """Lambda of generalised advantage estimation."""
    clip_ratio: float = 0.2
    """How far from 1 the ratio of densities may pay."""
    learning_rate: float = 1e-3
    """Adam's learning rate."""
    num_epochs: int = 5
    """Adam steps on the data of an iteration, each on all of it."""
    backpropagation_steps: int = 32
    """Control steps through which gradients go back in time."""

    # Meta-test
    sample_in_trials: bool = False
    """Whether actions are sampled in evaluations, as in training, or the policy's means."""

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
