"""Settings of offline methods that infer a task variable z from a context of logged transitions, and their presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from nacre.errors import NacreError
from nacre.families.family import Family
from nacre.presets.checks import check_numbers
from nacre.presets.offline import OfflineSettings, of_short_episodes
from nacre.presets.pearl_presets import PRESETS as PRESETS_OF_PEARL
from nacre.presets.settings import ANY_FAMILY, Presets, Row, Rule, row_of


@dataclass(frozen=True)
class OfflineContextSettings(OfflineSettings):
    """What these methods share: the context, the encoder, and the actor-critic that learns given z (`backbone`)."""

    encoder_objective: ClassVar[str] = "critic"
    """Name of what trains the encoder, in `algorithms.offline_context.OBJECTIVES`."""

    # Context
    context_batch_size: int = 128
    """Logged transitions per task in a context of an update, drawn with replacement."""
    task_draw: Literal["replacement", "distinct"] = "replacement"
    """How the tasks of an update are drawn. replacement: a task may appear twice, with two contexts. distinct: every
    task appears at most once; FOCAL's loss then has no attraction between contexts of one task."""

    # Encoder
    latent_dim: int = 5
    """Dimension of the latent task variable z."""
    encoder_hidden_dim: int = 200
    """Units in a hidden layer of the context encoder."""
    num_encoder_hidden_layers: int = 3
    """Hidden layers of the context encoder."""
    use_next_obs_in_context: bool = False
    """Gives the encoder the next observation too (needed if dynamics differ between tasks)."""
    encoder_learning_rate: float = 3e-4
    """Adam's learning rate for the encoder."""

    # Actor and critics
    backbone: Literal["iql", "awac", "brac", "sac"] = "iql"
    """Method that trains policy and critics on the log, given z. iql: implicit Q-learning, which evaluates the critics
    only at logged actions. awac: advantage-weighted actor-critic. brac: soft actor-critic with a penalty on the
    policy's divergence from the log. sac: soft actor-critic without the penalty, which does badly on narrow data."""
    hidden_dim: int = 256
    """Units in a hidden layer of policy, Q, V and BRAC's divergence network."""
    num_hidden_layers: int = 2
    """Hidden layers of policy, Q and V. BRAC's divergence network has one more."""
    learning_rate: float = 3e-4
    """Adam's learning rate for policy, Q and V."""
    soft_target_tau: float = 0.005
    """Moves the slow copies of the critics towards them by this share after each update."""
    normalise_critics: bool = False
    """Normalises the critics' hidden layers (Ba et al. 2016)."""
    normalise_rewards: bool = True
    """Multiplies the critics' rewards by horizon / range, so that weights and temperatures mean the same in all
    families. range is the largest minus the smallest return of a logged episode of a task, averaged over tasks. False:
    rewards are not scaled."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Rounds the inputs of matrix products to float32, tf32 (on NVIDIA GPUs) or bfloat16. Parameters, sums and losses
    stay in float32."""
    expectile: float = 0.8
    """IQL: V estimates this expectile of Q over logged actions. 0.5 is the mean; towards 1 it approaches the
    maximum."""
    inverse_temperature: float = 3.0
    """IQL and AWAC: multiplies the advantage in the exponent of its weight. Towards 0, both methods clone the log."""
    max_weight: float = 100.0
    """IQL: largest weight of a logged action."""
    temperature: float = 0.2
    """SAC and BRAC: weight of the policy's entropy (in nats) relative to the return. It is constant."""
    divergence_weight: float = 10.0
    """BRAC: initial weight of the policy's KL divergence from the behaviour policy."""
    max_divergence_weight: float = 400.0
    """BRAC: largest weight of the policy's KL divergence."""
    divergence_weight_rate: float = 0.2
    """BRAC: raises the weight of the divergence by this much per update for each nat above the target, and lowers it
    for each nat below."""
    divergence_target: float = 0.05
    """BRAC: divergence in nats at which its weight does not change."""
    num_divergence_steps: int = 3
    """BRAC: gradient steps of the divergence network per update."""
    divergence_learning_rate: float = 1e-4
    """BRAC: Adam's learning rate for the divergence network."""
    gradient_penalty: float = 5.0
    """BRAC: weight of the penalty on gradients of the divergence network with a norm above 1."""

    # Meta-test
    num_exploration_episodes: int = 2
    """Episodes of a trial that explore, in protocols with exploration."""
    stochastic_exploration: bool = True
    """Samples actions in exploring episodes instead of taking the policy's mean (online-np always samples)."""

    def __post_init__(self) -> None:
        tasks = ("num_train_tasks", "num_test_tasks")
        may_be_zero = (*tasks, "num_exploration_episodes", "num_context_transitions", *self._may_be_zero())
        at_most_one = ("discount", "soft_target_tau", "expectile")
        check_numbers(self, may_be_zero=may_be_zero, at_most_one=at_most_one)
        if self.expectile == 1:
            raise NacreError("expectile is 1, where V would never fall; set --expectile below 1.")

    def _may_be_zero(self) -> tuple[str, ...]:
        weights = ("divergence_weight", "divergence_weight_rate", "divergence_target", "gradient_penalty")
        return (*weights, "discount", "temperature", "inverse_temperature")

    @property
    def protocols(self) -> tuple[str, ...]:
        return ("offline-own-context", "offline-other-context", "online-prior", "online-np", "zero-shot")

    def update_flops(self, obs_dim: int, action_dim: int, task_dim: int = 1) -> int:
        """Operations of the matrix products of an update, counted as `SoftActorCriticSettings.update_flops` does; z's
        share, one product a task instead of one a transition, is left out, and so is BRAC's second derivative's
        symmetry: its gradient penalty counts as three passes each way."""
        hidden, width, q = self.hidden_dim, self.encoder_hidden_dim, 2
        obs, obs_action, action = obs_dim * hidden, (obs_dim + action_dim) * hidden, action_dim * hidden

        def upper(out_dim: int, num_layers: int = self.num_hidden_layers) -> int:
            return (num_layers - 1) * hidden * hidden + hidden * out_dim

        forward_q, forward_policy = q * (obs_action + upper(1)), obs + upper(2 * action_dim)
        through_q = q * (action + upper(1))  # gradient towards the action
        critic_step, policy_step = q * (2 * obs_action + 3 * upper(1)), 2 * obs + 3 * upper(2 * action_dim)
        sampled_target = forward_policy + forward_q
        c, to_action = obs_action + upper(1, self.num_hidden_layers + 1), action + upper(1, self.num_hidden_layers + 1)
        own = {
            "iql": (obs + upper(1)) + forward_q + (2 * obs + 3 * upper(1)),  # V(s'), slow Q(s, a), V's step
            "awac": sampled_target + 2 * forward_q,  # Q(s, a), Q(s, a_pi)
            "sac": sampled_target + forward_q + through_q,
            "brac": sampled_target + forward_q + through_q + forward_policy + c + to_action
            + self.num_divergence_steps * (2 * 3 * c + 3 * (c + to_action)),
        }[self.backbone]  # fmt: skip
        seen = (obs_dim * (2 if self.use_next_obs_in_context else 1) + action_dim + 1) * width
        encoder = 2 * seen + 3 * ((self.num_encoder_hidden_layers - 1) * width * width + width * self.latent_dim)
        rows = self.meta_batch * self.batch_size
        return 2 * (rows * (critic_step + policy_step + own) + self.meta_batch * self.context_batch_size * encoder)


