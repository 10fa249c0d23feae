"""PEARL's settings: every field with its meaning. presets/pearl_presets.py has their values for every family."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from nacre.errors import NacreError
from nacre.families.family import Family
from nacre.presets import protocols
from nacre.presets.settings import HYPOTHESES
from nacre.presets.soft_actor_critic import SoftActorCriticSettings

ACTING = (
    "latent_dim", "use_next_obs_in_context", "encoder", "use_information_bottleneck", "use_prior_factor",
    "num_exploration_episodes", "exploration", "predict_rewards", "forgetting", "resample", "protocol",
)  # fmt: skip
"""Settings that the agent depends on."""


@dataclass(frozen=True)
class PearlSettings(SoftActorCriticSettings):
    """PEARL's settings. The defaults are the values that the paper's domains share."""

    # Collection, per drawn task and iteration
    num_straight_episodes: int = 0
    """Episodes that repeat one random action, into both buffers. Above 0, the initial collection does so too. Not in
    the paper: straight paths reach farther than random walks, so they find sparse rewards."""
    num_prior_episodes: int = 2
    """Episodes with z from the prior, into both buffers."""
    num_posterior_episodes: int = 0
    """Episodes with z from the posterior, into both buffers."""
    num_extra_rl_episodes: int = 3
    """Episodes with z from the posterior, into the RL buffer only."""
    num_extra_context_episodes: int = 0
    """Episodes with z from the prior, into the context buffer only, before those with z from the posterior. Then the
    first episode of a posterior phase has z from the posterior, too. Not in the paper: without prior episodes, critics
    and policy learn from an agent that acts for its task."""

    # Context
    context: Literal["recent", "recent-in-order", "collected", "collected-windows", "replay", "batch"] = "recent"
    """Transitions that the encoder is trained on. recent, as in the paper: single transitions of the task's latest
    collection. recent-in-order: a stretch of the latest collection in order, from a random transition on.
    collected: single transitions of all collections of the task, without the extra episodes for the critics.
    collected-windows: single transitions from a random stretch of these, as long as the exploration of a trial.
    replay: single transitions of the RL buffer ("off-policy" in the paper's ablation). batch: the critics' batch
    itself ("off-policy RL-batch"). A recurrent encoder reads every context in the order of its collection."""
    context_batch_size: int = 100
    """Transitions per task in a context, drawn with replacement (batch: as many as the critics' batch)."""
    batch_order: Literal["transitions", "trajectories"] = "transitions"
    """Draws the critics' batch as single transitions, or as transitions in the order of their collection."""
    num_relabelled_tasks: int = 0
    """Relabels this many tasks of the meta-batch: batch and context get the rewards of a fresh task of the family's
    distribution, so that the encoder does not overfit to the train tasks. For families that can compute the reward of a
    transition in another task. 0, as in the paper: none."""

    # Inference
    latent_dim: int = 5
    """Dimension of the latent task variable z."""
    encoder_hidden_dim: int = 200
    """Units in a hidden layer of the context encoder."""
    use_next_obs_in_context: bool = False
    """Gives the encoder the next observation too (needed if dynamics differ between tasks)."""
    encoder: Literal["product", "recurrent"] = "product"
    """Network that infers z. product: multiplies one Gaussian factor per transition, in any order. recurrent: runs an
    LSTM over the context in the order of its collection; slower (the paper's ablation)."""
    use_information_bottleneck: bool = True
    """True: draws z from q(z | context), with the KL term. False: z is the mean of the encodings, without KL."""
    use_prior_factor: bool = False
    """Makes N(0, I) a factor of the belief, so that transitions without information leave the belief unchanged and an
    empty context is no special case. False, as in the paper: their effect on the belief depends on their number."""
    kl_weight: float = 0.1
    """Multiplies KL(q(z | c) || N(0, I)) in nats, SUMMED over the tasks of the meta-batch. The Bellman error is a mean,
    as in the reference, so doubling meta_batch doubles the weight of the KL."""
    free_nats: float = 0.0
    """Mean KL of a task, in nats, that costs nothing (Kingma et al. 2016), for small rewards. 0, as in the paper."""

    # Meta-test
    num_exploration_episodes: int = 2
    """Episodes at the start of a trial that explore. The later episodes use the belief."""
    exploration: Literal["prior", "hypotheses"] = "prior"
    """How exploring episodes choose z. prior: from N(0, I), as in the paper. hypotheses: means of the agent's beliefs
    in train tasks, several in an episode. The next is the mean that is farthest from the means already chosen."""
    predict_rewards: bool = False
    """Trains a network to predict the reward of (observation, action, z). In trials that explore by hypotheses, the
    belief is then that of the train task whose predicted rewards have the smallest sum of squared errors, not the
    encoder's. For sparse rewards: the encoder infers little from a few of them. False, as in the paper."""
    forgetting: float = 1.0
    """Multiplies the earlier factors of the belief at every step, before the new factor is added. 1, as in the paper:
    all transitions count equally. Below 1: old transitions count less, for tasks that change."""
    resample: Literal["episode", "step", "mean"] = "episode"
    """When a new z is drawn from the belief. episode: after every episode, as in the paper. step: after every step.
    mean: never; z is the belief's mean, updated at every step."""
    protocol: str = "online-prior"
    """What the agent is given of a task before the scored episode in a test: online-prior, as in the paper, online-np
    or zero-shot. `evaluate` has more (docs/protocols.md)."""

    @property
    def protocols(self) -> tuple[str, ...]:
        return ("online-prior", "online-np", "offline-own-context", "offline-other-context", "zero-shot")

    @property
    def explorations(self) -> tuple[str, ...]:
        return ("prior", HYPOTHESES)

    @property
    def by_rewards(self) -> bool:
        return self.predict_rewards and self.by_hypotheses

    @property
    def episodes_per_draw(self) -> tuple[int, ...]:
        return (
            self.num_straight_episodes,
            self.num_prior_episodes,
            self.num_posterior_episodes,
            self.num_extra_rl_episodes,
            self.num_extra_context_episodes,
        )

    @property
    def num_rl_episodes(self) -> int:
        return super().num_rl_episodes - self.num_extra_context_episodes

    def of_agent(self) -> PearlSettings:
        """The settings that an agent depends on, beside defaults: what acts alike is made of equal settings, so that
        its compiled code serves other trials and other runs too."""
        acting = {name: getattr(self, name) for name in ACTING}
        return PearlSettings(**acting, num_evaluation_episodes=self.num_exploration_episodes + 1)

    def of_collection(self) -> PearlSettings:
        """The settings of the agent that collects: as in Algorithm 1, however the run is tested."""
        as_published: dict[str, Any] = dict(exploration="prior", forgetting=1.0, resample="episode")
        noise = self.action_noise
        return dataclasses.replace(self.of_agent(), protocol="online-prior", action_noise=noise, **as_published)

    @property
    def keeps_all_context(self) -> bool:
        """Whether the context buffer holds all collections of a task, rather than the latest."""
        return self.context in ("collected", "collected-windows")

    @property
    def context_in_order(self) -> bool:
        """Whether a context is a stretch of transitions as they were collected, rather than single transitions."""
        return self.encoder == "recurrent" or self.context == "recent-in-order"

    @property
    def batch_in_order(self) -> bool:
        """Whether the critics' batch is in the order of collection: as set, and where a recurrent encoder reads it."""
        return self.batch_order == "trajectories" or (self.context == "batch" and self.context_in_order)

    @property
    def encoder_inputs(self) -> tuple[str, ...]:
        return ("obs", "action", "reward", *(("next_obs",) if self.use_next_obs_in_context else ()))

    def update_flops(self, obs_dim: int, action_dim: int, task_dim: int = 1) -> int:
        width = self.encoder_hidden_dim
        seen = (obs_dim * (2 if self.use_next_obs_in_context else 1) + action_dim + 1) * width
        encoded = self.latent_dim * (2 if self.use_information_bottleneck else 1)
        upper = (self.num_hidden_layers - 1) * width * width + width * encoded
        if self.encoder == "recurrent":  # an LSTM's four gates, of input and state; its head is for a task, not a row
            upper = (self.num_hidden_layers - 1) * width * width + 8 * width**2
        encoder = 2 * self.meta_batch * self.context_batch_size * (2 * seen + 3 * upper)
        return (
            super().update_flops(obs_dim, action_dim, self.latent_dim)
            + encoder
            + self._rewards_flops(obs_dim + action_dim)
        )

    def _rewards_flops(self, input_dim: int) -> int:
        """Operations of an update of the network that predicts rewards, as in `update_flops`."""
        hidden = self.hidden_dim
        upper = (self.num_hidden_layers - 1) * hidden * hidden + hidden
        of_row = 2 * self.meta_batch * self.batch_size * (2 * input_dim * hidden + 3 * upper)
        return (of_row + 4 * self.meta_batch * self.latent_dim * hidden) * self.predict_rewards

    def context_window(self, family: Family) -> int:
        """Transitions of the stretch that a context's transitions are drawn out of; 0: out of all."""
        if self.context != "collected-windows" or self.context_in_order:
            return 0
        return max(1, self.num_exploration_episodes) * family.horizon

    def check_family(self, family: Family) -> None:
        super().check_family(family)
        if self.num_relabelled_tasks > 0 and not family.can_relabel:
            raise NacreError(
                f"num_relabelled_tasks is {self.num_relabelled_tasks}, but {family.name} does not say what a "
                "transition of one task earns in another; set --num-relabelled-tasks 0, or give the family "
                "rewards_under."
            )
        if protocols.parse(self.protocol).logs is not None:
            raise NacreError(
                f"a run of this method has no logged transitions for protocol {self.protocol}; train with --protocol "
                f"online-prior, then 'nacre evaluate RUN --protocol {self.protocol} --data ID'."
            )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.use_prior_factor and not self.use_information_bottleneck:
            raise NacreError(
                "a point estimate of the task has no prior to be a factor of it; set --no-use-prior-factor, or "
                "--use-information-bottleneck."
            )
        if self.num_relabelled_tasks > self.meta_batch:
            raise NacreError(
                f"num_relabelled_tasks is {self.num_relabelled_tasks}, but an update has {self.meta_batch} tasks "
                "(meta_batch); set --num-relabelled-tasks to that or less."
            )
        for name in ("num_step_returns", "newest_share"):
            if getattr(self, name) != 1 and self.batch_in_order:
                raise NacreError(
                    f"{name} is {getattr(self, name)}, but the critics' batch is in the order of collection; set "
                    f"--{name.replace('_', '-')} 1, or --batch-order transitions and another --context than batch."
                )
        if not 0.0 < self.forgetting <= 1.0:
            raise NacreError(
                f"forgetting is {self.forgetting}, but a belief keeps more than 0 and at most 1 of itself at a step; "
                "change --forgetting."
            )
        if self.forgetting < 1.0 and self.encoder == "recurrent":
            raise NacreError(
                f"forgetting is {self.forgetting}, but a recurrent encoder decides itself what it forgets; leave out "
                "--forgetting."
            )
        if self.num_exploration_episodes >= self.num_evaluation_episodes:
            raise NacreError(
                f"all {self.num_evaluation_episodes} episodes of a trial explore (num_exploration_episodes is "
                f"{self.num_exploration_episodes}), so none uses the belief; set --num-evaluation-episodes higher."
            )
        if self.num_prior_episodes + self.num_straight_episodes + self.num_extra_context_episodes == 0:
            raise NacreError(
                "num_prior_episodes is 0, so the context of a drawn task stays empty; set --num-prior-episodes or "
                "--num-extra-context-episodes above 0."
            )
        if self.num_extra_context_episodes > 0 and self.context in ("replay", "batch"):
            raise NacreError(
                f"context is {self.context}, so the encoder learns from the critics' data and never from the "
                f"{self.num_extra_context_episodes} num_extra_context_episodes; set --num-extra-context-episodes 0, or "
                "another --context."
            )
        if self.num_rl_episodes == 0:
            raise NacreError(
                "all episodes of a collection are for the encoder alone (num_extra_context_episodes); set "
                "--num-extra-rl-episodes above 0."
            )

    def _may_be_zero(self) -> tuple[str, ...]:
        collections = ("straight", "prior", "posterior", "extra_rl", "extra_context")
        exploration = ("kl_weight", "free_nats", "num_exploration_episodes", "num_relabelled_tasks")
        return (*super()._may_be_zero(), *(f"num_{name}_episodes" for name in collections), *exploration)
