"""Settings of MAML-TRPO (Finn et al. 2017) and ProMP (Rothfuss et al. 2019), and their presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nacre.families.family import Family
from nacre.presets.checks import check_numbers
from nacre.presets.pearl_presets import family_rows
from nacre.presets.settings import MethodSettings


@dataclass(frozen=True)
class GradientSettings(MethodSettings):
    """What both methods share. The defaults are those of the public runs made for the PEARL paper."""

    # Task set
    fresh_tasks: bool = False
    """Draws new tasks from the family in every iteration. False: draws from the train tasks."""

    # Meta-training loop
    iterations: int = 501
    """Meta-iterations of the whole run. `resume --iterations` raises it."""
    tasks_per_iteration: int = 40
    """Tasks drawn (with replacement) in each iteration."""
    rollouts_per_task: int = 20
    """Episodes in each drawn task before adaptation, and again after every inner step."""

    # Adaptation
    num_inner_steps: int = 1
    """Policy-gradient steps that adapt to a task."""
    inner_learning_rate: float = 0.1
    """Learning rate of adaptation."""
    inner_objective: Literal["likelihood_ratio", "log_likelihood"] = "likelihood_ratio"
    """Objective of adaptation: advantages weighted by pi / pi_old, or by log pi. Their gradients are equal, but the
    meta-gradients through them are not (Rothfuss et al. 2019)."""
    first_order: bool = False
    """Treats the inner gradient as a constant in the meta-gradient, which is cheaper but biased."""

    # Policy and advantages
    hidden_dim: int = 64
    """Units in a hidden layer of the policy."""
    num_hidden_layers: int = 2
    """Hidden layers of the policy."""
    discount: float = 0.99
    """Discount factor gamma."""
    gae_lambda: float = 1.0
    """Lambda of generalised advantage estimation."""

    # Meta-test
    num_evaluation_episodes: int = 3
    """Episodes of a trial. The last one is scored. Earlier episodes sample actions, as adaptation needs."""

    def __post_init__(self) -> None:
        check_numbers(self, may_be_zero=self._may_be_zero(), at_most_one=("discount", "gae_lambda"))

    def _may_be_zero(self) -> tuple[str, ...]:
        return ("discount", "gae_lambda")

    @property
    def num_train_steps_per_iteration(self) -> int:
        """Outer updates in an iteration."""
        return 1

    def env_steps(self, family: Family) -> int:
        rounds = self.num_inner_steps + 1
        return self.iterations * self.tasks_per_iteration * self.rollouts_per_task * rounds * family.horizon


@dataclass(frozen=True)
class MamlTrpoSettings(GradientSettings):
    """MAML with a trust-region outer step."""

    max_kl: float = 0.01
    """Largest change of the adapted policies in an iteration, as mean KL divergence in nats."""
    cg_iterations: int = 10
    """Conjugate-gradient iterations for the natural gradient."""
    cg_damping: float = 1e-5
    """Multiple of the identity that is added to the Hessian of the divergence."""


@dataclass(frozen=True)
class PrompSettings(GradientSettings):
    """ProMP: a clipped outer objective and a penalty on how far the policy moves before adaptation."""

    num_outer_steps: int = 5
    """Adam steps on the data of each iteration."""
    learning_rate: float = 1e-3
    """Adam's learning rate."""
    clip_ratio: float = 0.3
    """Clips the ratio of the adapted policies' densities to 1 +- this value."""
    inner_kl_weight: float = 5e-4
    """Weight of KL(pi_old || pi) on the data before adaptation."""
    inner_kl_target: float = 0.01
    """Divergence in nats at which an adaptive `inner_kl_weight` does not change."""
    adaptive_inner_kl: bool = False
    """Halves `inner_kl_weight` if the divergence is below target / 1.5, and doubles it above target * 1.5."""

    def _may_be_zero(self) -> tuple[str, ...]:
        return (*super()._may_be_zero(), "inner_kl_weight")

    @property
    def num_train_steps_per_iteration(self) -> int:
        return self.num_outer_steps


_PAPER = family_rows("paper")
for _family in ("walker-params", "hopper-params"):
    _PAPER[_family] |= {"inner_learning_rate": 0.05}
_PAPER["ant-goal"] |= {"num_inner_steps": 2}
for _family in ("humanoid-dir", "humanoid-gravity"):
    _PAPER[_family] |= {"hidden_dim": 128}

_SMOKE: dict[str, object] = dict(
    iterations=2, tasks_per_iteration=2, rollouts_per_task=2, hidden_dim=16, num_hidden_layers=1
)

PRESETS: dict[str, dict[str, dict[str, object]]] = {
    "paper": _PAPER,
    "smoke": {family: _PAPER[family] | _SMOKE | row for family, row in family_rows("smoke").items()},
}
"""preset -> family -> the fields that differ from the defaults; the same for both methods."""
