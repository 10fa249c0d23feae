"""Settings of MAESN (Gupta et al. 2018), and its presets."""

from __future__ import annotations

from dataclasses import dataclass

from nacre.errors import NacreError
from nacre.families.family import Family
from nacre.presets.checks import check_numbers
from nacre.presets.pearl_presets import family_rows
from nacre.presets.settings import MethodSettings


@dataclass(frozen=True)
class MaesnSettings(MethodSettings):
    """MAESN's settings. The defaults are the paper's for sparse navigation."""

    num_train_tasks: int = 100
    """Tasks to meta-train on. Each has a separate latent distribution."""

    # Meta-training loop
    iterations: int = 500
    """Meta-iterations of the whole run. `resume --iterations` raises it."""
    tasks_per_iteration: int = 20
    """Train tasks drawn (with replacement) in each iteration."""
    rollouts_per_task: int = 20
    """Episodes in each drawn task before adaptation, and again after it."""

    # Latent space and adaptation
    latent_dim: int = 2
    """Dimension of the latent variable z, which is drawn once per episode."""
    inner_learning_rate: float = 1.0
    """Initial learning rate of adaptation. One rate is learnt for each latent mean and log deviation."""
    kl_weight: float = 0.1
    """Weight of KL(N(mu_i, sigma_i) || N(0, I)) of the tasks' latent distributions before adaptation."""

    # Policy and advantages
    hidden_dim: int = 100
    """Units in a hidden layer of the policy."""
    num_hidden_layers: int = 2
    """Hidden layers of the policy."""
    discount: float = 0.99
    """Discount factor gamma."""
    gae_lambda: float = 1.0
    """Lambda of generalised advantage estimation."""

    # Outer step
    max_kl: float = 0.01
    """Largest change of the adapted policies in an iteration, as mean KL divergence in nats."""
    cg_iterations: int = 10
    """Conjugate-gradient iterations for the natural gradient."""
    cg_damping: float = 1e-5
    """Multiple of the identity that is added to the Hessian of the divergence."""

    # Meta-test
    num_adaptation_steps: int = 1
    """Gradient steps of adaptation after each episode of a trial. They start at N(0, I), and each uses all episodes so
    far. Training takes one step."""
    num_evaluation_episodes: int = 3
    """Episodes of a trial. The last one is scored. Earlier episodes sample actions."""

    def __post_init__(self) -> None:
        check_numbers(self, may_be_zero=("discount", "gae_lambda", "kl_weight"), at_most_one=("discount", "gae_lambda"))
        if self.rollouts_per_task < 2:
            raise NacreError(
                "rollouts_per_task is 1, but adaptation compares episodes; set --rollouts-per-task to 2 or more."
            )

    @property
    def num_train_steps_per_iteration(self) -> int:
        """Outer updates in an iteration."""
        return 1

    def env_steps(self, family: Family) -> int:
        return self.iterations * self.tasks_per_iteration * self.rollouts_per_task * 2 * family.horizon


_SMOKE: dict[str, object] = dict(
    iterations=2, tasks_per_iteration=2, rollouts_per_task=2, hidden_dim=8, num_hidden_layers=1
)

PRESETS: dict[str, dict[str, dict[str, object]]] = {
    "paper": family_rows("paper"),
    "smoke": {family: row | _SMOKE for family, row in family_rows("smoke").items()},
}
"""preset -> family -> the fields that differ from the defaults."""