@dataclass(frozen=True)
class OfflinePearlSettings(OfflineContextSettings):
    """Offline PEARL: the critics' loss trains the encoder, which says one point and has no KL term."""


@dataclass(frozen=True)
class FocalSettings(OfflineContextSettings):
    """FOCAL (Li et al. 2021): a distance metric loss trains the encoder, and nothing else does."""

    encoder_objective: ClassVar[str] = "focal"

    focal_weight: float = 10.0
    """Weight of the distance metric loss."""
    focal_power: float = 2.0
    """Power of the distance in the repulsion of different tasks, 1 / (distance^power + epsilon)."""
    focal_epsilon: float = 0.1
    """Epsilon in 1 / (distance^power + epsilon). A smaller value repels tasks with equal encodings more strongly."""


def _preset(**fields: object) -> dict[str, Rule]:
    """For every family these fields, and what depends on the family: the discount of short episodes and, as PEARL's
    settings say, whether the encoder sees next observations."""

    def of_family(family: type[Family]) -> Row:
        row = row_of(PRESETS_OF_PEARL["paper"], family) or {}
        sees = {name: row[name] for name in ("use_next_obs_in_context",) if name in row}
        return {**of_short_episodes(family), **sees, **fields}

    return {ANY_FAMILY: of_family}


# A seventh of the updates, an eighth of the transitions in each, and narrower networks: minutes instead of hours.
_FAST: dict[str, object] = dict(
    iterations=15, num_train_steps_per_iteration=1000, batch_size=32, hidden_dim=128, encoder_hidden_dim=64,
)  # fmt: skip

# Everything a run does, as small as it can be: for tests. It does not learn.
_SMOKE: dict[str, object] = dict(
    iterations=2, num_train_steps_per_iteration=10, meta_batch=2, batch_size=16, context_batch_size=16, hidden_dim=32,
    encoder_hidden_dim=32, num_hidden_layers=1, num_context_transitions=16,
)  # fmt: skip

PRESETS: Presets = {
    "paper": _preset(),
    "fast": _preset(**_FAST),
    "smoke": _preset(**_SMOKE),
}
"""preset -> family -> the fields that differ from the defaults."""
